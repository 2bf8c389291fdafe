"""What a report tells that people want to hear, or reconcile at once: a proxy joined, reached the threshold, recovered,
ended with its calls.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from switchboard.control.member import Member
from switchboard.control.recorder import Note
from switchboard.link.messages import Report
from switchboard.pool.spec import PoolSpec
from switchboard.pool.table import Proxy, eligible
from switchboard.pool.workload import saturated


def judge(member: Member, spec: PoolSpec, members: Iterable[Member]) -> list[Note]:
    """Marks the member as joined and as saturated or not; the notes say what has changed."""
    proxy, reading = member.proxy, member.proxy.reading
    if reading is None or not eligible(proxy):
        return []
    notes: list[Note] = []
    if not member.joined:
        member.joined = True
        notes.append(Note("ProxyJoined", f"Proxy {proxy.name} at {proxy.address} joined."))
    full = saturated(
        proxy.saturated,
        room=reading.room,
        workload=reading.workload,
        threshold=spec.threshold,
        change=spec.sharing.change,
    )
    if full == proxy.saturated:
        return notes
    member.proxy = msgspec.structs.replace(proxy, saturated=full)
    if not full:
        return [*notes, Note("ProxyRecovered", f"Proxy {proxy.name} is below the threshold again.")]
    notes.append(Note("ProxySaturated", f"Proxy {proxy.name} is at the threshold.", "Warning"))
    if all(other.proxy.saturated for other in members if eligible(other.proxy)):
        notes.append(Note("PoolSaturated", "Every proxy is at the threshold; new calls are refused.", "Warning"))
    return notes


def urgent(member: Member, before: Proxy, report: Report) -> bool:
    """Whether reconcile is to look at once: saturation, the beginning and the end of a drain, dead targets, a database
    that is away. Marks the last two at the member; `before`: the proxy before this report.
    """
    told = (report.dead_targets, report.database_up)
    news = told != (member.dead_targets, member.database_up) or member.proxy.saturated != before.saturated
    member.dead_targets, member.database_up = told
    begins = before.reading is None or not before.reading.draining
    return news or (report.draining and (report.calls == 0 or begins))


def calls_lost(member: Member, calls: int) -> Note:
    where = f"proxy {member.proxy.name} on node {member.pod.node}"
    return Note("CallsLost", f"{calls} call{'s' * (calls > 1)} ended with {where}.", "Warning")


def proxy_gone(proxy: Proxy) -> Note | None:
    """None: it was expected to go, or had never said anything."""
    expected = proxy.reading is None or proxy.draining
    return None if expected else Note("ProxyLost", f"Proxy {proxy.name} is gone.", "Warning")
