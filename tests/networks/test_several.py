"""Several networks on one pool: on the Internet proxies have other addresses, and nobody reaches the other network."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator, Sequence

import pytest

from e2e.embedded.network import add_host
from tests.networks.conftest import PBX
from tests.networks.test_nat import call_back, media, phone_at, register, talk, using
from tests.tools.clients.baresip import Baresip
from tests.tools.clients.counts import heard
from tests.tools.clients.linphone import Linphone
from tests.tools.message import hop, uri_in
from tests.tools.nat import HOST, home
from tests.tools.pool import ALIAS, Pool, idle
from tests.tools.proxies import Proxy, fleet
from tests.tools.rtp import streams
from tests.tools.sip import Phone
from tests.tools.transport import Protocol

HERE, INTERNET = "198.18.3", "198.18.145"  # the proxies' addresses, by network
ENTRY = f"{INTERNET}.9"  # the pool's Service there
PORT = 5070
LISTEN = f"udp:5060 tcp:5060 udp:{PORT}@{INTERNET}.{{number}} tcp:{PORT}@{INTERNET}.{{number}}"
ROUTER, OFFICE = "198.18.141.1", "198.18.147.1"
RULES = [
    # who is where
    f"filter ip saddr {ROUTER} ip daddr {HERE}.0/24 drop",
    f"filter ip saddr {PBX} ip daddr {INTERNET}.0/24 drop",
    # the Service
    f"entry ip daddr {ENTRY} udp dport {PORT} dnat to {HERE}.1:{PORT + 10000}",
    f"entry ip daddr {ENTRY} tcp dport {PORT} dnat to {HERE}.1:{PORT}",
    # one to one
    *(f"entry ip daddr {INTERNET}.{number} dnat to {HERE}.{number}" for number in (1, 2)),
    *(f"exit ip saddr {HERE}.{number} ip daddr {ROUTER} snat to {INTERNET}.{number}" for number in (1, 2)),
]


@pytest.fixture(scope="module")
def proxies(network: None) -> Iterator[Sequence[Proxy]]:
    """Two, in both networks."""
    home("carol", ROUTER)
    add_host("office", OFFICE)
    hooks = {"filter": "filter hook prerouting priority -300", "entry": "nat hook prerouting priority -100"}
    hooks["exit"] = "nat hook postrouting priority 100"
    chains = [f"add chain ip several {name} {{ type {hook}; }}" for name, hook in hooks.items()]
    for command in ("add table ip several", *chains, *(f"add rule ip several {rule}" for rule in RULES)):
        subprocess.run(["nft", command], check=True)
    for number in (1, 2):
        subprocess.run(["ip", "address", "add", f"{HERE}.{number}/32", "dev", "lo"], check=True)
    with fleet(2, HERE, LISTEN=LISTEN) as started:
        yield started


def addresses(sdp: str, entries: list[str]) -> set[str]:
    """All that SDP and route set say of the proxies' addresses, without their last number."""
    hosts = [ip for ip, _ in streams(sdp).values()] + [hop(uri_in(entry))[0] for entry in entries]
    return {host.rpartition(".")[0] for host in hosts}


@pytest.mark.parametrize("serving", ["the primary", "another proxy"])
@pytest.mark.parametrize("protocol", ["udp", "tcp"])
async def test_calls(pool: Pool, pbx: Phone, protocol: Protocol, serving: str) -> None:
    """Who calls from the Internet is given the proxies' addresses there, in SIP and SDP; the PBX, those here."""
    pool.set(mode="redirect")
    pool.table(*((5, 0) if serving == "the primary" else (0, 5)))
    connections = [(f"{INTERNET}.1", PORT), (ENTRY, PORT)]
    async with (
        phone_at("carol", protocol, connections) as carol,
        media("carol", HOST) as mine,
        media("pbx", PBX) as theirs,
    ):
        pbx.script = using(theirs)
        call = await carol.call(f"sip:echo@{ENTRY}:{PORT}", body=mine.sdp)
        assert call.status == 200
        incoming = pbx.incoming[0]
        assert call.dialog is not None
        assert addresses(call.remote_sdp, call.dialog.routes[:1]) == {INTERNET}
        assert addresses(incoming.remote_sdp, incoming.dialog.routes[:1]) == {HERE}  # type: ignore[union-attr]  # it has one
        await talk(mine, call.remote_sdp, theirs, incoming.remote_sdp)
        assert (await incoming.request("INVITE", body=theirs.sdp)).message.status == 200
        assert addresses(call.remote_sdp, []) == {INTERNET}
        assert (await call.request("INVITE", body=mine.sdp)).message.status == 200
        assert addresses(incoming.remote_sdp, []) == {HERE}
        assert await incoming.bye() == 200
    await idle(*pool.proxies)


@pytest.mark.parametrize("serving", ["the primary", "another proxy"])
@pytest.mark.parametrize("protocol", ["udp", "tcp"])
async def test_is_called(pool: Pool, pbx: Phone, protocol: Protocol, serving: str) -> None:
    """Who has registered from the Internet is called there, with the addresses of there; the Path has those of here."""
    connections = [(f"{INTERNET}.1", PORT), (ENTRY, PORT)]
    async with (
        phone_at("carol", protocol, connections) as carol,
        media("carol", HOST) as theirs,
        media("pbx", PBX) as mine,
    ):
        pool.table(5, 0)
        assert (await register(carol, (ENTRY, PORT))).message.status == 200
        assert addresses("", pbx.requests("REGISTER")[0].message.all("Path")) == {HERE}
        if serving == "another proxy":
            pool.primary.admit(0)
            pool.table(0, 5)
        carol.script = using(theirs)
        call = await call_back(pbx, carol, mine.sdp)
        assert call.status == 200
        incoming = carol.incoming[0]
        assert addresses(call.remote_sdp, call.dialog.routes[:1]) == {HERE}  # type: ignore[union-attr]  # it has one
        assert addresses(incoming.remote_sdp, incoming.dialog.routes[:1]) == {INTERNET}  # type: ignore[union-attr]  # as above
        await talk(mine, call.remote_sdp, theirs, incoming.remote_sdp)
        assert (await call.request("INVITE", body=mine.sdp)).message.status == 200
        assert await incoming.bye() == 200
    await idle(*pool.proxies)


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
@pytest.mark.parametrize(("away", "here"), [(Linphone, Baresip), (Baresip, Linphone)], ids=["linphone", "baresip"])
async def test_soft_phones(
    pool: Pool, away: type[Baresip | Linphone], here: type[Baresip | Linphone], protocol: Protocol
) -> None:
    """One behind its router, on the Internet, and one in the office: either calls the other, with voice and video."""
    pool.set(registrar=1, expires=120, learn=1, learned=1)
    for proxy in pool.proxies:
        proxy.control.set("alias", ENTRY, 1)
    own, office = f"sip:{ENTRY}:{PORT};transport={protocol}", f"sip:{HERE}.1:5060"
    async with (
        away.at("carol", f"sip:carol@{ALIAS}", own) as carol,
        here.at("office", f"sip:dave@{ALIAS}", office) as dave,
    ):
        for caller, called in ((carol, dave), (dave, carol)):
            await caller.call(called.uri)
            await asyncio.gather(heard(caller), heard(called))
            await called.hang_up()
            await caller.ended()
    await idle(*pool.proxies)
