"""A gateway with hideTopology: nothing that it gets tells of anything but the proxy that carries the call."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import re
from collections.abc import AsyncIterator, Iterator, Sequence

import pytest

from switchboard.pool.spec import Gateway, Route
from tests.sip.test_registrar import contacts, known, register
from tests.tools import answers
from tests.tools import message as sip
from tests.tools.addresses import CLIENTS, HIDING, HIDING_SOON, PSTN, STRANGERS, TARGETS, VOIP
from tests.tools.asterisk import asterisk
from tests.tools.dialog import Dialog, dialog_of_callee, dialog_of_caller
from tests.tools.listeners import PORTS
from tests.tools.message import Message, uri_in
from tests.tools.pool import ALIAS, Pool, idle, to
from tests.tools.proxies import Proxy, fleet
from tests.tools.rtp import Media
from tests.tools.sessions import Call, Incoming
from tests.tools.sip import Phone
from tests.tools.transport import Protocol
from tests.tools.wait import until

CARRIER, OTHER = f"{PSTN}.1", f"{VOIP}.1"
ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")
TELLING = [  # headers of a client that tell where it is, or who is beside it
    ("P-Asserted-Identity", f"<sip:alice@{CLIENTS}.1>"),
    ("Diversion", f"<sip:bob@{CLIENTS}.77:5070>;reason=no-answer"),
    ("Referred-By", f"<sip:carol@{CLIENTS}.77>"),
    ("Warning", f'399 {CLIENTS}.77 "far away"'),
    ("X-Real-IP", f"{CLIENTS}.77"),
    ("X-Site", "[2001:db8::77]"),
    ("User-Agent", "phone 1.2"),
    ("Subject", "hello"),
]
ASKS = ("Proxy-Authenticate", 'Digest realm="carrier.test", nonce="c0ffee", algorithm=MD5, qop="auth"')


@pytest.fixture(scope="module")
def proxies() -> Iterator[Sequence[Proxy]]:
    """In place of those that have nothing to hide from anybody."""
    listen = "udp:5060 tcp:5060 ws:8080"
    with fleet(3, HIDING, HIDE_TOPOLOGY="1", CREDENTIALS="carriers", LISTEN=listen) as started:
        yield started


@pytest.fixture
async def pool(pool: Pool) -> Pool:
    """Every call goes out through the carrier, which is shown nothing; another gateway is shown all."""
    out(pool, "pstn-1")
    pool.gateway("pstn-1", hide_topology=True)
    return pool


@pytest.fixture
async def carrier() -> AsyncIterator[Phone]:
    async with Phone.at(CARRIER, 5060, user="carrier") as phone:
        phone.script = answers.ring_then_answer
        yield phone


@pytest.fixture
async def other() -> AsyncIterator[Phone]:
    async with Phone.at(OTHER, 5060, user="other") as phone:
        yield phone


def out(pool: Pool, *names: str) -> None:
    """Calls go out through these, one after the other; the carrier is shown nothing, the other gateway all."""
    at = {"pstn-1": CARRIER, "voip-1": OTHER}
    known: list[Gateway] = [
        pool.gateway(name, targets=(f"sip:{at[name]}:5060",), hide_topology=name == "pstn-1") for name in names
    ]
    routes = [Route(name=one.name, gateway=one.name, priority=place) for place, one in enumerate(known, 1)]
    pool.routes(*routes, gateways=known)


def hidden(phone: Phone, *shown: Proxy, own: str = "") -> None:
    """Of all that the phone got, nothing names an address but its own and those of the proxies that it may see, one Via
    is on each request, and nobody's Record-Route but theirs. A Call-ID is what its maker has made of it.
    """
    may = {phone.endpoint.address[0], own, *(proxy.ip for proxy in shown)}
    for packet in phone.log:
        text = packet.raw.decode().replace(packet.message.call_id, "")
        assert set(ADDRESS.findall(text)) <= may, text
        assert "2001:db8" not in text
        assert "X-VP" not in text
        assert ".invalid" not in text
        if not packet.message.is_response:
            assert len(packet.message.all("Via")) == 1, text
            assert len(packet.message.all("Record-Route")) <= 2 * len(shown), text


def transactions(pool: Pool) -> int:
    return sum(int(proxy.control("tm.stats")["current"]) for proxy in pool.proxies)


def plain(packet: Message) -> list[str]:
    """What of the dialog's identity a message tells."""
    return [uri_in(packet.header("From")), uri_in(packet.header("To"))]


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
@pytest.mark.parametrize("served_by", [0, 1])
async def test_a_call_out(pool: Pool, carrier: Phone, served_by: int, protocol: Protocol) -> None:
    """Held, asked, changed and ended by either side, a call shows the carrier the proxy alone, whichever serves it and
    however the client came; the client sees what it always sees.
    """
    pool.table(*(5 if at == served_by else 0 for at in range(3)))
    serving = pool.proxies[served_by]
    async with Phone.at(f"{CLIENTS}.1", protocol=protocol) as alice:
        if protocol == "tcp":
            await alice.endpoint.connect((pool.primary.ip, 5060))
        caller = f"sip:alice@{CLIENTS}.1"
        for ends in ("caller", "callee"):
            made = await alice.call(pool.uri, from_uri=caller, headers=TELLING)
            theirs = await carrier.expect_call(number=len(carrier.incoming) - 1)
            assert made.status == 200
            assert theirs.served_by == serving.ip
            assert plain(made.final) == [caller, pool.uri]
            assert uri_in(made.final.header("Contact")) == carrier.uri
            assert plain(theirs.invite)[0] == f"sip:alice@{serving.ip}"
            assert theirs.invite.uri == f"sip:echo@{CARRIER}"
            assert theirs.invite.header("Subject") == "hello"
            for session, far in ((made, theirs), (theirs, made)):
                for method, body in (("INVITE", session.sdp), ("UPDATE", session.sdp), ("INFO", "")):
                    assert (await session.request(method, body=body)).message.status == 200
                    assert far.requests[-1].message.method in (method, "ACK")
            first, second = (made, theirs) if ends == "caller" else (theirs, made)
            refer = [("Refer-To", f"<sip:bob@{CLIENTS}.77:5070>")]
            assert (await first.request("REFER", refer)).message.status == 202
            assert await first.bye() == 200
            assert second.ended.is_set()
        assert made.dialog is not None
    hidden(carrier, serving)
    assert [packet.message.header("Refer-To") for packet in carrier.requests("REFER")] == [f"<sip:bob@{serving.ip}>"]
    await idle(*pool.proxies)


