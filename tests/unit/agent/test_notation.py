"""Gateways and routes as Kamailio's configuration reads them."""

from switchboard.agent.notation import gateway_entries, mode_entries, route_entries, targets
from switchboard.pool.spec import ClientMode, Gateway, Rewriting, Rights, Route

CARRIER = Gateway(
    name="carrier",
    kind="pstn",
    networks=("203.0.113.0/28",),
    mode="redirect",
    targets=("sip:203.0.113.1", "sip:203.0.113.2"),
    rights=Rights(prefixes=("+49", "112"), register=False, video=False, max_calls=30, max_calls_per_second=5),
    incoming=Rewriting(plus="add", strip=1, prefix="49"),
    outgoing=Rewriting(plus="remove"),
    codecs=("PCMA", "telephone-event"),
)
FREE = Gateway(name="free", kind="voip", networks=("192.0.2.7/32",))
ROUTES = (
    Route(name="pbx", domain="voice.example.com", targets=("sip:192.0.2.1", "sip:203.0.113.1")),
    Route(name="out", prefix="+49", priority=2, weight=7, gateway="carrier"),
)


def test_what_is_restricted_is_told_and_nothing_else() -> None:
    """A gateway without rights of its own has nothing after its kind and mode."""
    assert dict(gateway_entries([CARRIER, FREE])) == {
        ("gw", "carrier"): (
            "pstn|redirect|prefixes=+49,112 register=0 video=0 calls=30 rate=5 incoming=add:1:49 outgoing=remove:0: "
            "codecs=PCMA,telephone-event"
        ),
        ("gw", "free"): "voip||",
    }


def test_a_gateway_that_sees_nothing_of_the_pool() -> None:
    """It is never sent to another proxy, whatever mode the pool has."""
    hidden = Gateway(name="carrier", kind="pstn", networks=("203.0.113.0/28",), codecs=("PCMA",), hide_topology=True)
    assert dict(gateway_entries([hidden])) == {("gw", "carrier"): "pstn|forward|codecs=PCMA hide=1"}


def test_a_gateway_that_has_a_certificate_or_a_user() -> None:
    """These lead to it; whether it has networks as well is told."""
    certified = Gateway(name="sbc", kind="voip", certificate_names=("a.test", "b.test"))
    both = Gateway(name="trunk", kind="pstn", networks=("192.0.2.8/32",), certificate_names=("c.test",))
    user = Gateway(name="pbx", kind="voip", username="pbx-7")
    assert dict(gateway_entries([certified, both, user])) == {
        ("gw", "sbc"): "voip||known=certificate",
        ("cert", "a.test"): "sbc",
        ("cert", "b.test"): "sbc",
        ("gw", "trunk"): "pstn||known=network+certificate",
        ("cert", "c.test"): "trunk",
        ("gw", "pbx"): "voip||known=user",
        ("trunk", "pbx-7"): "pbx",
    }


def test_a_route_has_its_targets_or_its_gateways() -> None:
    """The name of the gateway goes along, for what holds for calls through it; the number of routes comes last."""
    entries = list(route_entries(ROUTES, [CARRIER, FREE]))
    assert entries == [
        (("route", "1"), "voice.example.com||1|1||sip:192.0.2.1 sip:203.0.113.1"),
        (("route", "2"), "|+49|2|7|carrier|sip:203.0.113.1 sip:203.0.113.2"),
        (("route", "n"), 2),
    ]


def test_modes_of_clients() -> None:
    """In their order, which decides; parts of User-Agents in lower case, as they are compared."""
    rules = [
        ClientMode(mode="redirect", networks=("198.51.100.0/28", "2001:db8::/64")),
        ClientMode(mode="forward", networks=("198.51.100.0/24",), user_agents=("SIP.js/", "Desk 3")),
    ]
    assert list(mode_entries(rules)) == [
        (("mode", "1"), "redirect;198.51.100.0/28,2001:db8::/64;"),
        (("mode", "2"), "forward;198.51.100.0/24;sip.js/|desk 3"),
        (("ctl", "modes"), 2),
    ]


def test_targets_are_told_once() -> None:
    """Whichever routes lead to them."""
    assert targets(ROUTES, [CARRIER, FREE]) == ["sip:192.0.2.1", "sip:203.0.113.1", "sip:203.0.113.2"]
