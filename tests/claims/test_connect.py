"""Claims on which proxy a client connects to."""

from __future__ import annotations

import itertools

from tests.claims.exchange import LATE, PLACES, Exchange
from tests.tools import message as sip


async def test_c01_c15_shared_workload_decides(exchange: Exchange) -> None:
    """C1, C15: proxies carry voice on one network and share workload data, which decides which one a client gets."""
    await exchange.open(replicas=2)
    await exchange.fill(PLACES)
    first = set(exchange.served_by())
    await exchange.reported(PLACES)
    await exchange.fill(PLACES + 1)
    assert len(first) == 1
    assert exchange.served_by()[-1] not in first


async def test_c02_c16_primary_balances(exchange: Exchange) -> None:
    """C2, C16: one proxy is the primary and balances all of them automatically, with nobody acting."""
    await exchange.open(assignment={"policy": "least"})
    primary = (await exchange.pool.status())["primary"]
    roles = {pod: report.role for pod, report in (await exchange.reports()).items()}
    assert [pod for pod, role in roles.items() if role == "primary"] == [primary]
    await exchange.fill(2 * PLACES)
    reports = await exchange.reported(2 * PLACES)
    assert all(report.calls > 0 for report in reports.values())
    assert reports[primary].assigned_total == 2 * PLACES


async def test_c03_c17_identity_of_a_proxy(exchange: Exchange) -> None:
    """C3, C17: a client that asks to connect is given the identity of the proxy to use, one with the lower workload."""
    await exchange.open(assignment={"mode": "redirect"})
    await exchange.fill(PLACES)
    full = exchange.served_by()[-1]
    before = await exchange.reported(PLACES)
    call = await exchange.redirected()
    registered = (await (await exchange.phone.request("REGISTER", exchange.service, from_uri=LATE)).final()).message
    for answer in (call.final, registered):
        assert answer.status == 302
        chosen = sip.hop(sip.uri_in(answer.header("Contact")))[0]
        assert chosen != full
        assert before[await exchange.pod_at(chosen)].workload < before[await exchange.pod_at(full)].workload


async def test_c04_c18_below_the_threshold(exchange: Exchange) -> None:
    """C4, C18: the workload of the proxy that a client is given is below the pool's threshold."""
    await exchange.open(assignment={"mode": "redirect"})
    for held in range(3 * PLACES):
        reports = await exchange.reported(held)
        call = await exchange.call()
        assert call.status == 200, call.path
        pod = await exchange.pod_at(exchange.served_by()[-1])  # given by 302; the primary may take a call itself
        assert reports[pod].workload < 0.6
    assert {report.over_threshold for report in (await exchange.reports()).values()} == {0}
    assert {report.calls for report in (await exchange.reported(3 * PLACES)).values()} == {PLACES}


async def test_c05_c20_first_below_the_threshold(exchange: Exchange) -> None:
    """C5, C20: with policy `first` it is the first proxy found below the threshold: one fills after the other."""
    await exchange.open(assignment={"policy": "first"})
    await exchange.fill(3 * PLACES)
    runs = [(address, len(list(run))) for address, run in itertools.groupby(exchange.served_by())]
    assert [count for _, count in runs] == [PLACES] * 3
    assert len({address for address, _ in runs}) == 3
