"""Claims on gateways: who gets in, and with which rights; every kind, in both directions, and past those that fail."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from e2e import product
from tests.claims.exchange import PLACES, Exchange
from tests.tools import answers
from tests.tools.asterisk import asterisk
from tests.tools.digest import REALM, challenges, credentials
from tests.tools.sip import Phone
from tests.tools.wait import until

WITH_SIP = ("voip", "pstn", "media", "router")
NATIONAL = "0301234"
PASSWORD = "battery-staple"


def gateway(name: str, ip: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "networks": [f"{ip}/32"], "targets": [f"sip:{ip}:5060"], **fields}


async def test_c12_access_through_gateways(exchange: Exchange, address: Callable[[], str]) -> None:
    """C12: clients reach the network through gateways, which control access: only configured ones, by their rights."""
    async with (
        Phone.at(address()) as first,
        Phone.at(address()) as second,
        Phone.at(address(), protocol="tcp") as stranger,
    ):
        one, two = (phone.endpoint.address[0] for phone in (first, second))
        await exchange.open(
            replicas=2,
            clients={"networks": [f"{exchange.phone.endpoint.address[0]}/32"]},
            gateways=[
                gateway("one", one, kind="pstn", rights={"prefixes": ["+4930"]}),
                gateway("two", two, kind="router", rights={"register": False}),
            ],
        )
        number = exchange.service.replace("bob", "{}")
        for phone, called, status in (
            (first, "+49301", 200),
            (first, "+49401", 403),
            (second, "+49401", 200),
            (stranger, "+49301", 403),
        ):
            uri = number.format(called) + (";transport=tcp" if phone is stranger else "")
            call = await phone.call(uri)
            assert call.status == status, (phone.endpoint.address, called)
            if status == 200:
                assert await call.bye() == 200
        assert (await (await first.request("REGISTER", exchange.service)).final()).message.status == 200
        assert (await (await second.request("REGISTER", exchange.service)).final()).message.status == 403
        assert len(exchange.pbx.incoming) == 2


def secret(name: str, **entries: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": entries}


async def test_c12_gateways_with_passwords(exchange: Exchange, address: Callable[[], str]) -> None:
    """C12: a gateway that comes from anywhere is known by its password, and a carrier that asks for ours gets it."""
    secrets = (
        secret("edge-users", passwords=f"trunk-1:{PASSWORD}\n"),
        secret("carrier-login", username="pool", password=PASSWORD),
    )
    product.apply(*secrets, namespace=exchange.pool.namespace)
    async with Phone.at(address()) as trunk, AsyncExitStack() as stack:
        here = address()
        carrier = stack.enter_context(asterisk(here, password=PASSWORD))
        await exchange.open(
            replicas=2,
            clients={"networks": ["198.18.0.0/15"], "auth": {"secretName": "edge-users", "realm": REALM}},
            gateways=[
                {"name": "trunk", "kind": "pstn", "username": "trunk-1", "rights": {"prefixes": ["00"]}},
                gateway("carrier", here, kind="pstn", credentials={"secretName": "carrier-login"}),
            ],
            routes=[{"name": "out", "gateway": "carrier"}],
        )
        for number, password, status in (("00123", "guess", 407), ("+49", PASSWORD, 403), ("00123", PASSWORD, 200)):
            uri = exchange.service.replace("bob", number)
            asked = await trunk.call(uri)
            proof = credentials(challenges(asked.final)[0], "INVITE", uri, password, user="trunk-1")
            call = await trunk.call(uri, headers=[proof], within=15)
            assert (asked.status, call.status) == (407, status), number
        assert "00123" in carrier.command("core show channels concise")
        assert await call.bye() == 200


async def test_c13_every_kind_of_gateway(exchange: Exchange, address: Callable[[], str]) -> None:
    """C13: calls come in from and go out through VoIP, PSTN, media, H.323 gateways and routers; past failed ones."""
    async with AsyncExitStack() as stack:
        failing = {kind: await stack.enter_async_context(Phone.at(address(), 5060)) for kind in (*WITH_SIP, "h323")}
        working = {kind: await stack.enter_async_context(Phone.at(address(), 5060)) for kind in WITH_SIP}
        here, beyond = address(), address()
        terminal = stack.enter_context(asterisk(beyond, other=here))
        h323 = stack.enter_context(asterisk(here, other=beyond))
        hosts = {kind: phone.endpoint.address[0] for kind, phone in working.items()} | {"h323": here}
        gateways, routes = [], []
        for digit, (kind, ip) in enumerate(hosts.items(), 1):
            failing[kind].script = answers.refuse(503)
            # the H.323 gateway has its own numbers: its dialplan takes 7 off, the terminal's echo is at 00...
            numbers = {"outgoing": {"strip": 1, "prefix": "700"}} if kind == "h323" else {}
            gateways.append(gateway(f"{kind}-1", failing[kind].endpoint.address[0], kind=kind))
            gateways.append(gateway(f"{kind}-2", ip, kind=kind, numbers=numbers))
            routes += [
                {"name": f"{kind}-{order}", "prefix": str(digit), "priority": order, "gateway": f"{kind}-{order}"}
                for order in (1, 2)
            ]
        pbx = {"name": "pbx", "prefix": NATIONAL, "targets": [f"sip:{exchange.pbx.endpoint.address[0]}:5060"]}
        await exchange.open(replicas=2, gateways=gateways, routes=[*routes, pbx])
        number = exchange.service.replace("bob", "{}")
        for digit, kind in enumerate(hosts, 1):
            call = await exchange.phone.call(number.format(f"{digit}123"))
            assert call.status == 200, kind
            assert len(failing[kind].incoming) == 1, f"{kind}: the one that fails was tried first"
            if kind == "h323":
                assert "OOH323/" in terminal.command("core show channels concise")
            else:
                assert len(working[kind].incoming) == 1
            assert await call.bye() == 200
        for kind, phone in working.items():
            call = await phone.call(number.format(NATIONAL))
            assert call.status == 200, kind
            assert await call.bye() == 200
        h323.command(f"dialplan set global POOL {exchange.service.partition('@')[2].partition(':')[0]}")
        terminal.command(f"channel originate OOH323/{NATIONAL}@other extension *43@calls")
        incoming = await exchange.pbx.expect_call(number=len(working))
        await incoming.acked.wait()
        assert await incoming.bye() == 200
        await until(lambda: "OOH323/" not in terminal.command("core show channels concise"), "the H.323 call has ended")


async def test_c13_a_carrier_that_sees_one_proxy(exchange: Exchange, address: Callable[[], str]) -> None:
    """C13: a carrier with hideTopology gets calls from all proxies, and sees neither the others nor the client."""
    async with Phone.at(address(), 5060) as carrier:
        ip = carrier.endpoint.address[0]
        await exchange.open(
            replicas=2,
            gateways=[gateway("carrier", ip, kind="pstn", hideTopology=True)],
            routes=[{"name": "out", "gateway": "carrier"}],
        )
        for _ in range(2 * PLACES):
            assert (await exchange.call()).status == 200
        assert len({call.served_by for call in carrier.incoming}) == 2
        for call in carrier.incoming:
            assert (await call.request("INVITE", body=call.sdp)).message.status == 200
        await exchange.hang_up()
        for packet in carrier.log:
            text = packet.raw.decode().replace(packet.message.call_id, "")
            assert set(re.findall(r"\d+\.\d+\.\d+\.\d+", text)) <= {ip, packet.source[0]}, text
