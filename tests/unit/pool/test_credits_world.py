"""Both invariants of the credits, under everything that may go wrong: generated histories of the world in world.py.

Each step is checked in Python and in Lua: see world.BothLanguages.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.unit.pool.world import Follow, World

PICK = st.integers(0, 99)
FOLLOW: st.SearchStrategy[Follow] = st.sampled_from(["prompt", "prompt", "prompt", "late", "never"])


class Credits(RuleBasedStateMachine):
    """Lost, late, repeated and reordered reports, rows and ticks; clients; restarts, hand-overs, joins and deaths."""

    world: World

    @initialize(places=st.lists(st.integers(1, 30), min_size=2, max_size=3))
    def begin(self, places: list[int]) -> None:
        self.world = World(places)
        self.reports: dict[str, list[Any]] = {}
        for name in self.world.pods:
            self.world.deliver_tick(name)
            self.world.refresh(name)

    def _pod(self, pick: int) -> str:
        names = list(self.world.pods)
        return names[pick % len(names)]

    @rule(pick=PICK, follow=FOLLOW, count=st.integers(1, 12))
    def assign(self, pick: int, follow: Follow, count: int) -> None:
        for _ in range(count):
            self.world.assign(self._pod(pick), follow)

    @rule(pick=PICK, follow=FOLLOW)
    def fill(self, pick: int, follow: Follow) -> None:
        """A burst: all that the row allows."""
        while self.world.assign(self._pod(pick), follow):
            pass

    @rule(pick=PICK, count=st.integers(1, 8))
    def arrive(self, pick: int, count: int) -> None:
        """Calls come to their proxies, those of late clients too."""
        for _ in range(count):
            coming = [call for call in self.world.calls if call.follow != "never"]
            if coming:
                self.world.arrive(coming[pick % len(coming)])

    @rule(pick=PICK)
    def give_back(self, pick: int) -> None:
        failed = [call for call in self.world.calls if call.follow == "never"]
        if failed:
            self.world.give_back(failed[pick % len(failed)])

    @rule(pick=PICK, count=st.integers(1, 10))
    def hang_up(self, pick: int, count: int) -> None:
        pod = self.world.pods[self._pod(pick)]
        pod.used = max(0, pod.used - count)

    @rule(pick=PICK)
    def call_directly(self, pick: int) -> None:
        """A call that nobody assigned, over a connection that a client still had."""
        pod = self.world.pods[self._pod(pick)]
        pod.used += pod.used < pod.places
        pod.disturb()

    @rule(pick=PICK, places=st.integers(1, 30))
    def change_threshold(self, pick: int, places: int) -> None:
        pod = self.world.pods[self._pod(pick)]
        pod.places = places
        pod.disturb()

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.8, 5.0]))
    def wait(self, seconds: float) -> None:
        self.world.wait(seconds)

    @rule(pick=PICK, late=st.sampled_from([0, 0, 0, 1, 4]))
    def tick(self, pick: int, late: int) -> None:
        self.world.deliver_tick(self._pod(pick), late)

    @rule()
    def tick_all(self) -> None:
        """All goes well for a tick."""
        self.world.wait(self.world.until_due())
        for name in self.world.pods:
            self.world.deliver_tick(name)
            self.world.refresh(name)

    @rule(pick=PICK)
    def refresh(self, pick: int) -> None:
        self.world.refresh(self._pod(pick))

    @rule(pick=PICK)
    def send_report(self, pick: int) -> None:
        name = self._pod(pick)
        self.reports.setdefault(name, []).append(self.world.pods[name].report(self.world.now))

    @rule(pick=PICK, which=PICK)
    def deliver_report(self, pick: int, which: int) -> None:
        """Late, again, or out of order."""
        name = self._pod(pick)
        sent = self.reports.get(name)
        if sent:
            self.world.deliver_report(name, sent[which % len(sent)])

    @rule(pick=PICK)
    def send_row(self, pick: int) -> None:
        self.world.send_row(self._pod(pick))

    @rule(pick=PICK, late=st.integers(0, 5))
    def deliver_row(self, pick: int, late: int) -> None:
        self.world.deliver_row(self._pod(pick), late)

    @rule(pick=PICK, forgotten=st.integers(0, 30))
    def restart(self, pick: int, forgotten: int) -> None:
        """Kamailio restarts at some proxy, the primary perhaps, whose media may go on."""
        self.world.restart(self._pod(pick), forgotten)

    @precondition(lambda self: len(self.world.pods) < 4)
    @rule(places=st.integers(1, 30))
    def join(self, places: int) -> None:
        self.world.join(places)

    @precondition(lambda self: len(self.world.pods) > 2)
    @rule(pick=PICK, successor=PICK)
    def die(self, pick: int, successor: int) -> None:
        name = self._pod(pick)
        others = [other for other in self.world.pods if other != name]
        self.world.die(name, others[successor % len(others)])

    @rule(pick=PICK)
    def kill_primary(self, pick: int) -> None:
        """It is lost to its clients and to the operator; another takes over at once."""
        self.world.replace(self._pod(pick))

    @precondition(lambda self: self.world.coming is None)
    @rule(pick=PICK)
    def begin_hand_over(self, pick: int) -> None:
        name = self._pod(pick)
        if name != self.world.office.pod:
            self.world.begin_hand_over(name)

    @rule()
    def end_hand_over(self) -> None:
        self.world.end_hand_over()

    @rule()
    def restart_operator(self) -> None:
        self.world.restart_operator()

    @rule()
    def quiet(self) -> None:
        """Invariant 2: after three quiet ticks all room is on offer."""
        self.world.quiet()
        assert set(self.world.lost_room().values()) == {0}

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.quiet()


TestCredits = Credits.TestCase
TestCredits.settings = settings(
    max_examples=200,
    stateful_step_count=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
