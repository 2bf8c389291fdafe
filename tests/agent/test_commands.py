"""What the agent is told comes into effect in Kamailio, and the ack says so."""

import re
import time

import aiohttp
import msgspec
import pytest

from switchboard.link.client import next_id
from switchboard.link.messages import Drain, Peer, Role, Table, Tick
from switchboard.pool.spec import Assignment, Gateway, Route
from switchboard.pool.table import Row
from tests.agent.pod import POOL, Operator, Pod, settings


async def test_a_proxy_opens_once_it_is_configured(pod: Pod, operator: Operator) -> None:
    """Kamailio is closed and unready until it has its settings, and open with the ack of `configure`."""
    assert pod.proxy.control.number("ctl", "ready") == 0
    assert not await pod.ready()
    await operator.configure(settings(calls=40))
    control = pod.proxy.control
    assert control.number("ctl", "ready") == 1
    assert control.number("ctl", "ceiling") == 40
    assert control.number("ctl", "places") == 40
    assert control.get("ctl", "key") == "5a" * 32
    assert await pod.ready()
    report = await operator.hears(lambda report: report.room)
    assert (report.room, report.calls, report.workload) == (40, 0, 0.0)


async def test_settings_change_without_a_restart(pod: Pod, operator: Operator) -> None:
    """Every setting takes its place at run time, and what is gone from the settings is gone from Kamailio."""
    await operator.configure(settings(), peers=(pod.peer,))
    boot = pod.proxy.control.get("ctl", "boot")
    await operator.configure(
        settings(
            calls=20,
            assignment=Assignment(policy="weighted", mode="redirect", max_hops=3, saturated_status=480),
            gateways=(Gateway(name="pstn", kind="pstn", networks=("192.0.2.0/28",), mode="forward"),),
            routes=(
                Route(name="a", prefix="1", targets=("sip:192.0.2.1:5060",)),
                Route(name="b", prefix="", targets=("sip:192.0.2.2:5060", "sip:192.0.2.3:5060")),
            ),
            aliases=("edge.example.org",),
        )
    )
    control = pod.proxy.control
    assert [control.get("ctl", key) for key in ("mode", "policy", "hops", "status")] == [
        "redirect",
        "weighted",
        "3",
        "480",
    ]
    assert control.number("ctl", "ceiling") == 20
    assert control.get("gw", "pstn") == "pstn|forward|"
    assert control.get("route", "2") == "||1|1||sip:192.0.2.2:5060 sip:192.0.2.3:5060"
    assert (control.number("alias", "edge.example.org"), control.number("alias", "edge.voice.svc")) == (1, 0)
    assert control.get("peer", pod.address) == ""
    assert "2 192.0.2.0 28 0 pstn" in (pod.run / "address.list").read_text()
    assert control.get("ctl", "boot") == boot


def blob(pod: Pod, kind: str, version: str, count: int) -> str:
    return "".join(pod.proxy.control.get("rt", f"{kind}{version}.{number}") for number in range(count))


def table_in_kamailio(pod: Pod) -> list[str]:
    """The table in effect, read as Lua does."""
    version = pod.proxy.control.get("rt", "ver")
    members_version, members, levels_version, levels = pod.proxy.control.get("rt", f"i{version}").split(":")
    return [
        f"{member} {level}"
        for member, level in zip(
            blob(pod, "m", members_version, int(members)).splitlines(),
            blob(pod, "l", levels_version, int(levels)).splitlines(),
            strict=True,
        )
    ]


def rows(count: int, room: int = 7) -> tuple[Row, ...]:
    return tuple(
        Row(f"far-{n:05d}~0a0b0c0d", f"sip:127.9.9.9:{n}", f"127.9.9.9:{n}", room, 1, 2, 20, 5)
        for n in range(1, count + 1)
    )


@pytest.mark.parametrize("count", [0, 3, 1000])
async def test_tables_of_any_size(pod: Pod, operator: Operator, count: int) -> None:
    """A table is in effect with its ack, whatever its size; a thousand rows within a fraction of a second."""
    begin = time.perf_counter()
    version = await operator.table(*rows(count))
    assert time.perf_counter() - begin < 1.0
    assert table_in_kamailio(pod) == [
        f"far-{n:05d}~0a0b0c0d|sip:127.9.9.9:{n}|127.9.9.9:{n}|20 7|1|2|5" for n in range(1, count + 1)
    ]
    await operator.configure(settings())
    report = await operator.hears(lambda report: report.table == version)
    assert report.role == "member"


async def test_a_report_changes_levels_alone(pod: Pod, operator: Operator) -> None:
    """Changed rows are sent and written alone; for workers that still read, one older version is kept."""
    await operator.table(*rows(3))
    first = pod.proxy.control.number("rt", "ver")
    for number in range(2, 8):
        changed = msgspec.structs.replace(rows(3)[1], room=number)
        ack = await operator.link.send(
            Table(id=next_id(), pool=POOL.name, version=(1, number), base=(1, number - 1), rows=(changed,))
        )
        assert ack.error is None
    assert [line.split()[1] for line in table_in_kamailio(pod)] == ["7|1|2|5"] * 3
    last = pod.proxy.control.number("rt", "ver")
    assert last == first + 6
    assert pod.proxy.control.get("rt", f"i{last}").startswith(f"{first}:1:{last}:")
    kept = {entry["name"] for slot in pod.proxy.control("htable.dump", "rt") for entry in slot["slot"]}
    assert kept == {"ver", f"m{first}.0", f"i{last}", f"l{last}.0", f"i{last - 1}", f"l{last - 1}.0"}