@pytest.mark.parametrize("holder", [0, 1, 2])
@pytest.mark.parametrize("protocol", ["udp", "tcp"])
async def test_a_call_in(pool: Pool, carrier: Phone, holder: int, protocol: Protocol) -> None:
    """The carrier calls a client that is behind a flow of another proxy: it sees neither."""
    pool.set(registrar=1, expires=600, learn=1, learned=1)
    pool.table(0, 5, 0)
    serving = pool.proxies[1]
    async with Phone.at(f"{CLIENTS}.8", protocol=protocol, user="bob") as bob:
        assert (await register(bob, pool.proxies[holder])).status == 200
        await known(pool, bob.uri)
        for ends in ("caller", "callee"):
            made = await carrier.call(f"sip:bob@{ALIAS}", to=(pool.primary.ip, 5060))
            assert made.status == 200
            theirs = bob.incoming[-1]
            for session, far in ((made, theirs), (theirs, made)):
                for method, body in (("INVITE", session.sdp), ("UPDATE", session.sdp), ("INFO", "")):
                    assert (await session.request(method, TELLING[1:], body)).message.status == 200
                    assert far.requests[-1].message.method in (method, "ACK")
            first, second = (made, theirs) if ends == "caller" else (theirs, made)
            assert await first.bye() == 200
            assert second.ended.is_set()
            assert uri_in(theirs.invite.header("Contact")) == carrier.uri
    hidden(carrier, serving)
    await idle(*pool.proxies)


async def test_given_up_and_refused(pool: Pool, carrier: Phone, alice: Phone) -> None:
    """CANCEL, and the ACK to a refusal, tell no more than the INVITE did, and belong to it."""
    pool.table(0, 5, 0)
    caller = f"sip:alice@{CLIENTS}.1"
    carrier.script = answers.ring
    made = await alice.dial(pool.uri, from_uri=caller)
    assert plain((await made.ringing()).message) == [caller, pool.uri]
    assert await made.cancel() == 200
    assert await made.result() == 487
    assert carrier.incoming[0].cancelled.is_set()
    carrier.script = answers.refuse(486, (("Warning", f'399 {CARRIER} "busy"'),))
    refused = await alice.call(pool.uri, from_uri=caller)
    assert refused.status == 486
    assert plain(refused.final) == [caller, pool.uri]
    assert refused.final.header("Warning") == f'399 {CARRIER} "busy"'
    await carrier.endpoint.until(lambda one: one.message.method == "ACK" and one.message.call_id == refused.call_id)
    for method in ("CANCEL", "ACK"):
        for packet in carrier.requests(method):
            (invite,) = [one for one in carrier.incoming if one.invite.call_id == packet.message.call_id]
            assert packet.message.branch == invite.invite.branch
            assert packet.message.uri == invite.invite.uri
            assert plain(packet.message) == plain(invite.invite)
    hidden(carrier, pool.members[0])
    await idle(*pool.proxies)


