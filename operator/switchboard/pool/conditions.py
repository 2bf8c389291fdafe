"""What a pool's status says: conditions with reasons and messages, and the figures of `kubectl get vpp`.

Conditions follow the Kubernetes conventions and kstatus: Ready is what to wait for; Reconciling and Stalled are True
only while the operator is at work, or cannot go on until somebody changes the spec. They are written at once; figures
that drift (calls, workload, saturated proxies) at most every 10 s, so a message holds no drifting figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import msgspec

from switchboard.pool.election import lost
from switchboard.pool.load import state
from switchboard.pool.spec import PoolSpec
from switchboard.pool.table import Proxy, eligible, in_order

ConditionType = Literal["Ready", "Reconciling", "Stalled", "EntryAvailable", "Saturated", "Draining", "Degraded"]
Truth = Literal["True", "False", "Unknown"]
Verdict = tuple[ConditionType, bool, str, str]  # type, whether it is so, reason, message

DRIFT_SECONDS = 10.0
NAMES_SHOWN = 5


class Condition(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    type: ConditionType
    status: Truth
    reason: str
    message: str
    observed_generation: int
    last_transition_time: str  # RFC 3339


class Status(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The status subresource as it is written; encode it with msgspec.to_builtins."""

    observed_generation: int
    conditions: tuple[Condition, ...]
    replicas: int  # not draining: what the scale subresource counts
    desired_replicas: int
    ready_replicas: int
    draining_replicas: int
    saturated_replicas: int
    selector: str
    primary: str
    address: str  # where clients reach it: of the Service, or of its load balancer; "" while that has none
    calls: int
    capacity: int
    workload: int  # whole per cent
    load_config_map: str


class Problem(msgspec.Struct, frozen=True):
    """Why something does not work, in the words of its error."""

    reason: str  # CamelCase
    message: str


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """A pool as it is now. `spec` is the one in effect: the last good one when the present one is refused."""

    generation: int
    spec: PoolSpec
    proxies: Sequence[Proxy]
    desired: int
    entry: str | None  # the pod that the Service points at
    addresses: tuple[str, ...]  # of the Service
    selector: str
    load_config_map: str
    now: float  # on the clock of the readings
    refused: Problem | None = None  # the present spec (SpecError)
    failing: Problem | None = None  # the last reconcile
    secrets: Problem | None = None  # of those that the spec names
    dead_targets: tuple[str, ...] = ()  # which no proxy reaches
    without_database: tuple[str, ...] = ()  # proxies that do not reach the one with the locations


def status(observed: Observed, previous: Sequence[Condition], now_text: str) -> Status:
    """The whole status; `previous` are the conditions written last, `now_text` the time of day (RFC 3339)."""
    alive = [proxy for proxy in observed.proxies if proxy.alive]
    active = [proxy for proxy in alive if not proxy.draining]
    ready = [proxy for proxy in active if eligible(proxy)]
    return Status(
        observed_generation=observed.generation,
        conditions=conditions(observed, previous, now_text),
        replicas=len(active),
        desired_replicas=observed.desired,
        ready_replicas=len(ready),
        draining_replicas=sum(proxy.leaving for proxy in observed.proxies),
        saturated_replicas=sum(proxy.saturated for proxy in ready),
        selector=observed.selector,
        primary=observed.entry or "",
        address=", ".join(observed.addresses),
        calls=sum(proxy.calls for proxy in observed.proxies if proxy.leaving or proxy.alive),
        capacity=observed.spec.capacity.calls * len(ready),
        workload=_workload(ready),
        load_config_map=observed.load_config_map,
    )


def conditions(observed: Observed, previous: Sequence[Condition], now_text: str) -> tuple[Condition, ...]:
    """All conditions, in a fixed order; the time of one whose status did not change is kept."""
    known = {condition.type: condition for condition in previous}
    made: list[Condition] = []
    for kind, so, reason, message in _verdicts(observed):
        truth: Truth = "True" if so else "False"
        before = known.get(kind)
        since = before.last_transition_time if before is not None and before.status == truth else now_text
        made.append(
            Condition(
                type=kind,
                status=truth,
                reason=reason,
                message=message,
                observed_generation=observed.generation,
                last_transition_time=since,
            )
        )
    return tuple(made)


def status_due(written: Status | None, now: Status, silent_seconds: float) -> bool:
    """Whether `now` is to be written, `silent_seconds` after `written`: never when nothing changed."""
    if written is None or _steady(written) != _steady(now):
        return True
    return written != now and silent_seconds >= DRIFT_SECONDS


def _steady(status: Status) -> Status:
    """The part of a status that is written at once: all but the drifting figures."""
    return msgspec.structs.replace(status, calls=0, workload=0, saturated_replicas=0)


def _workload(ready: Sequence[Proxy]) -> int:
    """The mean of the proxies' workloads, rounded down: 80 says that all are at 80 % or some are above."""
    total = sum(proxy.reading.workload for proxy in ready if proxy.reading is not None)
    return int(round(100 * total, 6) / max(1, len(ready)))


def _verdicts(observed: Observed) -> Iterator[Verdict]:
    active = [proxy for proxy in in_order(observed.proxies) if proxy.alive and not proxy.draining]
    entry = _entry(observed)
    progress = _progress(observed, active)
    yield _ready(observed, entry, sum(eligible(proxy) for proxy in active))
    yield _reconciling(observed, progress)
    yield _stalled(observed)
    yield entry
    yield _saturated([proxy for proxy in active if eligible(proxy)])
    yield _draining(observed.proxies)
    yield _degraded(observed, active)