async def test_tables_that_do_not_fit(pod: Pod, operator: Operator) -> None:
    """An older table, changes to another one, and another pool's are refused in words; the one in effect stays."""
    operator.term = 2
    await operator.table(*rows(2))
    before = table_in_kamailio(pod)
    for table, says, stale in (
        (Table(id=next_id(), pool=POOL.name, version=(1, 9), rows=()), "term 1 is over", True),
        (Table(id=next_id(), pool=POOL.name, version=(2, 0), rows=()), "older than", True),
        (Table(id=next_id(), pool=POOL.name, version=(2, 9), base=(2, 8), rows=()), "send the whole table", False),
        (Table(id=next_id(), pool="other", version=(2, 9), rows=()), "is for pool other", False),
    ):
        ack = await operator.link.send(table)
        assert ack.error is not None
        assert says in ack.error
        assert ack.stale is stale
    assert table_in_kamailio(pod) == before


async def test_role_and_tick(pod: Pod, operator: Operator) -> None:
    """Role and tick are in effect with their acks; no tick goes back; a previous primary counts while it is there."""
    await operator.configure(settings(), (Peer(name="edge-9", address="127.0.0.9"),))
    await operator.tick(41)
    await operator.role("primary", previous="sip:127.0.0.9:5060")
    control = pod.proxy.control
    assert (control.get("ctl", "role"), control.number("ctl", "tick")) == ("primary", 41)
    assert control.get("ctl", "prev") == "sip:127.0.0.9:5060"
    await operator.configure(settings())
    assert control.get("ctl", "prev") == ""
    report = await operator.hears(lambda report: report.role == "primary")
    assert report.tick == 41
    ack = await operator.link.send(Tick(id=next_id(), term=1, tick=40))
    assert ack.error is not None
    assert "tick 40 is older than 41" in ack.error
    await operator.role("member", primary="sip:127.0.0.8:5060")
    assert control.get("ctl", "primary") == "sip:127.0.0.8:5060"


async def test_a_lower_term_changes_nothing(pod: Pod, operator: Operator) -> None:
    """Whoever lost the Lease is refused, and nothing of what it sent is in Kamailio."""
    operator.term = 5
    await operator.configure(settings())
    await operator.tick(3)
    for command in (
        Tick(id=next_id(), term=4, tick=9),
        Role(id=next_id(), term=4, role="primary"),
        Drain(id=next_id(), term=4, draining=True),
    ):
        ack = await operator.link.send(command)
        assert ack.stale
        assert ack.error == "term 4 is over, 5 has begun: another operator holds the Lease"
    control = pod.proxy.control
    assert (control.number("ctl", "tick"), control.get("ctl", "role"), control.number("ctl", "drain")) == (
        3,
        "member",
        0,
    )


async def test_malformed_commands_leave_what_is_in_effect(pod: Pod, operator: Operator) -> None:
    """Nonsense on a link ends that session, and nothing else: the operator redials and goes on."""
    await operator.configure(settings())
    await operator.link.post(b'{"type":"table","rows":7}')
    await operator.until(lambda: operator.errors)
    assert "malformed message to the agent" in str(operator.errors[0])
    await operator.until(lambda: len(operator.hellos) == 2)
    await operator.tick(12)
    assert pod.proxy.control.number("ctl", "ready") == 1


async def test_https_for_people(pod: Pod, operator: Operator) -> None:
    """With a certificate of the pool anybody reads workload and table; without one, probes and metrics."""
    await operator.configure(settings())
    version = await operator.table(*rows(2))
    context = pod.pki.operator().client_context()
    async with aiohttp.ClientSession(f"https://{pod.link}/") as session:

        async def get(path: str) -> tuple[int, str]:
            async with session.get(path, ssl=context, server_hostname="agent.edge.voice.switchboard") as response:
                return response.status, await response.text()

        workload = msgspec.json.decode((await get("/v1/workload"))[1])
        assert (workload["room"], workload["type"]) == (10, "report")
        pod.proxy.control.set("cnt", "forwarded", 7)  # moves no room, so no report comes of itself
        assert msgspec.json.decode((await get("/v1/workload"))[1])["forwarded"] == 7
        table = msgspec.json.decode((await get("/v1/table"))[1])
        assert tuple(table["version"]) == version
        assert len(table["rows"]) == 2
        assert await get("/healthz") == (200, "ok\n")
        metrics = (await get("/metrics"))[1]
    mine = r'namespace="\w+",pool="edge",proxy="edge-00001"'
    assert re.search(rf"^switchboard_proxy_room_calls\{{{mine}\}} 10\.0$", metrics, re.MULTILINE)
    assert re.search(r"^switchboard_proxy_calls_forwarded_total\{.*\} 7\.0$", metrics, re.MULTILINE)
    async with aiohttp.ClientSession(f"https://{pod.link}/") as session:
        for path, status in (("/v1/workload", 403), ("/v1/table", 403), ("/v1/link", 403), ("/healthz", 200)):
            async with session.get(path, ssl=False) as response:
                assert response.status == status, path
