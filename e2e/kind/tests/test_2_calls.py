"""Calls from a client's pod, through the Service, to the PBX's pod."""

import pytest

from e2e.kind.tests.world import Pool, all_completed

pytestmark = pytest.mark.smoke


@pytest.mark.parametrize("mode", ["forward", "redirect"])
def test_every_call_is_answered(pool: Pool, mode: str) -> None:
    """In both modes, calls with voice and video are answered, held and ended, by way of every proxy."""
    pool.patch(assignment={"mode": mode, "policy": "least"})
    pool.ready(2)
    with pool.pbx(), pool.call(calls=60, rate=20) as load:
        all_completed(load, 60)
    result = load.statistics()
    assert (result.redirected > 0) == (mode == "redirect")
