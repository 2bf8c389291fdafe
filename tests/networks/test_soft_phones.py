"""Soft phones, baresip and linphone, with voice and video, calling each other; their packets counted."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

import pytest

from e2e.embedded.network import add_host
from switchboard.pool.spec import ClientMode
from tests.networks.conftest import PBX
from tests.sip.test_listeners import answering_with
from tests.sip.test_registrar import locations
from tests.tools.certificates import HOST, Authority
from tests.tools.clients.baresip import Baresip
from tests.tools.clients.counts import heard
from tests.tools.clients.documented import UNASKED
from tests.tools.clients.linphone import Linphone
from tests.tools.digest import REALM, ha1
from tests.tools.listeners import PORTS, SECRET
from tests.tools.nat import inside
from tests.tools.pool import ALIAS, Pool, idle
from tests.tools.proxies import Proxy, fleet
from tests.tools.rtp import Media
from tests.tools.sip import Phone
from tests.tools.transport import Protocol
from tests.tools.wait import until

PROXIES, HOSTS = "198.18.5", "198.18.146"
USERS = ("alice", "bob", "carol")  # each on a host of that name
SILENCE_SECONDS = 3
PASSWORD = "correct-horse"

SoftPhone = Baresip | Linphone
Kind = type[SoftPhone]
Start = Callable[..., contextlib.AbstractAsyncContextManager[SoftPhone]]  # of a kind, a user, over a transport
OTHER: dict[Kind, Kind] = {Baresip: Linphone, Linphone: Baresip}
ALGORITHMS: dict[Kind, list[str]] = {Baresip: ["MD5"], Linphone: ["SHA-256", "MD5"]}
TRANSPORTS: list[Protocol] = ["udp", "tcp", "tls"]
EACH = pytest.mark.parametrize("kind", OTHER, ids=lambda kind: kind.__name__.lower())
OVER = pytest.mark.parametrize("transport", TRANSPORTS)
IN = pytest.mark.parametrize("mode", ["forward", "redirect"])
ENCRYPTING: dict[Kind, str] = {
    Baresip: ";mediaenc=srtp-mand",
    Linphone: "[sip]\nmedia_encryption=srtp\nmedia_encryption_mandatory=1\n",
}
BARESIP = ClientMode(mode="forward", user_agents=("baresip",))


@pytest.fixture(scope="module")
def proxies(network: None, authority: Authority) -> Iterator[Sequence[Proxy]]:
    """With TLS, and a short time-out for media."""
    for number in (1, 2):
        subprocess.run(["ip", "address", "add", f"{PROXIES}.{number}/32", "dev", "lo"], check=True)
    for number, user in enumerate(USERS, 1):
        add_host(f"soft-{user}", f"{HOSTS}.{number}")
    secrets = {SECRET: authority.secret(HOST, *(f"{PROXIES}.{number}" for number in (1, 2)))}
    listen = f"udp:5060 tcp:5060 tls:5061/{SECRET}"
    with fleet(2, PROXIES, secrets=secrets, media_timeout_seconds=SILENCE_SECONDS, LISTEN=listen) as started:
        yield started


@pytest.fixture
def mode() -> str:
    """Of tests that do not have it as a parameter."""
    return "forward"


@pytest.fixture
def start(pool: Pool, authority: Authority, mode: str) -> Start:
    """Starts the phone of a user, who is registered at the pool then; in mode redirect calls lead to the member."""
    pool.set(registrar=1, expires=120, learn=1, learned=1, mode=mode)
    if mode == "redirect":
        pool.table(0, 5)

    @contextlib.asynccontextmanager
    async def at(
        kind: Kind, user: str, transport: Protocol = "udp", password: str = UNASKED, **more: str
    ) -> AsyncIterator[SoftPhone]:
        pool.modes(BARESIP)  # it follows no 302 to its REGISTER
        server = f"sip:{pool.primary.ip}:{PORTS[transport]};transport={transport}"
        async with kind.at(f"soft-{user}", f"sip:{user}@{ALIAS}", server, password, authority.pem, **more) as phone:
            pool.modes()
            yield phone

    return at


@IN
@OVER
@EACH
@pytest.mark.client(does=("calls", "is called", "media", "holds", "hangs up"))
async def test_it_calls_and_is_called(pool: Pool, start: Start, kind: Kind, transport: Protocol, mode: str) -> None:
    """It holds and resumes, and has voice and video in both directions again; either side hangs up."""
    async with start(kind, "alice", transport) as alice, start(OTHER[kind], "bob") as bob:
        before = pool.count("redirected")
        await alice.call(f"sip:bob@{ALIAS}")
        assert pool.count("redirected") - before == (mode == "redirect" and transport != "tls")
        assert [proxy.calls for proxy in pool.proxies] == ([0, 1] if mode == "redirect" else [1, 0])
        await asyncio.gather(heard(alice), heard(bob))
        await asyncio.gather(alice.hold(), bob.held())
        await alice.resume()
        await asyncio.gather(heard(alice), heard(bob))
        await bob.hang_up()
        await alice.ended()
        await bob.call(f"sip:alice@{ALIAS}")
        await asyncio.gather(heard(alice), heard(bob))
        await alice.hang_up()
        await bob.ended()
    await idle(*pool.proxies)


@IN
@OVER
@EACH
@pytest.mark.client(does=("transfers",))
async def test_it_transfers(pool: Pool, start: Start, kind: Kind, transport: Protocol) -> None:
    """It sends the one that it talks to on to a third, who is called by them then, with voice and video."""
    async with (
        start(kind, "alice", transport) as alice,
        start(OTHER[kind], "bob") as bob,
        start(kind, "carol", transport) as carol,
    ):
        await alice.call(f"sip:bob@{ALIAS}")
        await asyncio.gather(heard(alice), heard(bob))
        await alice.transfer(f"sip:carol@{ALIAS}")
        await asyncio.gather(heard(bob), heard(carol))
        await carol.hang_up()
    await idle(*pool.proxies)


@IN
@OVER
@EACH
@pytest.mark.client(does=("is cut off",))
async def test_it_is_cut_off(pool: Pool, start: Start, kind: Kind, transport: Protocol) -> None:
    """It is killed within a call: once media has been silent for the time-out, the call ends at the other side."""
    with inside("pbx"):
        async with Media.at(PBX, echo=True) as media, Phone.at(PBX, 5060, user="echo") as phone:
            phone.script = answering_with(media)
            async with start(kind, "alice", transport) as alice:
                await alice.call(f"sip:echo@{ALIAS}")
                await heard(alice)
            await phone.expect("BYE")
    await idle(*pool.proxies)


@OVER
@EACH
@pytest.mark.client(does=("registers",))
async def test_it_authenticates(pool: Pool, start: Start, kind: Kind, transport: Protocol) -> None:
    """It is asked for its password when it registers and when it calls; baresip knows MD5 alone."""
    for proxy in pool.proxies:
        for algorithm in ALGORITHMS[kind]:
            proxy.control.set("ha1", f"{algorithm}:alice", ha1(algorithm, "alice", PASSWORD))
    async with start(OTHER[kind], "bob") as bob:
        pool.set(realm=REALM, digests=",".join(ALGORITHMS[kind]))
        async with start(kind, "alice", transport, PASSWORD) as alice:
            await alice.call(f"sip:bob@{ALIAS}")
            await alice.hang_up()
            await bob.ended()
    await idle(*pool.proxies)


@EACH
async def test_it_encrypts(pool: Pool, start: Start, kind: Kind) -> None:
    """It insists on SRTP, its keys in SDP (SDES), over TLS, in calls that it places or gets; the other side has plain
    RTP, and puts it on hold.
    """
    async with start(kind, "alice", "tls", more=ENCRYPTING[kind]) as alice, start(OTHER[kind], "bob") as bob:
        await alice.call(f"sip:bob@{ALIAS}")
        await asyncio.gather(heard(alice), heard(bob))
        await asyncio.gather(bob.hold(), alice.held())
        await bob.resume()
        await asyncio.gather(heard(alice), heard(bob))
        await alice.hang_up()
        await bob.ended()
        await bob.call(f"sip:alice@{ALIAS}")
        await asyncio.gather(heard(alice), heard(bob))
        await asyncio.gather(bob.hold(), alice.held())
        await bob.resume()
        await asyncio.gather(heard(alice), heard(bob))
        await bob.hang_up()
        await alice.ended()
    await idle(*pool.proxies)


@pytest.mark.parametrize("mode", ["redirect"])
@OVER
@EACH
@pytest.mark.client(does=("registers",))
async def test_it_registers_in_mode_redirect(pool: Pool, start: Start, kind: Kind, transport: Protocol) -> None:
    """By a 302, to the proxy that has room; over TLS there is none, and baresip is sent none, by a rule."""
    async with start(kind, "alice", transport):
        assert pool.count("redirected") == (kind is Linphone and transport != "tls")


async def test_baresip_has_two_flows(pool: Pool, start: Start) -> None:
    """With an account that keeps flows (RFC 5626) to two proxies it rings once; when one proxy is gone, over the other
    flow.
    """
    primary, member = pool.proxies
    flows = f';sipnat=outbound;outbound2="{member.uri};transport=tcp"'
    async with start(Baresip, "alice") as alice, start(Baresip, "bob", "tcp", more=flows) as bob:
        await until(lambda: reg_ids(primary) == [1, 2], "both flows are known")
        await alice.call(f"sip:bob@{ALIAS}")
        await asyncio.gather(heard(alice), heard(bob))
        await bob.hang_up()
        await alice.ended()
        member.kill()
        Pool((primary,)).table(100)
        await alice.call(f"sip:bob@{ALIAS}")
        await asyncio.gather(heard(alice), heard(bob))
        await alice.hang_up()
        await bob.ended()
    await idle(primary)


def reg_ids(proxy: Proxy) -> list[int]:
    """Of bob's flows."""
    found = [record["Contacts"] for record in locations(proxy) if record["AoR"] == "bob@pool.invalid"]
    return sorted(one["Contact"]["Reg-Id"] for contacts in found for one in contacts)