@pytest.mark.parametrize("order", [("pstn-1", "voip-1"), ("voip-1", "pstn-1")])
async def test_failover(pool: Pool, carrier: Phone, other: Phone, alice: Phone, order: tuple[str, str]) -> None:
    """From a gateway that hides to one that does not, and the other way round: each gets what it always gets."""
    first, second = (carrier, other) if order[0] == "pstn-1" else (other, carrier)
    first.script = answers.refuse(500)
    out(pool, *order)
    pool.table(0, 5, 0)
    made = await alice.call(pool.uri, from_uri=f"sip:alice@{CLIENTS}.1", headers=TELLING)
    assert made.status == 200
    assert uri_in(made.final.header("Contact")) == second.uri
    shown = other.incoming[0].invite
    assert [uri_in(shown.header("Contact")), shown.uri] == [alice.uri, pool.uri]
    assert plain(shown) == [f"sip:alice@{CLIENTS}.1", pool.uri]
    assert [via.split()[1].split(";")[0] for via in shown.all("Via")] == [
        f"{pool.members[0].ip}:5060",
        f"{pool.primary.ip}:5060",
        alice.endpoint.sent_by,
    ]
    assert shown.header("X-Real-IP") == f"{CLIENTS}.77"
    assert len(shown.all("Record-Route")) == 1
    theirs = second.incoming[0]
    assert (await made.request("INVITE", body=made.sdp)).message.status == 200
    assert (await theirs.request("INVITE", body=theirs.sdp)).message.status == 200
    assert await theirs.bye() == 200
    assert made.ended.is_set()
    hidden(carrier, pool.members[0])
    await idle(*pool.proxies)


@pytest.mark.parametrize("protocol", ["udp", "tcp", "ws"])
async def test_a_carrier_that_is_called_over_tcp(pool: Pool, protocol: Protocol) -> None:
    """The proxy has two entries in the route set then. From a browser, which has no address, it is as from a phone."""
    pool.table(0, 5, 0)
    async with (
        Phone.at(CARRIER, 5060, protocol="tcp", listening=True, user="carrier") as carrier,
        Phone.at(f"{CLIENTS}.1", protocol=protocol) as alice,
    ):
        gateway = pool.gateway("pstn-1", targets=(f"sip:{CARRIER}:5060;transport=tcp",), hide_topology=True)
        pool.routes(Route(name="out", gateway="pstn-1"), gateways=[gateway])
        where = (pool.primary.ip, PORTS[protocol])
        made = await alice.call(pool.uri, to=where)
        assert made.status == 200
        theirs = carrier.incoming[0]
        assert made.dialog is not None
        for session in (made, theirs):
            for method, body in (("INVITE", session.sdp), ("UPDATE", session.sdp), ("INFO", "")):
                assert (await session.request(method, body=body)).message.status == 200
        assert await theirs.bye() == 200
        assert made.ended.is_set()
        hidden(carrier, pool.members[0])
    await idle(*pool.proxies)


async def register_both(pool: Pool, desk: Phone, soft: Phone) -> None:
    """As one user, with different proxies."""
    for phone, proxy in ((desk, pool.proxies[0]), (soft, pool.proxies[2])):
        assert (await register(phone, proxy)).status == 200
    for proxy in pool.proxies:
        await until(functools.partial(_has_contacts, proxy, {desk.uri, soft.uri}), f"{proxy.name} knows both")


def _has_contacts(proxy: Proxy, wanted: set[str]) -> bool:
    return set(contacts(proxy)) == wanted


async def early_dialog(phone: Phone, made: Call, tag: str) -> Dialog:
    """Of a call that the phone has placed, by the 183 with that tag."""
    packet = await phone.endpoint.until(
        lambda one: one.message.status == 183 and sip.parameter(one.message.header("To"), "tag") == tag
    )
    return dialog_of_caller(phone.endpoint, made.transaction.request, packet.message)


