"""A phone in a real browser: Chromium, JsSIP over WSS, WebRTC; its packets counted by getStats."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

import pytest

from e2e.embedded.network import add_host
from tests.networks.conftest import PBX
from tests.sip.test_listeners import answering_with, assert_plain
from tests.sip.test_register import hop_of
from tests.sip.test_registrar import locations
from tests.tools.certificates import Authority
from tests.tools.clients.baresip import Baresip
from tests.tools.clients.chromium import chromium
from tests.tools.clients.counts import heard
from tests.tools.clients.linphone import Linphone
from tests.tools.clients.table import DOES
from tests.tools.clients.webphone import WebPhone, site
from tests.tools.listeners import PORTS, SECRET
from tests.tools.message import uri_in
from tests.tools.nat import inside
from tests.tools.pool import ALIAS, Pool, idle
from tests.tools.proxies import Proxy, fleet
from tests.tools.rtp import Media
from tests.tools.sip import Phone
from tests.tools.transport import Protocol
from tests.tools.wait import until

PROXIES = "198.18.4"
BROWSER, SOFT_PHONE = "198.18.143.1", "198.18.144.1"
USERS = ("alice", "bob", "carol")
SILENCE_SECONDS = 3

Open = Callable[..., contextlib.AbstractAsyncContextManager[WebPhone]]  # for a user, over a protocol


@pytest.fixture(scope="module")
def proxies(network: None) -> Iterator[Sequence[Proxy]]:
    """With WebSockets, and a short time-out for media."""
    secrets, listen = {SECRET: Authority().secret()}, f"udp:5060 ws:8080 wss:8443/{SECRET}"
    for number in (1, 2):
        subprocess.run(["ip", "address", "add", f"{PROXIES}.{number}/32", "dev", "lo"], check=True)
    add_host("browser", BROWSER)
    add_host("soft", SOFT_PHONE)
    with fleet(2, PROXIES, secrets=secrets, media_timeout_seconds=SILENCE_SECONDS, LISTEN=listen) as started:
        yield started


@pytest.fixture
async def open_phone(pool: Pool) -> AsyncIterator[Open]:
    """Opens a page with a phone for a user."""
    certificate = (pool.primary.run / "etc/listen" / SECRET / "tls.crt").read_bytes()
    with inside("browser"):
        async with chromium(certificate) as browser, site() as address:

            def at(user: str, protocol: Protocol = "wss") -> contextlib.AbstractAsyncContextManager[WebPhone]:
                server = f"{protocol}://{pool.primary.ip}:{PORTS[protocol]}/ws"
                return WebPhone.at(browser, address, f"sip:{user}@{ALIAS}", server)

            yield at


def echo_at(ip: str) -> contextlib.AbstractAsyncContextManager[Media]:
    return Media.at(ip, echo=True)


@contextlib.asynccontextmanager
async def echo() -> AsyncIterator[Phone]:
    """A phone behind the pool that answers each call and sends back what it hears and sees."""
    with inside("pbx"):
        async with echo_at(PBX) as media, Phone.at(PBX, 5060, user="echo") as phone:
            phone.script = answering_with(media)
            yield phone


async def test_a_browser_calls(pool: Pool, open_phone: Open) -> None:
    """Its voice and video are encrypted, those of the phone that it calls are not; it holds, resumes, is hung up on."""
    async with echo() as phone, open_phone("alice") as alice:
        await alice.register()
        await alice.call(f"sip:echo@{ALIAS}", video=True)
        await heard(alice)
        assert_plain(phone.incoming[0].remote_sdp)
        await alice.hold()
        await alice.resume()
        await heard(alice)
        assert await phone.incoming[0].bye() == 200
        await alice.ended()
        await alice.call(f"sip:echo@{ALIAS}", video=True)
        await alice.hang_up()
    await idle(*pool.proxies)


async def test_a_browser_is_called(pool: Pool, open_phone: Open) -> None:
    """Over the connection that it made; it takes the call with its camera, and hangs up."""
    async with echo() as phone, open_phone("alice") as alice:
        await alice.register()
        registered = phone.requests("REGISTER")[0].message
        path = registered.all("Path")
        async with echo_at(PBX) as media:
            calling = phone.call(
                uri_in(registered.header("Contact")),
                to=hop_of(path[0]),
                headers=[("Route", entry) for entry in path],
                body=media.sdp,
            )
            call, _ = await asyncio.gather(calling, alice.answer(video=True))
            assert call.status == 200
            assert_plain(call.remote_sdp)
            await heard(alice)
            await alice.hang_up()
            await phone.expect("BYE")
    await idle(*pool.proxies)


async def test_a_browser_is_cut_off(pool: Pool, open_phone: Open) -> None:
    """Its tab is closed within a call: once media has been silent for the time-out, the call ends at the other side."""
    async with echo() as phone, contextlib.AsyncExitStack() as tab:
        alice = await tab.enter_async_context(open_phone("alice"))
        await alice.register()
        await alice.call(f"sip:echo@{ALIAS}", video=True)
        await heard(alice)
        await tab.aclose()
        await phone.expect("BYE")
    await idle(*pool.proxies)


@pytest.mark.client("Chromium", does=DOES)
@pytest.mark.parametrize("mode", ["forward", "redirect"])
@pytest.mark.parametrize("protocol", ["ws", "wss"])
async def test_browsers_call_each_other(pool: Pool, open_phone: Open, protocol: Protocol, mode: str) -> None:
    """They register at the pool; one calls another with voice and video, holds, resumes, transfers it to a third, and
    hangs up. Then all tabs are closed: once media has been silent for the time-out, the call is over.
    """
    pool.set(mode=mode, registrar=1, expires=120, learn=1, learned=1)
    pool.table(0, 5)
    async with contextlib.AsyncExitStack() as tabs:
        alice, bob, carol = [await tabs.enter_async_context(open_phone(user, protocol)) for user in USERS]
        for phone in (alice, bob, carol):
            await phone.register()
        await asyncio.gather(alice.call(f"sip:bob@{ALIAS}", video=True), bob.answer(video=True))
        await asyncio.gather(heard(alice), heard(bob))
        await alice.hold()
        await alice.resume()
        await asyncio.gather(heard(alice), heard(bob))
        await asyncio.gather(alice.transfer(f"sip:carol@{ALIAS}"), carol.answer(video=True))
        await alice.hang_up()
        await asyncio.gather(heard(bob), heard(carol))
        assert [proxy.count("redirected") for proxy in pool.proxies] == [0, 0]
    await idle(*pool.proxies)


async def test_its_call_outlives_its_connection(pool: Pool, open_phone: Open) -> None:
    """It has a GRUU, which it gives for its Contact: when its WebSocket breaks within a call and it has registered over
    another one, the other side's BYE finds it.
    """
    pool.set(registrar=1, expires=120, learn=1, learned=1)
    async with open_phone("alice") as alice, Baresip.at("soft", f"sip:bob@{ALIAS}", pool.primary.uri) as bob:
        await alice.register()
        gruu = await alice.gruu()
        assert gruu.startswith(f"sip:alice@{ALIAS};gr=urn:uuid:")
        await asyncio.gather(bob.call(gruu), alice.answer(video=True))
        await asyncio.gather(heard(alice), heard(bob))
        before = path(pool.primary, "alice")
        (connection,) = pool.primary.control("ws.dump")["connections"]
        pool.primary.control("ws.close", int(connection.partition(":")[0]))
        await until(lambda: path(pool.primary, "alice") != before, "it has registered again")
        await asyncio.gather(heard(alice), heard(bob))
        await bob.hang_up()
        await alice.ended()
    await idle(*pool.proxies)


def path(proxy: Proxy, user: str) -> str:
    """Of that user's one contact."""
    (record,) = [record for record in locations(proxy) if record["AoR"] == f"{user}@pool.invalid"]
    (one,) = record["Contacts"]
    return str(one["Contact"]["Path"])


@pytest.mark.parametrize("kind", [Baresip, Linphone], ids=["baresip", "linphone"])
async def test_a_browser_calls_a_soft_phone(pool: Pool, open_phone: Open, kind: type[Baresip | Linphone]) -> None:
    """Voice and video between the two, encrypted on the one side and plain on the other; either hangs up."""
    pool.set(registrar=1, expires=120, learn=1, learned=1)
    async with open_phone("alice") as alice, kind.at("soft", f"sip:bob@{ALIAS}", pool.primary.uri) as bob:
        await alice.register()
        await alice.call(f"sip:bob@{ALIAS}", video=True)
        await asyncio.gather(heard(alice), heard(bob))
        await alice.hang_up()
        await bob.ended()
        await asyncio.gather(bob.call(f"sip:alice@{ALIAS}"), alice.answer(video=True))
        await asyncio.gather(heard(alice), heard(bob))
        await bob.hang_up()
        await alice.ended()
    await idle(*pool.proxies)
