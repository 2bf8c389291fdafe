"""proxy/kamailio/credits.lua in Lua 5.1, the version that Kamailio runs it with, on a plain table of counters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lupa.lua51 import LuaRuntime

from switchboard.pool.credits import Level

CREDITS = Path(__file__).parents[3] / "proxy/kamailio/credits.lua"

HARNESS = """
local credits = loadstring(SOURCE, "credits.lua")()
local counts = {}                   -- the htable `ast`, shared by all workers
local pause = function() end        -- called before each access, so that a scheduler can switch workers there

local function worker()
  return credits.new(
    function(key) pause() return counts[key] end,
    function(key) pause() counts[key] = (counts[key] or 0) + 1 return counts[key] end,
    function(key) pause() counts[key] = (counts[key] or 0) - 1 return counts[key] end)
end

return {
  worker = worker,
  counts = counts,
  max_live_ticks = credits.MAX_LIVE_TICKS,
  coroutine = function(worker_, id, room, received, closed, ticks)
    local row = worker_.row(id)
    worker_.update(row, room, received, closed)
    local taken = {}
    return coroutine.wrap(function()
      pause = coroutine.yield
      for i = 1, #ticks do if worker_.take(row, ticks[i]) then taken[#taken + 1] = ticks[i] end end
      return table.concat(taken, " ")
    end)
  end,
  settle = function() pause = function() end end,
}
"""


class Lua:
    """One Kamailio: its counters are shared by the workers made here."""

    def __init__(self) -> None:
        runtime = LuaRuntime()
        runtime.globals()["SOURCE"] = CREDITS.read_text()
        self.runtime = runtime
        self.harness: Any = runtime.execute(HARNESS)

    def worker(self) -> LuaAssigner:
        return LuaAssigner(self.harness.worker())

    def count(self, proxy: str, tick: int) -> int:
        return int(self.harness.counts[f"{proxy}:{tick}"] or 0)

    def racing(self, level: Level, ticks: list[int]) -> Callable[[], str | None]:
        """A worker that takes once under each of `ticks`; each call runs it to its next access of a counter.

        It returns None while it runs, and then the ticks under which it got a place, separated by spaces.
        """
        lua_ticks = self.runtime.table_from(ticks)
        step: Callable[[], str | None] = self.harness.coroutine(
            self.harness.worker(), level.id, level.room, level.received, level.closed, lua_ticks
        )
        return step


class LuaAssigner:
    """One SIP worker, with the methods of switchboard.pool.credits.Assigner."""

    def __init__(self, worker: Any) -> None:
        self._worker = worker
        self._rows: dict[str, tuple[Level, Any]] = {}

    def _row(self, level: Level) -> Any:
        held, row = self._rows.get(level.id, (None, None))
        if row is None:
            row = self._worker.row(level.id)
        if held is not level:
            self._worker.update(row, level.room, level.received, level.closed)
            self._rows[level.id] = level, row
        return row

    def free(self, level: Level, now_tick: int) -> int:
        return int(self._worker.free(self._row(level), now_tick))

    def take(self, level: Level, now_tick: int) -> bool:
        return bool(self._worker.take(self._row(level), now_tick))

    def give_back(self, proxy: str, tick: int) -> None:
        self._worker.give_back(self._worker.row(proxy), tick)