async def test_two_phones_ring(pool: Pool, carrier: Phone) -> None:
    """A call in that rings at two phones: the carrier can ask each by an early dialog of its own, and sees neither."""
    pool.set(registrar=1, expires=600, learn=1, learned=1)
    pool.table(5, 0, 0)
    picked_up = asyncio.Event()

    async def ring(call: Incoming) -> None:
        await call.reliably(183)

    async def ring_then_answer(call: Incoming) -> None:
        await ring(call)
        await picked_up.wait()
        await call.answer()

    async with (
        Phone.at(f"{CLIENTS}.8", user="bob") as desk,
        Phone.at(f"{CLIENTS}.9", protocol="tcp", user="bob") as soft,
    ):
        desk.script, soft.script = ring_then_answer, ring
        await register_both(pool, desk, soft)
        made = await carrier.dial(f"sip:bob@{ALIAS}", to=(pool.primary.ip, 5060))
        early = [await early_dialog(carrier, made, (await phone.expect_call()).tag) for phone in (desk, soft)]
        assert early[0].target != early[1].target
        for dialog in early:
            answer = await carrier.in_dialog(dialog, "PRACK", [("RAck", "1 1 INVITE")])
            assert (await answer.final()).message.status == 200
        for phone in (desk, soft):
            prack = await phone.expect("PRACK")
            assert sip.parameter(prack.message.header("To"), "tag") == phone.incoming[0].tag
        picked_up.set()
        assert await made.result() == 200
        assert await made.bye() == 200
        assert desk.incoming[0].ended.is_set()
        await asyncio.wait_for(soft.incoming[0].cancelled.wait(), 5)
    hidden(carrier, pool.primary)
    await idle(*pool.proxies)


@pytest.mark.parametrize("last", ["desk", "soft"])
async def test_all_phones_refuse(pool: Pool, carrier: Phone, last: str) -> None:
    """The carrier gets the best of the answers, whichever came last, and with nothing in it that tells of the phone."""
    pool.set(registrar=1, expires=600, learn=1, learned=1)
    pool.table(0, 5, 0)
    first_has_answered = asyncio.Event()

    async def refuse(call: Incoming) -> None:
        if call.phone.user == last:
            await first_has_answered.wait()
        status = 486 if call.phone.user == "desk" else 480
        await call.reply(status, [*TELLING, ("Error-Info", f"<sip:busy@{CLIENTS}.77>")])
        if call.phone.user != last:
            await call.phone.expect("ACK")
            first_has_answered.set()

    async with (
        Phone.at(f"{CLIENTS}.8", user="desk") as desk,
        Phone.at(f"{CLIENTS}.9", protocol="tcp", user="soft") as soft,
    ):
        desk.script = soft.script = refuse
        await register_both(pool, desk, soft)
        made = await carrier.call(f"sip:bob@{ALIAS}", to=(pool.primary.ip, 5060))
        assert made.status in (480, 486)
        assert uri_in(made.final.header("Error-Info")) == f"sip:busy@{pool.members[0].ip}"
    hidden(carrier, pool.members[0])
    await idle(*pool.proxies)


async def test_a_carrier_that_forks(pool: Pool, carrier: Phone, alice: Phone) -> None:
    """Each of its early dialogs has a Contact of its own, which the caller asks."""
    contacts = {"first": f"sip:1@{CARRIER}:5060", "second": f"sip:2@{CARRIER}:5060"}
    asked = asyncio.Event()

    async def script(call: Incoming) -> None:
        for tag, uri in contacts.items():
            headers = [("Contact", f"<{uri}>"), ("Require", "100rel"), ("RSeq", "1")]
            await carrier.endpoint.send(sip.response(call.invite, 183, headers, tag=tag), call.packet.source)
        await asked.wait()
        await call.answer()

    carrier.script = script
    pool.table(0, 5, 0)
    made = await alice.dial(pool.uri, headers=[("Supported", "100rel")])
    for tag in contacts:
        dialog = await early_dialog(alice, made, tag)
        answer = await alice.in_dialog(dialog, "PRACK", [("RAck", "1 1 INVITE")])
        assert (await answer.final()).message.status == 200
    assert [packet.message.uri for packet in carrier.requests("PRACK")] == list(contacts.values())
    asked.set()
    assert await made.result() == 200
    assert await carrier.incoming[0].bye() == 200
    hidden(carrier, pool.members[0])
    await idle(*pool.proxies)


