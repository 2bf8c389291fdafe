"""What the status says in each situation, and when it is written."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from switchboard.pool import conditions as c
from switchboard.pool.table import Proxy
from tests.unit.pool.build import a_proxy, a_reading, a_spec, unreported

SPEC = a_spec()
NOW_TEXT = "2026-01-02T03:04:05Z"


def observed(*proxies: Proxy, **fields: Any) -> c.Observed:
    known: dict[str, Any] = {
        "generation": 4,
        "spec": SPEC,
        "desired": len(proxies),
        "entry": "a",
        "addresses": ("198.19.0.7",),
        "selector": "pool=edge",
        "load_config_map": "edge-load",
        "now": 101.0,
    }
    return c.Observed(**{**known, "proxies": proxies, **fields})


def told(pool: c.Observed, kind: c.ConditionType) -> tuple[str, str, str]:
    found = {one.type: one for one in c.conditions(pool, (), NOW_TEXT)}[kind]
    return found.status, found.reason, found.message


def test_a_healthy_pool_says_so() -> None:
    """Ready and nothing else: each condition has a reason and a message, whatever its status."""
    pool = observed(a_proxy("a"), a_proxy("b"))
    assert {one.type: one.status for one in c.conditions(pool, (), NOW_TEXT)} == {
        "Ready": "True",
        "Reconciling": "False",
        "Stalled": "False",
        "EntryAvailable": "True",
        "Saturated": "False",
        "Draining": "False",
        "Degraded": "False",
    }
    assert told(pool, "Ready") == ("True", "PoolReady", "All 2 proxies are ready.")
    for one in c.conditions(pool, (), NOW_TEXT):
        assert one.reason.isalnum()
        assert one.message.endswith(".")
        assert one.observed_generation == 4


def test_the_status_answers_in_one_line() -> None:
    """How many, who is primary, how full; draining proxies count apart, and their calls with the others."""
    full = a_proxy("b", saturated=True, reading=a_reading(workload=0.85, calls=85))
    going = a_proxy("c", draining_since=1.0, reading=a_reading(calls=5))
    pool = observed(a_proxy("a"), full, going, a_proxy("d", failed=True), a_proxy("e", ready=False), desired=3)
    status = msgspec.to_builtins(c.status(pool, (), NOW_TEXT))
    assert {name: value for name, value in status.items() if name != "conditions"} == {
        "observedGeneration": 4,
        "replicas": 3,
        "desiredReplicas": 3,
        "readyReplicas": 2,
        "drainingReplicas": 1,
        "saturatedReplicas": 1,
        "selector": "pool=edge",
        "primary": "a",
        "address": "198.19.0.7",
        "calls": 130,
        "capacity": 200,
        "workload": 52,
        "loadConfigMap": "edge-load",
    }


def test_an_empty_pool_has_no_primary() -> None:
    """Its workload is 0, not an error."""
    status = c.status(observed(entry=None, desired=2), (), NOW_TEXT)
    assert (status.primary, status.workload, status.capacity) == ("", 0, 0)


@pytest.mark.parametrize(
    ("pool", "status", "reason"),
    [
        (observed(a_proxy("a"), desired=2), "False", "ProxiesNotReady"),
        (observed(a_proxy("a"), entry=None), "False", "NoPrimary"),
        (observed(a_proxy("a"), refused=c.Problem("NoRoomForCalls", "...")), "False", "NoRoomForCalls"),
        (observed(entry=None), "True", "ScaledToZero"),
        (observed(a_proxy("a"), a_proxy("b", current=False)), "True", "PoolReady"),
        (observed(a_proxy("a"), a_proxy("b", draining_since=1.0), desired=1), "True", "PoolReady"),
    ],
)
def test_ready_means_that_as_many_as_wanted_take_calls(pool: c.Observed, status: str, reason: str) -> None:
    """A roll or a drain that goes well leaves it True."""
    assert told(pool, "Ready")[:2] == (status, reason)


@pytest.mark.parametrize(
    ("pool", "status", "reason"),
    [
        (observed(a_proxy("a"), desired=2), "True", "Scaling"),
        (observed(a_proxy("a", current=False), a_proxy("b"), desired=1), "True", "RollingUpdate"),
        (observed(a_proxy("a", current=False)), "True", "RollingUpdate"),
        (observed(a_proxy("a"), unreported(a_proxy("b"))), "True", "ProxiesNotReady"),
        (observed(a_proxy("a"), a_proxy("b", draining_since=1.0), desired=1), "True", "Draining"),
        (observed(a_proxy("a"), failing=c.Problem("ApplyFailed", "cannot apply")), "True", "ApplyFailed"),
        (observed(a_proxy("a"), desired=2, spec=a_spec(suspend=True)), "False", "Suspended"),
    ],
)
def test_reconciling_tells_what_is_still_to_come(pool: c.Observed, status: str, reason: str) -> None:
    """So that kstatus and its readers know that waiting helps."""
    assert told(pool, "Reconciling")[:2] == (status, reason)


MISSING = c.Problem("CertificateMissing", "Secret edge-tls with a certificate does not exist.")


def test_a_certificate_that_is_missing_is_told() -> None:
    """Proxies wait for it: that is why the pool is not ready. One that serves goes on, and says what is to come."""
    waiting = observed(unreported(a_proxy("a", ready=False)), entry=None, secrets=MISSING)
    assert told(waiting, "Ready") == ("False", MISSING.reason, MISSING.message)
    serving = observed(a_proxy("a"), secrets=MISSING)
    assert told(serving, "Ready")[0] == "True"
    assert told(serving, "Degraded") == ("True", MISSING.reason, MISSING.message)


def test_a_refused_spec_stalls_the_pool_with_the_errors_words() -> None:
    """Reason and message are those of the SpecError; waiting does not help."""
    pool = observed(a_proxy("a"), refused=c.Problem("OverlappingGateways", "spec.gateways ... overlap"))
    assert told(pool, "Stalled") == ("True", "OverlappingGateways", "spec.gateways ... overlap")


@pytest.mark.parametrize(
    ("proxies", "reason"),
    [
        ([a_proxy("b")], "PrimaryLost"),
        ([a_proxy("a", link="lost")], "PrimaryLost"),
        ([a_proxy("a", ready=False)], "PrimaryLost"),
    ],
)
def test_a_lost_primary_is_no_entry(proxies: list[Proxy], reason: str) -> None:
    assert told(observed(*proxies), "EntryAvailable")[:2] == ("False", reason)


def test_saturated_is_a_pool_without_a_place() -> None:
    """One proxy with room is enough; a pool without proxies is not saturated."""
    full = a_proxy("a", saturated=True)
    assert told(observed(full), "Saturated")[:2] == ("True", "AllProxiesAtThreshold")
    assert told(observed(full, a_proxy("b")), "Saturated")[0] == "False"
    assert told(observed(full, a_proxy("b", ready=False)), "Saturated")[0] == "True"
    assert told(observed(), "Saturated")[0] == "False"


def test_draining_names_who_goes() -> None:
    """A few by name, of many the number."""
    many = [a_proxy(name, draining_since=1.0) for name in "bcdefgh"]
    assert told(observed(a_proxy("a"), *many), "Draining") == (
        "True",
        "ProxiesDraining",
        "No new calls at b, c, d, e, f and 2 more; they go when theirs have ended.",
    )


def test_what_holds_a_proxy_up_is_told() -> None:
    """In the words of its pod, whatever the pool is waiting for."""
    held = unreported(a_proxy("b", ready=False, waiting="image nil of container kamailio cannot be had"))
    told_so = " b: image nil of container kamailio cannot be had."
    assert told(observed(a_proxy("a"), held), "Reconciling")[2] == "Not ready: b." + told_so
    rolling = observed(a_proxy("a", current=False), held, desired=1)
    assert told(rolling, "Reconciling")[2] == "2 of 1 proxies are there." + told_so


@pytest.mark.parametrize(
    ("facts", "reason", "message"),
    [
        ({"ready": False}, "ProxyNotReady", "Not ready: b."),
        ({"reading": a_reading(media_ok=False)}, "MediaDown", "Media down: b."),
        ({"reading": a_reading(sampled_at=50.0)}, "ReportsLate", "No reports: b."),
        ({"failed": True}, "ProxyFailed", "Failed: b."),
    ],
)
def test_degraded_tells_what_is_wrong_with_whom(facts: dict[str, Any], reason: str, message: str) -> None:
    """A proxy that served and does not any more."""
    assert told(observed(a_proxy("a"), a_proxy("b", **facts)), "Degraded") == ("True", reason, message)


def test_degraded_tells_which_targets_no_proxy_reaches() -> None:
    """Where all proxies serve; what is wrong with one of them comes first."""
    dead = {"dead_targets": ("sip:192.0.2.1", "sip:192.0.2.2")}
    alone = observed(a_proxy("a"), **dead)
    message = "No proxy reaches sip:192.0.2.1, sip:192.0.2.2."
    assert told(alone, "Degraded") == ("True", "TargetUnreachable", message)
    assert told(observed(a_proxy("a"), a_proxy("b", ready=False), **dead), "Degraded")[1] == "ProxyNotReady"


def test_degraded_tells_who_does_not_reach_the_database() -> None:
    """Before targets."""
    alone = observed(a_proxy("a"), without_database=("a",), dead_targets=("sip:192.0.2.1",))
    message = "The database of the locations does not answer a."
    assert told(alone, "Degraded") == ("True", "DatabaseAway", message)


def test_a_proxy_that_starts_does_not_degrade_the_pool() -> None:
    assert told(observed(a_proxy("a"), unreported(a_proxy("b", ready=False))), "Degraded")[0] == "False"


def test_the_time_of_a_transition_is_kept() -> None:
    """While the status stays, whatever the reason; a new status has a new time."""
    before = c.conditions(observed(a_proxy("a"), desired=2), (), NOW_TEXT)
    after = c.conditions(observed(a_proxy("a"), entry=None), before, "2026-01-02T09:00:00Z")
    times = {one.type: one.last_transition_time for one in after}
    assert times["Ready"] == NOW_TEXT
    assert times["EntryAvailable"] == "2026-01-02T09:00:00Z"


def test_conditions_are_written_at_once_and_figures_after_ten_seconds() -> None:
    """An idle pool writes nothing."""
    quiet = observed(a_proxy("a"))
    written = c.status(quiet, (), NOW_TEXT)
    busier = c.status(observed(a_proxy("a", reading=a_reading(calls=30, workload=0.3))), written.conditions, NOW_TEXT)
    worse = c.status(observed(a_proxy("a"), desired=2), written.conditions, NOW_TEXT)
    assert c.status_due(None, written, 0.0)
    assert c.status_due(written, worse, 0.0)
    assert not c.status_due(written, busier, 9.9)
    assert c.status_due(written, busier, 10.0)
    assert not c.status_due(written, c.status(quiet, written.conditions, "2030-01-01T00:00:00Z"), 3600.0)
