"""What a report tells that people want to hear: a proxy joined, reached the threshold, recovered. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from switchboard.control.member import Member
from switchboard.control.recorder import Note
from switchboard.pool.spec import PoolSpec
from switchboard.pool.table import eligible
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
