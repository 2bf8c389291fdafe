"""How many proxies there are: what one step does in each situation, and that the steps lead to what is wanted."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from switchboard.pool import scaling as s
from switchboard.pool.table import Proxy
from tests.unit.pool.build import a_proxy, a_reading, a_spec, unreported

SPEC = a_spec(drain={"timeout": "1h"})
NOW = 10_000.0


def proxy(name: str, calls: int = 0, **fields: Any) -> Proxy:
    reading = a_reading(calls=calls, draining=fields.pop("drained", False))
    return a_proxy(name, reading=reading, **fields)


def draining(name: str, calls: int, since: float = NOW, **fields: Any) -> Proxy:
    return proxy(name, calls, drained=True, draining_since=since, **fields)


def starting(name: str) -> Proxy:
    return unreported(a_proxy(name, ready=False, link="dialing"))


def plan(*proxies: Proxy, desired: int = 3, primary: str | None = "a", suspend: bool = False) -> s.Plan:
    spec = msgspec.structs.replace(SPEC, suspend=suspend)
    return s.plan(proxies, spec, desired=desired, primary=primary, now=NOW)


def test_missing_proxies_are_started() -> None:
    """At the beginning, and when the wanted number rises."""
    assert plan(desired=3, primary=None) == s.Plan(create=3)
    assert plan(proxy("a"), starting("b"), desired=3) == s.Plan(create=1)


def test_a_pool_that_is_as_wanted_is_left_alone() -> None:
    assert plan(proxy("a"), proxy("b"), proxy("c")) == s.Plan()


def test_a_suspended_pool_is_left_alone() -> None:
    """Nothing is started or stopped, whatever is missing or too many."""
    assert plan(proxy("a"), proxy("b", failed=True), desired=9, suspend=True) == s.Plan()


def test_a_failed_pod_is_replaced() -> None:
    """It is deleted and another is started; one that is being deleted already is not waited for."""
    assert plan(proxy("a"), proxy("b"), proxy("c", failed=True)) == s.Plan(create=1, delete=("c",))
    assert plan(proxy("a"), proxy("b"), proxy("c", failed=True, terminating=True)) == s.Plan(create=1)


def test_fewest_calls_drain_first_and_the_primary_not() -> None:
    """Scale-down by two of four: the primary stays though it carries nothing."""
    pool = [proxy("a", 0), proxy("b", 7), proxy("c", 3), proxy("d", 5)]
    assert plan(*pool, desired=2) == s.Plan(drain=("c", "d"))


def test_among_equals_the_youngest_drains() -> None:
    assert plan(proxy("a"), proxy("b"), proxy("c"), desired=2) == s.Plan(drain=("c",))


def test_what_has_drained_is_deleted() -> None:
    """At its last call's end, or at the drain's time-out."""
    assert plan(proxy("a"), draining("b", 0), draining("c", 1), desired=1) == s.Plan(delete=("b",))
    assert plan(proxy("a"), draining("c", 1, since=NOW - 3600), desired=1) == s.Plan(delete=("c",))
    assert plan(proxy("a"), draining("c", 1, since=NOW - 3599), desired=1) == s.Plan()


def test_a_proxy_that_has_not_heard_of_its_drain_is_waited_for() -> None:
    """It carries no call, but it may admit one until the drain is in effect."""
    assert plan(proxy("a"), proxy("b", draining_since=NOW), desired=1) == s.Plan()
    silent = unreported(a_proxy("b", draining_since=NOW))
    assert plan(proxy("a"), silent, desired=1) == s.Plan()


def test_a_proxy_that_never_served_is_deleted_at_once() -> None:
    never = msgspec.structs.replace(starting("b"), draining_since=NOW)
    assert plan(proxy("a"), never, desired=1) == s.Plan(delete=("b",))


def test_a_draining_proxy_is_taken_back_before_one_is_started() -> None:
    """The one with the most calls first; it would have taken longest."""
    pool = [proxy("a"), draining("b", 2), draining("c", 9)]
    assert plan(*pool, desired=2) == s.Plan(undrain=("c",))
    assert plan(*pool, desired=4) == s.Plan(undrain=("c", "b"), create=1)


def test_what_cannot_stay_is_not_taken_back() -> None:
    """A draining proxy of an older template, or on a cordoned node, goes all the same."""
    pool = [proxy("a"), draining("b", 2, current=False), draining("c", 9, evicted=True)]
    assert plan(*pool, desired=2) == s.Plan(create=1)


def test_a_change_rolls_one_at_a_time() -> None:
    """One more is started; when it is ready the outdated one with the fewest calls drains; when that is gone, again."""
    old = [proxy("a", 1, current=False), proxy("b", 5, current=False), proxy("c", 3, current=False)]
    assert plan(*old) == s.Plan(create=1)
    assert plan(*old, starting("d")) == s.Plan()
    assert plan(*old, proxy("d")) == s.Plan(drain=("c",))
    left = [old[0], old[1], draining("c", 3, current=False), proxy("d")]
    assert plan(*left) == s.Plan()
    assert plan(old[0], old[1], proxy("d")) == s.Plan(create=1)


def test_the_primary_rolls_last_by_hand_over() -> None:
    """It hands over to one of the new template, and drains when it is primary no more."""
    pool = [proxy("a", 1, current=False), proxy("b", 5), proxy("c", 3), proxy("d", 9)]
    assert plan(*pool) == s.Plan(hand_over_to="b")
    assert plan(*pool, primary="b") == s.Plan(drain=("a",))


def test_a_primary_without_a_successor_does_not_drain() -> None:
    """A pool of one rolls only when the second can be primary."""
    assert plan(proxy("a", current=False), starting("b"), desired=1) == s.Plan()
    nobody = proxy("b", link="lost")
    assert plan(proxy("a", current=False), nobody, desired=1) == s.Plan()


def test_a_proxy_that_does_not_come_up_stops_the_roll() -> None:
    """A broken image costs no proxy that works, and the replacement is not taken for the one to go."""
    old = [proxy("a", 1, current=False), proxy("b", 5, current=False)]
    broken = starting("c")
    assert plan(*old, broken, desired=2) == s.Plan()
    reverted = [proxy("a", 1), proxy("b", 5), msgspec.structs.replace(broken, current=False)]
    assert plan(*reverted, desired=2) == s.Plan(drain=("c",))


def test_a_replacement_that_cannot_take_calls_stops_the_roll() -> None:
    """Its pod is ready, but nothing was heard of it yet, or its media does not work."""
    old = [proxy("a", current=False), proxy("b", current=False)]
    assert plan(*old, unreported(a_proxy("c")), desired=2) == s.Plan()
    assert plan(*old, a_proxy("c", reading=a_reading(calls=0, media_ok=False)), desired=2) == s.Plan()


def test_no_roll_begins_while_one_is_not_ready() -> None:
    assert plan(proxy("a", current=False), proxy("b"), starting("c")) == s.Plan()
    assert plan(proxy("a", current=False), proxy("b"), unreported(a_proxy("c"))) == s.Plan()


def test_a_proxy_on_a_cordoned_node_is_replaced_like_an_outdated_one() -> None:
    """The node is emptied without a call lost: first the replacement, then the drain."""
    pool = [proxy("a"), proxy("b", 5, evicted=True), proxy("c")]
    assert plan(*pool) == s.Plan(create=1)
    assert plan(*pool, proxy("d")) == s.Plan(drain=("b",))


def test_several_on_a_cordoned_node_are_replaced_together() -> None:
    """Somebody waits for the node: all replacements start at once, and each lets one of them drain when it is ready."""
    pool = [proxy("a"), proxy("b", 5, evicted=True), proxy("c", 3, evicted=True)]
    assert plan(*pool) == s.Plan(create=2)
    assert plan(*pool, proxy("d"), starting("e")) == s.Plan(drain=("c",))
    assert plan(*pool, proxy("d"), proxy("e")) == s.Plan(drain=("c", "b"))


def test_a_primary_on_a_cordoned_node_hands_over_at_once() -> None:
    """It does not wait for its replacement, as long as one that stays can take over."""
    pool = [proxy("a", evicted=True), proxy("b", 5), proxy("c", evicted=True)]
    assert plan(*pool) == s.Plan(create=2, hand_over_to="b")
    assert plan(*pool[::2], desired=2) == s.Plan(create=2)


def test_a_pod_deleted_by_hand_is_replaced_at_once() -> None:
    """Its drain goes on for as long as any other: when that is over its deletion is cut short, once."""
    since = NOW - SPEC.drain_timeout_seconds
    pool = [proxy("a"), proxy("b"), draining("c", 4, terminating=True)]
    assert plan(*pool) == s.Plan(create=1)
    late = draining("c", 4, since=since, terminating=True)
    assert plan(*pool[:2], late, proxy("d")) == s.Plan(delete=("c",))
    assert plan(*pool[:2], msgspec.structs.replace(late, cut_short=True), proxy("d")) == s.Plan()


def test_a_scale_down_in_the_middle_of_a_roll_takes_the_outdated_first() -> None:
    """And as many others as are too many; those that are not ready cost nothing."""
    pool = [proxy("a", 1), proxy("b", 5, current=False), proxy("c", 3), starting("d")]
    assert plan(*pool, desired=2) == s.Plan(drain=("b", "d"))


def test_scaling_to_zero_ends_with_the_primary() -> None:
    """All drain; the primary is deleted when it is the last."""
    assert plan(proxy("a"), proxy("b", 1), desired=0) == s.Plan(drain=("b", "a"))
    assert plan(draining("a", 0), draining("b", 1), desired=0) == s.Plan()
    assert plan(draining("a", 0), desired=0) == s.Plan(delete=("a",))


def test_a_primary_that_has_drained_hands_over_before_it_is_deleted() -> None:
    pool = [draining("a", 0), proxy("b"), proxy("c"), proxy("d")]
    assert plan(*pool) == s.Plan(hand_over_to="b")
    assert plan(*pool, primary="b") == s.Plan(delete=("a",))


@settings(deadline=None, derandomize=True)
@given(
    found=st.lists(
        st.fixed_dictionaries(
            {
                "calls": st.integers(0, 5),
                "current": st.booleans(),
                "evicted": st.booleans(),
                "failed": st.booleans(),
                "draining_since": st.sampled_from([None, NOW]),
            }
        ),
        max_size=5,
    ),
    desired=st.integers(0, 5),
)
def test_the_steps_lead_to_what_is_wanted(found: list[dict[str, Any]], desired: int) -> None:
    """From any pool, plan by plan: the wanted number of proxies of the present template, never one too few ready."""
    pool = {
        name: proxy(name, drained=facts["draining_since"] is not None, **facts)
        for name, facts in zip("abcde", found, strict=False)
    }
    primary, born = next(iter(pool), None), 0
    enough = False
    for _ in range(60):
        step = s.plan(list(pool.values()), SPEC, desired=desired, primary=primary, now=NOW)
        if step == s.Plan() and all(one.ready and not one.draining for one in pool.values()):
            break
        for name in step.delete:
            assert name != primary or desired == 0 or pool[name].failed
            del pool[name]
        pool = {name: _moment_later(one, step) for name, one in pool.items()}
        for _ in range(step.create):
            born += 1
            pool[f"n{born}"] = starting(f"n{born}")
        if step.hand_over_to is not None:
            primary = step.hand_over_to
        if primary not in pool:
            primary = next((name for name, one in pool.items() if one.ready and not one.draining), None)
        serving = sum(one.ready and not one.draining and one.alive for one in pool.values())
        assert serving >= desired or not enough, "a step took a proxy that was needed"
        enough = enough or serving >= desired
    assert len(pool) == desired
    assert all(one.current and not one.evicted and not one.draining for one in pool.values())


def _moment_later(one: Proxy, step: s.Plan) -> Proxy:
    """What becomes of a proxy until the next plan: what starts is ready, what drains loses a call."""
    since = one.draining_since
    since = NOW if one.name in step.drain else None if one.name in step.undrain else since
    left = max(0, one.calls - 1) if since is not None else one.calls
    reading = a_reading(calls=left, draining=since is not None)
    return msgspec.structs.replace(one, ready=True, link="up", reading=reading, draining_since=since)
