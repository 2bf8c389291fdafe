from collections.abc import AsyncIterator

import pytest

from switchboard.link.tls import Credentials
from tests.unit.link.certificates import Authority
from tests.unit.link.ends import AGENT_SAN, OPERATOR_SAN, Agent, Ear, serving


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="session")
def agent_credentials(authority: Authority) -> Credentials:
    return authority.issue(AGENT_SAN)


@pytest.fixture(scope="session")
def operator_credentials(authority: Authority) -> Credentials:
    return authority.issue(OPERATOR_SAN)


@pytest.fixture
async def agent(agent_credentials: Credentials) -> AsyncIterator[Agent]:
    """An agent that listens, with the pool's certificate."""
    agent = Agent()
    async with serving(agent.server.handle, agent_credentials.server_context()) as address:
        agent.address = address
        yield agent
        await agent.server.close()


@pytest.fixture
async def ear() -> Ear:
    return Ear()