async def test_a_carrier_that_asks_for_a_password(pool: Pool, carrier: Phone, alice: Phone) -> None:
    """The pool answers it, in the beginning and within the call; numbers of requests are as without."""

    async def ask(call: Incoming) -> None:
        if not call.invite.having("Proxy-Authorization"):
            await call.reply(407, [ASKS])
        else:
            await call.reliably(183)
            await call.answer()

    carrier.script = ask
    for proxy in pool.proxies:
        proxy.control.set("own", "pstn-1", "pool:battery-staple")
    pool.table(0, 5, 0)
    caller = f"sip:alice@{CLIENTS}.1"
    made = await alice.dial(pool.uri, from_uri=caller)
    early = (await made.ringing()).message
    assert [plain(early), early.cseq] == [[caller, pool.uri], 1]
    assert (await made.request("PRACK", [("RAck", "1 1 INVITE")])).message.cseq == 2
    assert await made.result() == 200
    carrier.answers, carrier.answer_headers = {"INFO": 407}, {"INFO": (ASKS,)}
    assert (await made.request("INFO")).message.status == 407
    theirs = await carrier.expect_call(number=1)
    assert (await theirs.request("INVITE", body=theirs.sdp)).message.status == 200
    assert await made.bye() == 200
    assert carrier.requests("PRACK")[0].message.header("RAck") == "1 2 INVITE"
    assert [packet.message.cseq for packet in carrier.requests("INFO")] == [4, 5]
    hidden(carrier, pool.members[0])
    await idle(*pool.proxies)


async def test_subscriptions_and_messages(pool: Pool, carrier: Phone, alice: Phone) -> None:
    """What is no call is hidden as well: a SUBSCRIBE, and the NOTIFY in its dialog, and a MESSAGE."""
    pool.table(0, 5, 0)
    caller = f"sip:alice@{CLIENTS}.1"
    wanted = [("Event", "presence"), ("Expires", "60")]
    asked = await alice.request("SUBSCRIBE", pool.uri, headers=wanted, from_tag="watcher", from_uri=caller)
    assert (await asked.final()).message.status == 200
    subscribe = carrier.requests("SUBSCRIBE")[0].message
    watched = dialog_of_callee(carrier.endpoint, subscribe, "watched", carrier.contact)
    told = [("Event", "presence"), ("Subscription-State", "active")]
    notify = await carrier.in_dialog(watched, "NOTIFY", told)
    assert (await notify.final()).message.status == 200
    assert alice.requests("NOTIFY")[0].message.uri == alice.uri
    for method in ("MESSAGE", "REFER"):
        sent = await alice.request(method, pool.uri, from_uri=caller, headers=[("Refer-To", f"<{caller}>")])
        assert 200 <= (await sent.final()).message.status < 300
        assert plain(sent.responses[-1].message) == [caller, pool.uri]
        assert carrier.requests(method)[0].message.uri == f"sip:echo@{CARRIER}"
    hidden(carrier, pool.members[0])


async def test_an_answer_that_comes_late(pool: Pool, carrier: Phone, alice: Phone) -> None:
    """The carrier repeats its 200 when no transaction is left: it reaches the caller, who acknowledges it once more."""
    carrier.script = Incoming.answer
    pool.table(0, 5, 0)
    made = await alice.call(pool.uri)
    assert made.status == 200
    await until(lambda: transactions(pool) == 0, "no transaction is left")
    invite, so_far = carrier.incoming[0], len(carrier.log)
    again = sip.response(invite.invite, 200, [("Contact", carrier.contact)], invite.sdp, tag=invite.tag)
    await carrier.endpoint.send(again, invite.packet.source)
    await carrier.expect("ACK", since=so_far)
    assert await made.bye() == 200
    hidden(carrier, pool.members[0])
    await idle(*pool.proxies)


async def test_a_carrier_over_tcp(pool: Pool) -> None:
    """It calls over a connection that another proxy holds than the one which carries the call: it sees these two, and
    requests in both directions have one Via.
    """
    pool.set(registrar=1, expires=600, learn=1, learned=1)
    pool.table(0, 5, 0)
    async with (
        Phone.at(CARRIER, protocol="tcp", user="carrier") as carrier,
        Phone.at(f"{CLIENTS}.8", protocol="tcp", user="bob") as bob,
    ):
        await carrier.endpoint.connect((pool.primary.ip, 5060))
        assert (await register(bob, pool.proxies[2])).status == 200
        await known(pool, bob.uri)
        made = await carrier.call(f"sip:bob@{ALIAS}", to=(pool.primary.ip, 5060))
        assert made.status == 200
        for session in (made, bob.incoming[0]):
            for method in ("INVITE", "UPDATE", "INFO"):
                assert (await session.request(method)).message.status == 200
        assert await bob.incoming[0].bye() == 200
        assert made.ended.is_set()
        hidden(carrier, pool.primary, pool.members[0])
    await idle(*pool.proxies)


