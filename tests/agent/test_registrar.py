"""A proxy is opened once it knows where clients are registered: from its peers, at its start and at Kamailio's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest

from switchboard.pool.spec import Registrar
from tests.agent.pod import Pod, pods, settings
from tests.tools.addresses import NETWORK
from tests.tools.sip import Phone
from tests.tools.wait import until

WANTED = settings(registrar=Registrar(enabled=True, max_expires_seconds=300))
CLIENT = f"{NETWORK}.16.50"


@pytest.fixture
async def both() -> AsyncIterator[Sequence[Pod]]:
    async with pods(f"{NETWORK}.16", 2, started=False) as made:
        yield made


async def registered(phone: Phone, pod: Pod) -> bool:
    """Whether that pod takes it."""
    user = "sip:alice@edge.voice.svc"
    request = await phone.request(
        "REGISTER", "sip:edge.voice.svc", to=(pod.address, 5060), from_uri=user, to_uri=user, cseq=len(phone.log) + 1
    )
    return (await request.final()).message.status == 200


def known(pod: Pod) -> dict[str, str]:
    return pod.proxy.control.dump("aor")


async def test_a_proxy_opens_when_it_knows_what_its_peers_know(both: Sequence[Pod]) -> None:
    """The first one has nobody to ask. The second asks the first; and so does a Kamailio that starts anew."""
    first, second = both
    peers = tuple(pod.peer for pod in both)
    first.start()
    async with Phone.at(CLIENT) as alice, first.linked() as operator:
        await operator.configure(WANTED, peers)
        await operator.role("primary")
        await until(first.ready, "the first is open")
        assert await registered(alice, first)
        second.start()
        async with second.linked() as other:
            await other.configure(WANTED, peers)
            await other.role("member")
            await until(second.ready, "the second is open")
            assert known(second) == known(first) != {}
            before = second.proxy.control.get("ctl", "boot")
            assert second.proxy.kamailio is not None
            second.proxy.kamailio.kill()
            second.proxy.start_kamailio()
            await other.hears(lambda report: report.boot not in ("", before))
            await until(second.ready, "open again")
            assert known(second) == known(first)
