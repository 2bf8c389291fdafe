"""A proxy is opened once it knows where clients are registered: from its peers, at its start and at Kamailio's."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence

import pytest

from switchboard.link.messages import Peer, Settings
from switchboard.pool.spec import Authentication, Registrar
from tests.agent.pod import Operator, Pod, pods, settings
from tests.tools.addresses import NETWORK
from tests.tools.sip import Phone
from tests.tools.wait import until

WANTED = settings(registrar=Registrar(enabled=True, max_expires_seconds=300))
CLIENT, UPSTREAM = f"{NETWORK}.16.50", f"{NETWORK}.16.40"
DELEGATED = settings(target=f"sip:{UPSTREAM}:5060", authentication=Authentication())


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


@contextlib.asynccontextmanager
async def one_after_the_other(
    both: Sequence[Pod], wanted: Settings, table: str = "aor"
) -> AsyncIterator[tuple[Operator, tuple[Peer, ...]]]:
    """The first one is open and somebody has registered with it, then the second one opens and knows the same: the link
    to that, and who they are.
    """
    first, second = both
    peers = tuple(pod.peer for pod in both)
    first.start()
    async with Phone.at(CLIENT) as alice, first.linked() as operator:
        await operator.configure(wanted, peers)
        await operator.role("primary")
        await until(first.ready, "the first is open")
        assert await registered(alice, first)
        second.start()
        async with second.linked() as other:
            await other.configure(wanted, peers)
            await other.role("member")
            await until(second.ready, "the second is open")
            assert second.proxy.control.dump(table) == first.proxy.control.dump(table) != {}
            yield other, peers


async def test_a_proxy_opens_when_it_knows_what_its_peers_know(both: Sequence[Pod]) -> None:
    """The first one has nobody to ask. The second asks the first; and so does a Kamailio that starts anew."""
    async with one_after_the_other(both, WANTED) as (link, _):
        first, second = both
        before = second.proxy.control.get("ctl", "boot")
        assert second.proxy.kamailio is not None
        second.proxy.kamailio.kill()
        second.proxy.start_kamailio()
        await link.hears(lambda report: report.boot not in ("", before))
        await until(second.ready, "open again")
        assert known(second) == known(first)


async def test_a_proxy_opens_when_it_knows_from_where_clients_have_registered(both: Sequence[Pod]) -> None:
    """Likewise, where a registrar upstream has the passwords."""
    async with Phone.at(UPSTREAM, 5060), one_after_the_other(both, DELEGATED, "src") as (link, peers):
        await link.configure(settings(target=f"sip:{UPSTREAM}:5060"), peers)
        assert both[1].proxy.control.get("ctl", "delegated") == "0"