async def test_a_client_that_redirects(pool: Pool, carrier: Phone) -> None:
    """Its 302 leads the carrier to whom it names, at the pool."""
    pool.set(registrar=1, expires=600, learn=1, learned=1)
    pool.table(5, 0, 0)
    async with Phone.at(f"{CLIENTS}.8", user="bob") as bob:
        elsewhere = f"<sip:carol@{CLIENTS}.77:5070;line=1>;q=0.5"
        bob.script = answers.refuse(302, (("Contact", elsewhere),))
        assert (await register(bob, pool.primary)).status == 200
        await known(pool, bob.uri)
        made = await carrier.call(f"sip:bob@{ALIAS}", to=(pool.primary.ip, 5060), follow=0)
        assert made.status == 302
        assert uri_in(made.final.header("Contact")) == f"sip:carol@{pool.primary.ip}"
    hidden(carrier, pool.primary)
    await idle(*pool.proxies)


def _has_denied(pool: Pool, number: int) -> bool:
    return pool.count("denied") == number


async def test_what_it_was_given_is_of_no_use_to_others(pool: Pool, carrier: Phone, alice: Phone) -> None:
    """Whoever has learnt a hidden Contact reaches nobody by it without the route that was signed for the call, nor with
    that in another call.
    """
    pool.table(0, 5, 0)
    made = await alice.call(pool.uri)
    invite = carrier.incoming[0].invite
    target, route = uri_in(invite.header("Contact")), invite.header("Record-Route")
    serving = (pool.members[0].ip, 5060)
    before, turned_away = len(alice.log), pool.count("denied")
    bare = f"<sip:{serving[0]};lr>"
    stolen = [
        ([("Route", route)], "another@call"),
        ([("Route", bare)], made.call_id),
        ([("Route", bare)], "another@call"),
    ]
    for source in (f"{STRANGERS}.1", f"{VOIP}.9", f"{PSTN}.9"):
        async with Phone.at(source) as thief:
            for headers, call_id in stolen:
                for method in ("INVITE", "INFO", "BYE"):
                    await thief.request(
                        method, target, to=serving, headers=headers, call_id=call_id, to_tag=made.tag, resend=False
                    )
                    turned_away += 1
            for call_id in (made.call_id, "another@call"):
                fresh = await thief.request("MESSAGE", target, to=serving, call_id=call_id, resend=False)
                if source.startswith(STRANGERS):
                    turned_away += 1
                else:  # from who may use the pool, a user like any other
                    assert (await fresh.final()).message.status >= 200
            await until(functools.partial(_has_denied, pool, turned_away), "all are turned away")
    assert alice.log[before:] == []
    assert await carrier.incoming[0].bye() == 200
    await idle(*pool.proxies)


async def test_a_carrier_that_would_know(pool: Pool, carrier: Phone, alice: Phone) -> None:
    """It changes what it was given for its route set, so that nothing would be hidden from it: then it gets nowhere."""
    pool.table(0, 5, 0)
    made = await alice.call(pool.uri)
    theirs = carrier.incoming[0]
    assert theirs.dialog is not None
    (route,) = theirs.dialog.routes
    assert ";vph=e" in route
    turned_away = pool.count("denied")
    for changed in (
        route.replace(";vph=e", ""),
        route.replace(";vph=e", ";vph=r"),
        route.replace(";vph=e", ";vph="),
        route.replace(f";ftag={made.tag}", f";ftag={theirs.tag}"),
        route.replace(f";ftag={made.tag}", ""),
    ):
        theirs.dialog.routes = [changed]
        message = theirs.dialog.compose("INFO")
        await carrier.start(message, theirs.dialog.next_hop, resend=False)
        turned_away += 1
        await until(functools.partial(_has_denied, pool, turned_away), f"{changed} is turned away")
    theirs.dialog.routes = [route]
    as_caller = dataclasses.replace(theirs.dialog, local=theirs.dialog.remote, remote=theirs.dialog.local)
    await carrier.start(as_caller.compose("INFO"), as_caller.next_hop, resend=False)
    await until(functools.partial(_has_denied, pool, turned_away + 1), "who says that it is the caller is turned away")
    assert alice.requests("INFO") == []
    assert await theirs.bye() == 200
    hidden(carrier, pool.members[0])
    await idle(*pool.proxies)


