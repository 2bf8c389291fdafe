from collections.abc import AsyncIterator

import pytest

from tests.agent.pod import Operator, Pod, pods
from tests.tools.addresses import NETWORK


@pytest.fixture
async def pod() -> AsyncIterator[Pod]:
    """One pod, with nobody linked to its agent."""
    async with pods(f"{NETWORK}.11") as made:
        yield made[0]


@pytest.fixture
async def operator(pod: Pod) -> AsyncIterator[Operator]:
    """The operator's end of the link to `pod`."""
    async with pod.linked() as linked:
        await linked.hears(lambda report: report.boot and report.media_ok)
        yield linked
