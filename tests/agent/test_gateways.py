"""Gateways' calls are reported and limited, refusals and targets' health are told to Prometheus."""

import asyncio

from switchboard.pool.gateways import InUse
from switchboard.pool.spec import Gateway, HealthChecks, Rights
from switchboard.pool.table import GatewayCalls
from tests.agent.pod import Operator, Pod, settings
from tests.tools.addresses import PSTN, TARGETS
from tests.tools.sip import Phone

PBX = f"{TARGETS}.1"
GATEWAY = f"{PSTN}.1"


def with_gateway(**rights: object) -> Gateway:
    return Gateway(name="pstn-1", kind="pstn", networks=(f"{PSTN}.0/24",), rights=Rights(**rights))  # type: ignore[arg-type]  # any right


async def scraped(pod: Pod) -> str:
    """What Prometheus gets."""
    curl = await asyncio.create_subprocess_exec(
        *("curl", "--silent", "--insecure", f"https://{pod.link}/metrics"), stdout=asyncio.subprocess.PIPE
    )
    return (await curl.communicate())[0].decode()


async def test_calls_of_a_gateway(pod: Pod, operator: Operator) -> None:
    """What arrived from a limited gateway and what is in use of it is reported; the limit holds with the ack of the
    table that says how much is in use elsewhere.
    """
    limited = settings(calls=10, target=f"sip:{PBX}:5060", gateways=(with_gateway(max_calls=3),))
    await operator.configure(limited, peers=(pod.peer,))
    await operator.tick(7)
    await operator.table(pod.row(room=10), gateways={"pstn-1": InUse(2, 4)})
    await operator.role("primary")
    async with Phone.at(GATEWAY) as gateway, Phone.at(PBX, 5060):
        call = await gateway.call(f"sip:bob@{pod.address}:5060")
        assert call.status == 200
        one = GatewayCalls(1, {pod.proxy.id: {7: 1}})
        await operator.hears(lambda report: report.gateways == {"pstn-1": one}, within=3)
        assert (await gateway.call(f"sip:bob@{pod.address}:5060")).status == 503
        await operator.table(pod.row(room=9), gateways={"pstn-1": InUse(1, 4)})
        other = await gateway.call(f"sip:bob@{pod.address}:5060")
        assert other.status == 200
        assert {await call.bye(), await other.bye()} == {200}
        ended = GatewayCalls(0, {pod.proxy.id: {7: 2}})
        await operator.hears(lambda report: report.gateways == {"pstn-1": ended}, within=3)
    await operator.configure(settings(calls=10, gateways=(with_gateway(),)), peers=(pod.peer,))
    await operator.hears(lambda report: not report.gateways, within=3)


async def test_what_prometheus_is_told(pod: Pod, operator: Operator) -> None:
    """Refusals by gateway and reason, strangers, and which targets answer their checks."""
    dead = f"sip:{TARGETS}.9:5060"
    await operator.configure(
        settings(
            target=dead,
            client_networks=("192.0.2.0/24",),
            gateways=(with_gateway(register=False),),
            health_checks=HealthChecks(period_seconds=1, threshold=1),
        )
    )
    await operator.role("primary")
    async with Phone.at(GATEWAY) as gateway, Phone.at(f"{PSTN.rpartition('.')[0]}.98.1", protocol="tcp") as stranger:
        refused = await (await gateway.request("REGISTER", f"sip:{pod.address}:5060")).final()
        assert refused.message.status == 403
        assert (await stranger.call(f"sip:bob@{pod.address}:5060")).status == 403

    await operator.hears(lambda report: report.dead_targets == (dead,), within=10)
    text = await scraped(pod)
    assert (
        f'switchboard_proxy_target_up{{namespace="voice",pool="edge",proxy="{pod.name}",target="{dead}"}} 0.0' in text
    )
    whose = f'namespace="voice",pool="edge",proxy="{pod.name}"'
    labels = f'gateway="pstn-1",{whose},reason="register"'
    assert f"switchboard_proxy_gateway_requests_refused_total{{{labels}}} 1.0" in text
    assert f"switchboard_proxy_requests_denied_total{{{whose}}} 1.0" in text