async def test_after_kamailio_has_crashed(pool: Pool, carrier: Phone, alice: Phone) -> None:
    """Nothing of a call is kept in the proxy: one that was started anew passes on what belongs to it, and hides it. It
    refuses offers, whose media would be shown.
    """
    pool.table(5, 0, 0)
    made = await alice.call(pool.uri)
    theirs = carrier.incoming[0]
    proxy = pool.primary
    proxy.kill()
    proxy.start()
    await pool.reset()
    pool.gateway("pstn-1", hide_topology=True)
    for session, far in ((theirs, made), (made, theirs)):
        assert (await session.request("INFO")).message.status == 200
        assert far.requests[-1].message.method == "INFO"
        for method, body in (("INVITE", session.sdp), ("INVITE", ""), ("UPDATE", session.sdp)):
            assert (await session.request(method, body=body)).message.status == 488
    assert await theirs.bye() == 200
    assert made.ended.is_set()
    hidden(carrier, proxy)


async def test_a_proxy_that_ends_a_call(carrier: Phone, alice: Phone) -> None:
    """The BYE that a proxy makes when media is silent tells no more than the rest."""
    with fleet(1, HIDING_SOON, HIDE_TOPOLOGY="1", media_timeout_seconds=2) as started:
        pool = Pool(started)
        await pool.reset()
        out(pool, "pstn-1")
        made = await alice.call(pool.uri, from_uri=f"sip:alice@{CLIENTS}.1")
        assert made.status == 200
        await idle(*started)
        bye = (await carrier.expect("BYE")).message
        assert plain(bye) == plain(carrier.incoming[0].invite)
        assert plain((await alice.expect("BYE")).message) == [pool.uri, f"sip:alice@{CLIENTS}.1"]
        hidden(carrier, *started)


async def test_between_two_carriers(pool: Pool, carrier: Phone, other: Phone) -> None:
    """Each of them sees the proxy, and nothing of the other."""
    out(pool, "voip-1")
    for name in ("pstn-1", "voip-1"):
        pool.gateway(name, hide_topology=True, targets=(f"sip:{OTHER}:5060",))
    pool.table(0, 5, 0)
    made = await carrier.call(pool.uri, from_uri=f"sip:+49@{CARRIER}", headers=TELLING)
    assert made.status == 200
    theirs = other.incoming[0]
    for session in (made, theirs):
        for method in ("INVITE", "UPDATE", "INFO"):
            assert (await session.request(method)).message.status == 200
    assert await theirs.bye() == 200
    assert made.ended.is_set()
    hidden(other, pool.members[0])
    hidden(carrier, pool.members[0], own=pool.primary.ip)  # which it has called itself
    await idle(*pool.proxies)


async def test_whatever_an_offer_has(pool: Pool, carrier: Phone, alice: Phone) -> None:
    """Candidates, addresses of single streams, streams that are refused or not relayed: none of them is told."""
    here = f"{CLIENTS}.1"
    lines = [
        *("v=0", f"o=alice 1 1 IN IP4 {here}", "s=-", f"c=IN IP4 {here}", "t=0 0"),
        *("a=ice-ufrag:abcd", "a=ice-pwd:abcdefghijklmnopqrstuv"),
        *("m=audio 16000 RTP/AVP 0", f"c=IN IP4 {here}", f"a=rtcp:16001 IN IP4 {here}"),
        f"a=candidate:1 1 UDP 2130706431 {here} 16000 typ host",
        f"a=candidate:2 1 UDP 1694498815 {CLIENTS}.77 16000 typ srflx raddr {here} rport 16000",
        *("m=video 0 RTP/AVP 96", f"c=IN IP4 {here}"),
        *("m=image 16010 udptl t38", f"c=IN IP4 {here}"),
        "",
    ]
    pool.table(0, 5, 0)
    made = await alice.call(pool.uri, body="\r\n".join(lines))
    assert made.status == 200
    assert "m=image" in carrier.incoming[0].invite.body
    assert await made.bye() == 200
    hidden(carrier, pool.members[0])
    await idle(*pool.proxies)


async def test_what_cannot_be_led_back_is_not_told(pool: Pool, carrier: Phone, alice: Phone) -> None:
    """A Contact of a thousand letters becomes one that leads to the proxy, and no further."""
    pool.table(0, 5, 0)
    tall = f"<sip:{'a' * 1000}@{CLIENTS}.1>"
    sent = await alice.request("SUBSCRIBE", pool.uri, headers=[("Contact", tall), ("Event", "presence")])
    assert (await sent.final()).message.status == 200
    assert [uri_in(value) for value in carrier.requests("SUBSCRIBE")[0].message.all("Contact")][1:] == [
        f"sip:{pool.members[0].ip}"
    ]
    hidden(carrier, pool.members[0])


