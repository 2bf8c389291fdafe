"""Gateways of a pool: rights that change while calls go on; calls out through them, by name and past dead ones."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from e2e.embedded.network import add_host
from switchboard.control.kube import Object
from tests.cluster.world import PBX, Pool
from tests.tools.sipp import Sipp, caller
from tests.tools.wait import until

CARRIER, BUSY_CARRIER = "198.18.131.1", "198.18.132.1"
NAME_SERVER = "198.18.200.53"
NOBODY = "198.18.200.9"
AGENT_PORT = 7443


def gateway(name: str, ip: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "kind": "pstn", "networks": [f"{ip}/32"], **fields}


async def calls_from(pool: Pool, ip: str, user: str, calls: int = 5, **options: Any) -> Sipp:
    """A gateway's host calls that user through the Service."""
    prefix = add_host(f"gateway{ip.split('.')[2]}", ip)
    target = f"{await pool.address()}:5060"
    return caller(target, ip, pool.directory, calls=calls, rate=10, user=user, prefix=prefix, **options)


def metrics(pod: Object) -> str:
    """What the agent of a proxy tells Prometheus."""
    url = f"https://{pod['status']['podIP']}:{AGENT_PORT}/metrics"
    return subprocess.run(["curl", "--silent", "--insecure", url], capture_output=True, text=True, check=True).stdout


async def refused(pool: Pool) -> dict[str, float]:
    """Refused requests of gateways at all proxies, by gateway and reason."""
    counts: dict[str, float] = {}
    for pod in (await pool.pods()).values():
        for line in metrics(pod).splitlines():
            if line.startswith("switchboard_proxy_gateway_requests_refused_total{"):
                labels = dict(part.split("=") for part in line.partition("{")[2].partition("}")[0].split(","))
                key = f"{labels['gateway']} {labels['reason']}".replace('"', "")
                counts[key] = counts.get(key, 0) + float(line.rsplit(maxsplit=1)[1])
    return counts


async def test_rights_are_changed_while_calls_go_on(pool: Pool) -> None:
    """A gateway calls what is its right and not too often; a change of rights restarts nothing and drops no call."""
    carrier = gateway("carrier", CARRIER, rights={"prefixes": ["+4930"]})
    busy = gateway("busy", BUSY_CARRIER, rights={"maxCallsPerSecond": 2})
    pool.apply(replicas=2, gateways=[carrier, busy])
    await pool.ready(2)
    before = set(await pool.pods())
    with pool.pbx(), await calls_from(pool, CARRIER, "+49301", hold_seconds=8, port=5070) as standing:
        with await calls_from(pool, CARRIER, "+4940", refused_status=403) as load:
            assert load.wait(30).refused == 5, load.errors()
        with await calls_from(pool, BUSY_CARRIER, "+4940", calls=20) as load:
            result = load.wait(30)
        assert result.refused > 0, load.errors()
        assert result.completed == 20 - result.refused
        assert await refused(pool) == {"carrier prefix": 5, "busy rate": result.refused}
        await pool.patch(gateways=[gateway("carrier", CARRIER), busy])
        await pool.ready(2)
        with await calls_from(pool, CARRIER, "+4940", refused_status=403) as load:
            assert load.wait(30).completed == 5, load.errors()
        held = standing.wait(30)
    assert (held.completed, held.failed) == (5, 0), standing.errors()
    assert set(await pool.pods()) == before


async def test_calls_at_a_time_in_the_whole_pool(pool: Pool) -> None:
    """Of a burst a gateway gets the calls that it may have, on whatever proxies, and not one more; when they have ended
    it gets as many again.
    """
    pool.apply(replicas=3, capacity={"calls": 5}, gateways=[gateway("carrier", CARRIER, rights={"maxCalls": 7})])
    await pool.ready(3)
    with pool.pbx():
        for _ in range(2):
            with await calls_from(pool, CARRIER, "+49301", calls=20, hold_seconds=8) as load:
                result = load.wait(40)
            assert (result.completed, result.refused) == (7, 13), load.errors()
    assert await refused(pool) == {"carrier calls": 26}


@contextmanager
def name_server(zone: dict[str, Any]) -> Iterator[None]:
    command = [*add_host("names", NAME_SERVER), sys.executable, "-m", "tests.tools.dns", "--ip", NAME_SERVER]
    with subprocess.Popen([*command, json.dumps(zone)], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "listening\n"
            yield
        finally:
            server.terminate()


async def test_out_through_a_gateway_with_a_name(pool: Pool) -> None:
    """A target is looked up by SRV, and when the first host is dead the second one gets the call; of a gateway that is
    dead altogether the health checks know it, so that calls do not wait for it.
    """
    dead = gateway("dead", NOBODY, targets=[f"sip:{NOBODY}:5060"])
    trunk = gateway("trunk", PBX, targets=["sip:trunk.test"], numbers={"outgoing": {"plus": "remove", "prefix": "00"}})
    zone = {
        "_sip._udp.trunk.test": [["SRV", 10, 1, 5060, "a.trunk.test"], ["SRV", 20, 1, 5060, "b.trunk.test"]],
        "a.trunk.test": [["A", NOBODY]],
        "b.trunk.test": [["A", PBX]],
        "trunk.test": [],
    }
    names = {"dnsPolicy": "None", "dnsConfig": {"nameservers": [NAME_SERVER]}}
    add_host("nobody", NOBODY)
    with name_server(zone), pool.pbx():
        pool.apply(
            replicas=1,
            gateways=[dead, trunk],
            routes=[
                {"name": "first", "prefix": "+", "gateway": "dead"},
                {"name": "second", "prefix": "+", "priority": 2, "gateway": "trunk"},
            ],
            healthChecks={"period": "1s"},
            proxy={"image": "switchboard-proxy:dev", "podTemplate": {"spec": names}},
        )
        await pool.ready(1)

        async def known() -> bool:
            (pod,) = (await pool.pods()).values()
            return f'target="sip:{NOBODY}:5060"}} 0.0' in metrics(pod)

        async def told() -> bool:
            messages = await pool.messages("TargetUnreachable")
            return [f"target sip:{NOBODY}:5060;" in message for message in messages] == [True]

        await until(known, "the dead gateway is known to be dead")
        await until(told, "the pool's Events to tell of the dead gateway and of nothing else")
        degraded = await pool.condition("Degraded")
        assert (degraded["reason"], degraded["message"]) == (
            "TargetUnreachable",
            f"No proxy reaches sip:{NOBODY}:5060.",
        )
        with await pool.call(5, 5, user="+49301") as load:
            result = load.wait(40)
    assert (result.completed, result.failed) == (5, 0), load.errors()
