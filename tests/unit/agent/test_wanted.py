import msgspec
import pytest

from switchboard.agent.wanted import Wanted, accept, address_list, configuration, state
from switchboard.errors import MessageError, StaleTermError
from switchboard.link.messages import Command, Configure, Drain, Peer, Role, Settings, Table, Tick
from switchboard.pool.spec import (
    Assignment,
    Authentication,
    Capacity,
    ClientMode,
    Gateway,
    Media,
    Route,
    Sharing,
    Urgent,
)
from switchboard.pool.table import Row

SETTINGS = Settings(
    threshold=0.8,
    capacity=Capacity(calls=500),
    sharing=Sharing(),
    assignment=Assignment(policy="least", mode="redirect", max_hops=4, saturated_status=480),
    media=Media(),
    client_networks=("198.51.100.0/24", "2001:db8::/64"),
    client_origins=("https://phone.example.com",),
    client_modes=(ClientMode(mode="forward", user_agents=("desk",)),),
    gateways=(
        Gateway(name="pstn-1", kind="pstn", networks=("203.0.113.0/28", "203.0.113.64/32"), mode="redirect"),
        Gateway(name="office", kind="voip", networks=("192.0.2.7/32",)),
    ),
    routes=(Route(name="pbx", prefix="", targets=("sip:192.0.2.1:5060", "sip:192.0.2.2:5060")),),
    urgent=Urgent(numbers=("112",), priorities=("esnet",)),
    aliases=("edge.voice.svc", "192.0.2.100"),
)
PEERS = (Peer(name="edge-b", address="198.18.0.2"),)


def row(name: str, room: int = 10) -> Row:
    return Row(f"{name}~00000001", f"sip:{name}:5060", f"{name}:5060", room, 0, 0, 20)


TWO = (row("a"), row("b"))


@pytest.mark.parametrize(
    "command",
    [
        Configure(id=1, term=2, settings=SETTINGS, peers=PEERS),
        Table(id=1, pool="edge", version=(2, 9), rows=TWO),
        Tick(id=1, term=2, tick=9),
        Role(id=1, term=2, role="primary"),
        Drain(id=1, term=2, draining=True),
    ],
)
def test_a_lower_term_commands_nothing(command: Command) -> None:
    """Whoever no longer holds the Lease is refused, whatever it sends, and told why."""
    with pytest.raises(StaleTermError, match="term 2 is over, 3 has begun"):
        accept(Wanted(term=3), command, 0.0)
    assert accept(Wanted(term=2), command, 0.0).term == 2
    assert accept(Wanted(term=1), command, 0.0).term == 2


def test_a_whole_table_replaces_the_one_before() -> None:
    """A table without a base is all there is."""
    wanted = accept(Wanted(version=(1, 4), rows=TWO), Table(id=1, pool="p", version=(1, 5), rows=(row("c"),)), 0.0)
    assert (wanted.version, wanted.rows) == ((1, 5), (row("c"),))


def test_changed_rows_keep_their_places() -> None:
    """A table with a base changes the rows it has, and neither the others nor the order."""
    wanted = Wanted(version=(1, 4), rows=TWO)
    changes = Table(id=1, pool="p", version=(1, 5), base=(1, 4), rows=(row("b", 3),))
    assert accept(wanted, changes, 0.0).rows == (row("a"), row("b", 3))


@pytest.mark.parametrize(
    ("table", "error", "says"),
    [
        (Table(id=1, pool="p", version=(1, 3), rows=()), StaleTermError, "older than"),
        (Table(id=1, pool="p", version=(1, 6), base=(1, 3), rows=()), MessageError, "send the whole table"),
        (
            Table(id=1, pool="p", version=(1, 6), base=(1, 4), rows=(row("z"),)),
            MessageError,
            "row z~00000001 is not in",
        ),
    ],
)
def test_tables_that_do_not_fit(table: Table, error: type[Exception], says: str) -> None:
    """An older table, and changes to another table than the one in effect, are refused."""
    with pytest.raises(error, match=says):
        accept(Wanted(version=(1, 4), rows=TWO), table, 0.0)


def test_the_same_table_again_is_fine() -> None:
    """A table whose ack was lost may be sent again."""
    table = Table(id=1, pool="p", version=(1, 4), rows=TWO)
    assert accept(Wanted(version=(1, 4), rows=TWO), table, 0.0).rows == TWO


def test_ticks_never_go_back() -> None:
    """A tick that is already closed must not be counted under again."""
    with pytest.raises(MessageError, match="tick 6 is older than 7"):
        accept(Wanted(tick=7), Tick(id=1, term=0, tick=6), 0.0)
    assert accept(Wanted(tick=7), Tick(id=1, term=0, tick=7), 0.0).tick == 7