async def test_a_route_of_the_clients_own(pool: Pool, carrier: Phone, alice: Phone) -> None:
    """A client that knows two outbound proxies: the second one's Route is not told."""
    pool.table(0, 5, 0)
    routes = [("Route", f"<sip:{pool.primary.ip};lr>"), ("Route", f"<sip:{CLIENTS}.77;lr>")]
    made = await alice.call(pool.uri, headers=routes)
    assert made.status == 200
    assert await made.bye() == 200
    hidden(carrier, pool.members[0])
    await idle(*pool.proxies)


async def test_a_subscription_from_the_carrier(pool: Pool, carrier: Phone) -> None:
    """To a client behind another proxy, whose NOTIFY comes from the proxy alone."""
    pool.set(registrar=1, expires=600, learn=1, learned=1)
    pool.table(0, 5, 0)
    async with Phone.at(f"{CLIENTS}.8", protocol="tcp", user="bob") as bob:
        assert (await register(bob, pool.proxies[2])).status == 200
        await known(pool, bob.uri)
        wanted = [("Event", "presence"), ("Expires", "60")]
        where = (pool.primary.ip, 5060)
        asked = await carrier.request("SUBSCRIBE", f"sip:bob@{ALIAS}", to=where, headers=wanted)
        answer = (await asked.final()).message
        assert answer.status == 200
        subscribe = bob.requests("SUBSCRIBE")[0].message
        tag = sip.parameter(answer.header("To"), "tag")
        notify = await bob.in_dialog(dialog_of_callee(bob.endpoint, subscribe, tag, bob.contact), "NOTIFY", wanted[:1])
        assert (await notify.final()).message.status == 200
        again = await carrier.in_dialog(dialog_of_caller(carrier.endpoint, asked.request, answer), "SUBSCRIBE", wanted)
        assert (await again.final()).message.status == 200
        assert len(bob.requests("SUBSCRIBE")) == 2
        assert len(carrier.requests("NOTIFY")) == 1
    hidden(carrier, pool.members[0])


async def test_asterisk_is_shown_nothing(pool: Pool, alice: Phone) -> None:
    """A real Asterisk as the carrier, with all SIP that it got and sent on record: calls in both directions, held and
    ended by either side, with voice; who calls and who is called is nowhere in it.
    """
    ip = f"{PSTN}.31"
    pool.table(0, 5, 0)
    serving = pool.members[0]
    async with Phone.at(f"{TARGETS}.32", 5060, user="dave") as dave, Media.at(f"{CLIENTS}.31") as voice:
        with asterisk(ip) as running:
            running.record()
            gateway = pool.gateway("pstn-1", targets=(f"sip:{ip}:5060",), hide_topology=True)
            pool.routes(
                Route(name="out", prefix="*", gateway="pstn-1"), to(f"sip:{TARGETS}.32:5060"), gateways=[gateway]
            )
            where = f"sip:*43@{pool.primary.ip}:5060"
            for ends in ("caller", "callee"):
                own = f"sip:alice@{CLIENTS}.1"
                made = await alice.call(where, from_uri=own, body=voice.sdp.partition("m=video")[0], within=15)
                assert made.status == 200
                await voice.send(made.remote_sdp, 25, 0.02)
                await until(lambda: voice.counts()["audio"][1] > 0, "voice comes back")  # so the ACK is there, too
                assert (await made.request("INVITE", body=made.sdp)).message.status == 200
                if ends == "caller":
                    assert await made.bye() == 200
                else:
                    running.command("channel request hangup all")
                    await alice.expect("BYE", since=len(alice.log) - 1)
                await idle(*pool.proxies)
            running.command(f"channel originate PJSIP/pool/sip:+49@{serving.ip}:5060 extension *43@calls")
            theirs = await dave.expect_call()
            await asyncio.wait_for(theirs.acked.wait(), 5)
            assert (await theirs.request("INVITE", body=theirs.sdp)).message.status == 200
            assert await theirs.bye() == 200
            await idle(*pool.proxies)
            text = re.sub(r"(?m)^Call-ID:.*$", "", running.recorded())
    assert text.count("INVITE sip:") >= 5
    assert set(ADDRESS.findall(text)) <= {ip, serving.ip}
