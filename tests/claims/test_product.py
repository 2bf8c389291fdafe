"""The design card's rows that Kubernetes users see, and media."""

from __future__ import annotations

from e2e import product
from tests.claims.exchange import PLACES, Exchange
from tests.cluster.world import gone
from tests.tools.rtp import Media
from tests.tools.sessions import Incoming
from tests.tools.wait import until


async def test_c19_voice_and_video(exchange: Exchange) -> None:
    """C19: voice and video are relayed, both ways, by the proxy that serves the call."""
    await exchange.open(replicas=2)
    here, there = exchange.phone.endpoint.address[0], exchange.pbx.endpoint.address[0]
    async with Media.at(here) as mine, Media.at(there, echo=True) as theirs:

        async def answer(incoming: Incoming) -> None:
            incoming.sdp = theirs.sdp
            await incoming.answer()

        exchange.pbx.script = answer
        call = await exchange.call(body=mine.sdp)
        assert exchange.served_by()[-1] in call.remote_sdp
        await mine.send(call.remote_sdp, packets=50)

        async def all_back() -> bool:
            return all(sent == received == 50 for sent, received in mine.counts().values())

        await until(all_back, f"50 packets of each stream back: {mine.counts()}")
    assert set(mine.counts()) == {"audio", "video"}


async def test_card1_apply_scale_update_delete(exchange: Exchange) -> None:
    """Card 1: `kubectl apply` of a VoipProxyPool gives a working pool, which can be scaled, updated and deleted."""
    await exchange.open(replicas=1)
    await exchange.fill(1)
    await exchange.hang_up()
    await exchange.pool.patch(replicas=2)
    await exchange.pool.ready(2)
    await exchange.pool.patch(threshold="20%")
    await exchange.pool.ready(2)
    await exchange.fill(2)  # one each
    await exchange.hang_up()
    await exchange.pool.patch(replicas=1)
    await exchange.pool.ready(1)
    pool = exchange.pool
    product.kubectl("delete", "vpp", pool.name, "--namespace", pool.namespace)

    async def nothing_left() -> bool:
        objects = (("Service", pool.name), ("ConfigMap", f"{pool.name}-load"), ("Secret", f"{pool.name}-ca"))
        found = [not await gone(pool.kube, "v1", kind, pool.namespace, name) for kind, name in objects]
        return not any(found) and not await pool.pods()

    await until(nothing_left, "all that the pool owned gone")


async def test_card3_routing_table_follows(exchange: Exchange) -> None:
    """Card 3: the operator updates the primary's routing table so that connects go to pods under the threshold."""
    await exchange.open()
    await exchange.fill(PLACES)
    full = exchange.served_by()[-1]
    reports = await exchange.reported(PLACES)
    assert reports[await exchange.pod_at(full)].room == 0
    await exchange.fill(2 * PLACES)
    assert full not in exchange.served_by()[PLACES:]
    await exchange.hang_up()
    await exchange.reported(0)

    async def back_in_use() -> bool:
        call = await exchange.call()
        return call.status == 200 and exchange.served_by()[-1] == full

    await until(back_in_use, "the first proxy used again")
