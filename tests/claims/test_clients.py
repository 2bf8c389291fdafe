"""The claim on kinds of clients, with the programs that people use."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

from e2e.embedded.network import add_host
from tests.claims.exchange import Exchange
from tests.claims.test_gateways import NATIONAL, gateway
from tests.cluster.test_listeners import give
from tests.tools.asterisk import Asterisk, asterisk
from tests.tools.certificates import Authority
from tests.tools.clients.baresip import Baresip
from tests.tools.clients.chromium import chromium
from tests.tools.clients.counts import heard
from tests.tools.clients.linphone import Linphone
from tests.tools.clients.sipp import Server, calling
from tests.tools.clients.webphone import WebPhone, site
from tests.tools.nat import inside
from tests.tools.pool import ALIAS
from tests.tools.rtp import KINDS, Media
from tests.tools.sessions import Incoming
from tests.tools.wait import until

HOSTS = {"c14-browser": "198.18.147.1", "c14-baresip": "198.18.147.2", "c14-linphone": "198.18.147.3"}
LISTEN = [
    {"transport": "UDP", "port": 5060},
    {"transport": "TCP", "port": 5060},
    {"transport": "WSS", "port": 8443, "secretName": "edge-tls"},
]
CALLED = f"sip:echo@{ALIAS}"
PLACES, THRESHOLD = 5, 0.5  # of each proxy
PACKETS = 25

Place = Callable[[], Awaitable[object]]  # what has a client call


class Called:
    """Whom they call: it sends back what it gets from a phone with media of its own, and sends to the others."""

    def __init__(self, exchange: Exchange, sends: Media, echoes: Media) -> None:
        self._exchange = exchange
        self._sends = sends
        self._echoes = echoes
        self.calls: list[Incoming] = []

    async def by(self, place: Place, *kinds: str) -> None:
        """A call, which is held; it is at a proxy that was below the threshold, and these kinds of media are heard."""
        before = await self._exchange.reported(len(self.calls))
        media = self._sends if kinds else self._echoes

        async def script(incoming: Incoming) -> None:
            incoming.sdp = media.sdp if kinds != ("audio",) else media.sdp.partition("m=video")[0]
            await incoming.answer()

        self._exchange.pbx.script = script
        await place()
        call = await self._exchange.pbx.expect_call(number=len(self.calls))
        await until(call.acked.is_set, "its ACK")
        self.calls.append(call)
        serving = before[await self._exchange.pod_at(call.served_by)]
        assert serving.workload < THRESHOLD, f"{call.invite.header('From')} at {serving}"
        if kinds:
            await self._said_back(call, kinds)

    async def _said_back(self, call: Incoming, kinds: tuple[str, ...]) -> None:
        before = self._sends.counts()

        async def back() -> bool:
            await self._sends.send(call.remote_sdp, PACKETS)
            after = self._sends.counts()
            return all(after[kind][1] - before[kind][1] >= PACKETS for kind in kinds)

        await until(back, f"{kinds} from {call.invite.header('From')}")


def dialling(asterisk: Asterisk, number: str) -> Place:
    """A handset there, which says what it hears, calls that number."""
    command = f"channel originate {number} extension *43@calls"
    return lambda: asyncio.to_thread(asterisk.command, command)


async def from_a_soft_phone(kind: type[Baresip | Linphone], stack: AsyncExitStack, pool: str, called: Called) -> None:
    name = kind.__name__.lower()
    opened: AbstractAsyncContextManager[Baresip | Linphone]
    opened = kind.at(f"c14-{name}", f"sip:{name}@{ALIAS}", f"sip:{pool}:5060")
    phone: Baresip | Linphone = await stack.enter_async_context(opened)
    await called.by(lambda: phone.call(CALLED))
    await heard(phone)


async def from_a_browser(stack: AsyncExitStack, pool: str, called: Called, certificate: bytes) -> None:
    with inside("c14-browser"):
        browser = await stack.enter_async_context(chromium(certificate))
        page = await stack.enter_async_context(site())
    phone = await stack.enter_async_context(WebPhone.at(browser, page, f"sip:web@{ALIAS}", f"wss://{pool}:8443/ws"))
    await phone.register()
    await called.by(lambda: phone.call(CALLED, video=True))
    await heard(phone)


async def test_c14_every_kind_of_client(exchange: Exchange, address: Callable[[], str], tmp_path: Path) -> None:
    """C14: phones that follow a 302, soft phones and a browser with voice and video, an analogue phone behind a router,
    a mobile phone behind a PSTN gateway, an H.323 terminal: each gets a proxy below the threshold, and is heard.
    """
    secret = Authority().secret()
    await give(exchange.pool, secret)
    for host, ip in HOSTS.items():
        add_host(host, ip)
    behind = {kind: address() for kind in ("router", "pstn", "h323")}
    gateways = [gateway(f"{kind}-1", ip, kind=kind) for kind, ip in behind.items()]
    async with AsyncExitStack() as stack:
        beyond = address()
        terminal = stack.enter_context(asterisk(beyond, other=behind["h323"]))
        h323 = stack.enter_context(asterisk(behind["h323"], other=beyond))
        router = stack.enter_context(asterisk(behind["router"]))
        capacity, mode = {"calls": round(PLACES / THRESHOLD)}, {"mode": "redirect"}
        await exchange.open(
            threshold=f"{THRESHOLD:.0%}", capacity=capacity, assignment=mode, listen=LISTEN, gateways=gateways
        )
        pool = exchange.service.partition("@")[2].partition(":")[0]
        ip = exchange.pbx.endpoint.address[0]
        sends, echoes = [await stack.enter_async_context(Media.at(ip, echo=back)) for back in (False, True)]
        called = Called(exchange, sends, echoes)

        async def sipp(ip: str, user: str) -> None:
            stack.enter_context(calling(Server(pool, "udp"), ip, user, tmp_path, transfer_to=""))

        # the primary may take some calls itself
        while not sum(report.redirected for report in (await exchange.reports()).values()):
            await called.by(lambda: sipp(address(), f"phone-{len(called.calls)}"), *KINDS)

        await exchange.pool.patch(assignment={"mode": "forward"})
        await exchange.pool.ready(3)
        await called.by(lambda: sipp(behind["pstn"], "+491701234567"), *KINDS)
        await called.by(dialling(router, f"PJSIP/pool/sip:{NATIONAL}@{pool}:5060"), "audio")
        h323.command(f"dialplan set global POOL {pool}")
        await called.by(dialling(terminal, f"OOH323/{NATIONAL}@other"), "audio")

        await from_a_soft_phone(Baresip, stack, pool, called)
        await from_a_soft_phone(Linphone, stack, pool, called)
        await from_a_browser(stack, pool, called, secret["tls.crt"])

        reports = await exchange.reported(len(called.calls))
        assert max(report.calls for report in reports.values()) == PLACES, "one was at the threshold"
        assert {report.over_threshold for report in reports.values()} == {0}
        assert [await call.bye() for call in called.calls] == [200] * len(called.calls)
