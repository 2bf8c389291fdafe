"""A PSTN trunk that stalls, dies and comes back, beside one that stays: SIPp in the carriers' place."""

from __future__ import annotations

import asyncio
from pathlib import Path

from switchboard.pool.spec import Gateway, Route
from tests.tools.addresses import CLIENTS, TARGETS
from tests.tools.pool import Pool, idle
from tests.tools.sipp import Sipp, Statistics, answerer, caller
from tests.tools.wait import until

FIRST, SECOND = f"{TARGETS}.21", f"{TARGETS}.22"


def trunk(name: str, ip: str) -> Gateway:
    return Gateway(name=name, kind="pstn", networks=("192.0.2.0/24",), targets=(f"sip:{ip}:5060",))


async def load(pool: Pool, directory: Path, calls: int = 20) -> Statistics:
    """Calls to the trunks; all of them are answered and ended."""
    target = f"{pool.primary.ip}:5060"
    options = {"calls": calls, "rate": 10, "hold_seconds": 0.5, "user": "+49301"}
    with caller(target, f"{CLIENTS}.7", directory, **options) as callers:  # type: ignore[arg-type]  # one of each kind
        result = await asyncio.to_thread(callers.wait, 60)
        assert (result.completed, result.failed) == (calls, 0), callers.errors()
    await idle(*pool.proxies)
    return result


def took(one: Sipp) -> int:
    """Calls answered so far."""
    return one.statistics().answered


async def test_a_trunk_that_stalls_dies_and_recovers(pool: Pool, tmp_path: Path) -> None:
    """Calls go to the first trunk while it answers, to the second one while it does not, and back; none is lost."""
    pool.routes(
        Route(name="a", prefix="+", gateway="first"),
        Route(name="b", prefix="+", gateway="second", priority=2),
        gateways=[trunk("first", FIRST), trunk("second", SECOND)],
    )
    pool.set(period=1, threshold=2)

    def failures() -> list[int]:
        """Of the first trunk's checks, by each proxy."""
        return [proxy.control.number("health", f"sip:{FIRST}:5060") for proxy in pool.proxies]

    def failing() -> bool:
        return min(failures()) >= 2

    def well() -> bool:
        return max(failures()) == 0

    with answerer(SECOND, tmp_path) as second:
        with answerer(FIRST, tmp_path) as first:
            await load(pool, tmp_path)
            await until(lambda: took(first) == 20, "the first trunk has the calls")
            first.freeze()
            await load(pool, tmp_path)
            await until(lambda: took(second) == 20, "the second trunk has the calls")
            await until(failing, "the first trunk is known to stall")
            first.thaw()
            await until(well, "it is taken back")
        await until(failing, "the first trunk is known to be dead")
        await load(pool, tmp_path)
        await until(lambda: took(second) == 40, "the second trunk has the calls")
        with answerer(FIRST, tmp_path) as again:
            await until(well, "it is taken back")
            await load(pool, tmp_path)
            await until(lambda: took(again) == 20, "the first trunk has the calls again")
    pool.set(period=0)