def _ready(observed: Observed, entry: Verdict, ready: int) -> Verdict:
    """The pool takes calls with as many proxies as are wanted: so too while it rolls or shrinks."""
    if observed.refused is not None:
        return "Ready", False, observed.refused.reason, "The spec is refused; the last good one is in effect."
    if observed.desired == 0:
        return "Ready", True, "ScaledToZero", "No proxies are wanted."
    if ready < observed.desired and observed.secrets is not None:
        return "Ready", False, observed.secrets.reason, observed.secrets.message
    if not entry[1]:
        return "Ready", False, entry[2], entry[3]
    if ready < observed.desired:
        return "Ready", False, "ProxiesNotReady", f"{ready} of {observed.desired} proxies are ready."
    return "Ready", True, "PoolReady", f"All {observed.desired} proxies are ready."


def _reconciling(observed: Observed, progress: Problem | None) -> Verdict:
    if observed.failing is not None:
        return "Reconciling", True, observed.failing.reason, observed.failing.message
    if observed.spec.suspend:
        return "Reconciling", False, "Suspended", "spec.suspend is true: proxies are neither started nor stopped."
    if progress is not None:
        return "Reconciling", True, progress.reason, progress.message + _held_up(observed.proxies)
    return "Reconciling", False, "Reconciled", "The pool is as its spec asks."


def _progress(observed: Observed, active: Sequence[Proxy]) -> Problem | None:
    """What is still to come before the pool is as its spec asks, the nearest first."""
    if len(active) != observed.desired:
        word = "Scaling" if all(proxy.current for proxy in active) else "RollingUpdate"
        return Problem(word, f"{len(active)} of {observed.desired} proxies are there.")
    outdated = [proxy for proxy in active if not proxy.current]
    if outdated:
        return Problem("RollingUpdate", f"Made from an older template: {_names(outdated)}.")
    unready = [proxy for proxy in active if not eligible(proxy)]
    if unready:
        return Problem("ProxiesNotReady", f"Not ready: {_names(unready)}.")
    leaving = [proxy for proxy in observed.proxies if proxy.leaving]
    return Problem("Draining", f"Waiting for the calls of {_names(leaving)} to end.") if leaving else None


def _held_up(proxies: Iterable[Proxy]) -> str:
    """What keeps the first of those that do not run from running: with the same template it is the same for all."""
    held = next((proxy for proxy in in_order(proxies) if proxy.waiting and proxy.alive), None)
    return f" {held.name}: {held.waiting}." if held is not None else ""


def _stalled(observed: Observed) -> Verdict:
    if observed.refused is None:
        return "Stalled", False, "SpecAccepted", "The spec can be carried out."
    return "Stalled", True, observed.refused.reason, observed.refused.message


def _entry(observed: Observed) -> Verdict:
    primary = next((proxy for proxy in observed.proxies if proxy.name == observed.entry), None)
    if observed.entry is None:
        return "EntryAvailable", False, "NoPrimary", "No proxy is ready to be the primary."
    if primary is None or lost(primary):
        return "EntryAvailable", False, "PrimaryLost", f"The primary {observed.entry} is lost; another takes over."
    return "EntryAvailable", True, "PrimaryServing", f"Clients reach {observed.entry} through the Service."


def _saturated(serving: Sequence[Proxy]) -> Verdict:
    if serving and all(proxy.saturated for proxy in serving):
        return "Saturated", True, "AllProxiesAtThreshold", "Every proxy is at the threshold; new calls are refused."
    return "Saturated", False, "BelowThreshold", "A new call finds a proxy below the threshold."


def _draining(proxies: Iterable[Proxy]) -> Verdict:
    leaving = [proxy for proxy in in_order(proxies) if proxy.leaving]
    if leaving:
        return (
            "Draining",
            True,
            "ProxiesDraining",
            f"No new calls at {_names(leaving)}; they go when theirs have ended.",
        )
    return "Draining", False, "NoneDraining", "No proxy is draining."


def _degraded(observed: Observed, active: Sequence[Proxy]) -> Verdict:
    """Proxies that ought to serve and do not, by what is wrong with them; one that has never served is starting. Then
    the database of the locations, and targets that no proxy reaches.

    A certificate that cannot be used degrades the pool before any proxy does: those that run go on with the one before.
    """
    if observed.secrets is not None:
        return "Degraded", True, observed.secrets.reason, observed.secrets.message
    stale_after = observed.spec.sharing.stale_after_seconds
    wrong: dict[str, list[Proxy]] = {}
    for proxy in active:
        what = state(proxy, observed.now, stale_after)
        if proxy.reading is not None and what in ("unready", "mediaDown", "stale"):
            wrong.setdefault(what, []).append(proxy)
    failed = [proxy for proxy in observed.proxies if proxy.failed]
    if failed:
        wrong["failed"] = failed
    if not wrong and observed.without_database:
        message = f"The database of the locations does not answer {_shown(observed.without_database)}."
        return "Degraded", True, "DatabaseAway", message
    if not wrong and observed.dead_targets:
        return "Degraded", True, "TargetUnreachable", f"No proxy reaches {_shown(observed.dead_targets)}."
    if not wrong:
        return "Degraded", False, "AllProxiesServing", "Every proxy that was ready still is."
    reasons = {"unready": "ProxyNotReady", "mediaDown": "MediaDown", "stale": "ReportsLate", "failed": "ProxyFailed"}
    words = {"unready": "not ready", "mediaDown": "media down", "stale": "no reports", "failed": "failed"}
    message = "; ".join(f"{words[what]}: {_names(proxies)}" for what, proxies in wrong.items())
    return "Degraded", True, reasons[next(iter(wrong))], message[0].upper() + message[1:] + "."


def _names(proxies: Sequence[Proxy]) -> str:
    return _shown([proxy.name for proxy in proxies])


def _shown(words: Sequence[str]) -> str:
    shown = ", ".join(words[:NAMES_SHOWN])
    more = len(words) - NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