def test_settings_in_kamailio() -> None:
    """Each setting stands where Kamailio looks for it."""
    entries = configuration(SETTINGS, PEERS)
    assert entries == {
        ("ctl", "realm"): "",
        ("ctl", "digests"): "",
        ("ctl", "registrar"): 0,
        ("ctl", "expires"): 3600,
        ("ctl", "database"): 0,
        ("ctl", "learn"): 0,
        ("ctl", "mode"): "redirect",
        ("mode", "1"): "forward;;desk",
        ("ctl", "modes"): 1,
        ("ctl", "policy"): "least",
        ("ctl", "hops"): 4,
        ("ctl", "status"): 480,
        ("ctl", "retry"): 2,
        ("ctl", "capacity"): 500,
        ("ctl", "priorities"): "esnet",
        ("urgent", "112"): 1,
        ("ctl", "rate"): 0,
        ("ctl", "agents"): "friendly-scanner|sipvicious|sip-scan|sipcli|sundayddr|sipptk|vaxsipuseragent",
        ("ctl", "origins"): 1,
        ("origin", "https://phone.example.com"): 1,
        ("ctl", "delegated"): 0,
        ("ctl", "certified"): 0,
        ("ctl", "places"): 400,
        ("alias", "edge.voice.svc"): 1,
        ("alias", "192.0.2.100"): 1,
        ("ctl", "period"): 10,
        ("ctl", "threshold"): 2,
        ("gw", "pstn-1"): "pstn|redirect|",
        ("gw", "office"): "voip||",
        ("route", "1"): "||1|1||sip:192.0.2.1:5060 sip:192.0.2.2:5060",
        ("route", "n"): 1,
        ("peer", "198.18.0.2"): "edge-b",
    }


def test_users_in_kamailio() -> None:
    """Who authenticates is known before anybody is asked; a proxy without the Secret asks nobody."""
    wanted = Authentication(secret_name="edge-users", realm="voice.example.com")
    settings = msgspec.structs.replace(SETTINGS, authentication=wanted)
    entries = list(configuration(settings, PEERS, {("MD5", "alice"): "5f"}).items())
    assert entries[:4] == [
        (("ha1", "MD5:alice"), "5f"),
        (("ctl", "digests"), "SHA-256,MD5"),
        (("ctl", "realm"), "voice.example.com"),
        (("ctl", "delegated"), 0),
    ]
    assert configuration(settings, PEERS, None) == configuration(SETTINGS, PEERS)
    certified = msgspec.structs.replace(settings, authentication=msgspec.structs.replace(wanted, certificates=True))
    assert configuration(certified, PEERS, {})["ctl", "certified"] == 1
    assert configuration(SETTINGS, PEERS, None, {"pstn-1": "trunk:x"})[("own", "pstn-1")] == "trunk:x"


def test_a_registrar_upstream_in_kamailio() -> None:
    """It needs no Secret; a proxy that starts learns from the others who has registered."""
    settings = msgspec.structs.replace(SETTINGS, authentication=Authentication(realm="voice.example.com"))
    entries = configuration(settings, PEERS, None)
    assert [entries["ctl", name] for name in ("delegated", "realm", "learn")] == [1, "voice.example.com", 1]


def test_who_may_come_in() -> None:
    """Clients' and gateways' networks stand in the permissions module's file, by group and name."""
    assert address_list(SETTINGS) == (
        "1 198.51.100.0 24 0 clients\n"
        "1 2001:db8:: 64 0 clients\n"
        "2 203.0.113.0 28 0 pstn-1\n"
        "2 203.0.113.64 32 0 pstn-1\n"
        "2 192.0.2.7 32 0 office\n"
    )


def test_role_comes_last_and_the_previous_primary_for_a_time() -> None:
    """A new primary has its tick by then; after three minutes nothing goes on to the one before."""
    role = Role(id=1, term=1, role="primary", previous="sip:198.18.0.2:5060")
    wanted = accept(Wanted(tick=4, peers=PEERS), role, now=100.0)
    soon, later = state(wanted, 279.0, draining=False), state(wanted, 280.0, draining=True)
    assert list(soon)[-1] == ("ctl", "role")
    assert soon["ctl", "role"] == "primary"
    assert soon["ctl", "tick"] == 4
    assert soon["ctl", "prev"] == "sip:198.18.0.2:5060"
    assert later["ctl", "prev"] == ""
    assert (soon["ctl", "drain"], later["ctl", "drain"]) == (0, 1)


def test_a_previous_primary_whose_pod_is_gone_is_not_asked() -> None:
    """It is a peer no more: nothing waits for its word, however long ago the hand-over was."""
    role = Role(id=1, term=1, role="primary", previous="sip:198.18.0.2:5060")
    wanted = accept(Wanted(peers=PEERS), role, now=100.0)
    gone = accept(wanted, Configure(id=2, term=1, settings=SETTINGS, peers=()), now=101.0)
    assert state(wanted, 101.0, draining=False)["ctl", "prev"] == "sip:198.18.0.2:5060"
    assert state(gone, 101.0, draining=False)["ctl", "prev"] == ""


def test_a_member_knows_the_primary() -> None:
    """A member knows where to pass a client's new request on to; the primary does not pass on to itself."""
    member = accept(Wanted(), Role(id=1, term=1, role="member", primary="sip:198.18.0.2:5060"), 0.0)
    primary = accept(Wanted(), Role(id=1, term=1, role="primary", primary="sip:198.18.0.3:5060"), 0.0)
    assert state(member, 0.0, draining=False)["ctl", "primary"] == "sip:198.18.0.2:5060"
    assert state(primary, 0.0, draining=False)["ctl", "primary"] == ""


def test_drain_is_taken_back() -> None:
    """A draining proxy is taken back by the same command."""
    draining = accept(Wanted(), Drain(id=1, term=1, draining=True), 0.0)
    assert draining.draining
    assert not accept(draining, Drain(id=2, term=1, draining=False), 0.0).draining
    assert msgspec.structs.replace(draining, draining=False) == accept(
        draining, Drain(id=2, term=1, draining=False), 0.0
    )
