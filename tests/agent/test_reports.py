"""Workload goes round: periodically, on a change, on a threshold crossing, on demand; and it is what is there."""

import asyncio
import time

from switchboard.pool.spec import Urgent
from tests.agent.pod import Operator, Pod, in_kamailio, settings
from tests.tools import answers
from tests.tools.addresses import CLIENTS, TARGETS
from tests.tools.sip import Phone

PBX = f"{TARGETS}.1"
ALICE = f"{CLIENTS}.1"


async def test_reports_come_periodically(pod: Pod, operator: Operator) -> None:
    """Without any change a report comes each period (claim 7)."""
    await operator.configure(settings())
    await operator.hears(lambda report: report.reason == "period")
    begin, before = time.monotonic(), len(operator.reports)
    await operator.until(lambda: len(operator.reports) >= before + 6)
    assert 2.0 < time.monotonic() - begin < 4.5
    assert {report.reason for report in operator.reports[before:]} == {"period"}


async def test_reports_come_on_demand(pod: Pod, operator: Operator) -> None:
    """Whoever asks is told at once (claim 8)."""
    await operator.configure(settings())
    before = len([report for report in operator.reports if report.reason == "request"])
    await operator.link.request_report()
    await operator.until(
        lambda: len([report for report in operator.reports if report.reason == "request"]) > before, within=0.4
    )


async def test_a_call_is_reported_at_once(pod: Pod, operator: Operator) -> None:
    """A call that begins and one that ends are changes, reported without waiting for the period (claim 8)."""
    await operator.configure(settings(calls=10, target=f"sip:{PBX}:5060"))
    async with Phone.at(ALICE) as alice, Phone.at(PBX, 5060) as pbx:
        pbx.script = answers.ring_then_answer
        call = await alice.call(f"sip:bob@{pod.address}:5060")
        assert call.status == 200
        answered = time.monotonic()
        report = await operator.hears(lambda report: report.calls == 1)
        assert time.monotonic() - answered < 0.3  # 50 ms sampling; the rest is for a busy machine
        assert report.room == 9
        assert report.admitted == 1
        assert report.over_threshold == 0
        await call.bye()
        await operator.hears(lambda report: report.calls == 0 and report.admitted == 1)
        assert "change" in {report.reason for report in operator.reports}


async def test_urgent_calls_above_the_threshold_are_told(pod: Pod, operator: Operator) -> None:
    """They are among those admitted, and are counted apart; nothing was admitted that should not have been."""
    await operator.configure(settings(calls=4, target=f"sip:{PBX}:5060", urgent=Urgent(numbers=("112",))))
    async with Phone.at(ALICE) as alice, Phone.at(PBX, 5060) as pbx:
        pbx.script = answers.ring_then_answer
        calls = [await alice.call(f"sip:{user}@{pod.address}:5060") for user in ("112", "a", "b", "c", "d", "112")]
        assert [call.status for call in calls] == [200] * 4 + [503, 200]
        report = await operator.hears(lambda report: report.admitted == 5)
        assert (report.urgent, report.over_threshold, report.calls) == (1, 0, 5)


async def test_the_last_place_and_the_first_one_back(pod: Pod, operator: Operator) -> None:
    """Reaching the threshold, and a place that comes free after it, are reported at once as crossings (claim 8)."""
    await operator.configure(settings(calls=2, target=f"sip:{PBX}:5060"))
    async with Phone.at(ALICE) as alice, Phone.at(PBX, 5060):
        one = await alice.call(f"sip:bob@{pod.address}:5060")
        two = await alice.call(f"sip:bob@{pod.address}:5060")
        await operator.until(lambda: any(report.room == 0 and report.admitted for report in operator.reports))
        full = next(report for report in operator.reports if report.room == 0 and report.admitted)
        assert full.reason == "threshold"
        assert full.workload >= 0.8
        await two.bye()
        filled = operator.reports.index(full)
        await operator.until(lambda: any(report.room for report in operator.reports[filled:]))
        free = next(report for report in operator.reports[filled:] if report.room)
        assert (free.reason, free.room) == ("threshold", 1)
        await one.bye()


async def test_a_lower_threshold_is_reported_and_holds(pod: Pod, operator: Operator) -> None:
    """A threshold lowered below what a proxy carries closes it with the ack, and its room is 0, not negative."""
    await operator.configure(settings(calls=10, target=f"sip:{PBX}:5060"))
    async with Phone.at(ALICE) as alice, Phone.at(PBX, 5060):
        call = await alice.call(f"sip:bob@{pod.address}:5060")
        assert call.status == 200
        await operator.hears(lambda report: report.calls == 1)
        await operator.configure(settings(calls=1, target=f"sip:{PBX}:5060"))
        assert pod.proxy.control.number("ctl", "ceiling") == 1
        report = await operator.hears(lambda report: report.room == 0)
        assert report.calls == 1
        await call.bye()


async def test_who_assigned_and_who_received(operator: Operator, pod: Pod) -> None:
    """A report has what was assigned and received, by proxy and tick: changes alone, but all for a new listener."""
    await operator.configure(settings(calls=10, target=f"sip:{PBX}:5060"), peers=(pod.peer,))
    await operator.tick(7)
    await operator.table(pod.row(room=10))
    await operator.role("primary")
    proxy = pod.proxy.id
    async with Phone.at(ALICE) as alice, Phone.at(PBX, 5060):
        call = await alice.call(f"sip:bob@{pod.address}:5060")
        assert call.status == 200
        report = await operator.hears(lambda report: report.assigned.get(proxy))
        assert report.assigned == {proxy: {7: 1}}
        assert report.assigned_total == 1
        report = await operator.hears(lambda report: any(report.received.get(proxy, {}).values()))
        assert report.received == {proxy: {7: 1}}
        await operator.hears(lambda report: report.seq > operator.reports[-1].seq - 1 and not report.assigned)
        async with pod.linked() as newcomer:
            assert newcomer.reports[0].assigned == {proxy: {7: 1}}
        await call.bye()


async def test_cpu_of_the_proxy(operator: Operator, pod: Pod) -> None:
    """The CPU that is reported is that of this proxy's processes."""
    await operator.configure(settings())
    stop = time.monotonic() + 2

    def work() -> None:
        while time.monotonic() < stop:
            pod.proxy.control("dlg.stats_active")

    working = asyncio.create_task(asyncio.to_thread(work))
    report = await operator.hears(lambda report: report.cpu_cores > 0.02)
    assert report.cpu_cores < 2
    await working
    await in_kamailio(pod, {("ctl", "ready"): 1})
