-- Credits: how many calls this proxy may still assign to each of the others. The same arithmetic as pool/credits.py, which
-- tells why it holds; the unit tests run both on the same histories.
--
--   pending = calls assigned in ticks after `closed` - `received`      (sent, not yet seen in the proxy's room)
--   a call may be assigned while pending < room
--
-- The only shared state is one counter per proxy and tick, `<id>:<tick>`. A take increments its own tick's counter first and
-- reads the neighbours' after, so of two workers that want the last place, on either side of a tick's change, the later one
-- sees both and gives its own back: a race can cost a place for a moment, never make one.
--
-- Plain Lua 5.1 without any Kamailio function: the counters come in as get(key) -> number or nil, inc(key) -> the new value,
-- dec(key). It runs once or more for every call, so it makes no garbage but two keys per row and tick.

local M = {}

-- Counters are forgotten 120 s after their last change. A row whose closed tick lies further back than this (60 s at least)
-- is not trusted: its proxy has said nothing for as long.
M.MAX_LIVE_TICKS = 30

function M.new(get, inc, dec)
  local self = {}

  -- A row of the routing table: room, received and closed come with each level (docs/contracts.md).
  function self.row(id)
    return { id = id, room = 0, received = 0, closed = 0, now = false, settled = 0, last = "", this = "", next = "" }
  end

  function self.update(row, room, received, closed)
    row.room, row.received, row.closed, row.now = room, received, closed, false
  end

  -- What was assigned two ticks ago and before changes no more, except for calls given back (which only costs a place
  -- until the next level), so it is added up once per level and tick.
  local function settle(row, now)
    local prefix, sum = row.id .. ":", -row.received
    for tick = row.closed + 1, now - 2 do sum = sum + (get(prefix .. tick) or 0) end
    row.settled, row.now = sum, now
    row.last = now - 1 > row.closed and prefix .. (now - 1) or false
    row.this, row.next = prefix .. now, prefix .. (now + 1)
  end

  -- False when nothing may be assigned whatever the counters say. A tick that is already closed for the proxy (this
  -- assigner has missed ticks) must not be used: its calls would not count as pending.
  local function usable(row, now)
    if row.room <= 0 or now <= row.closed or now - row.closed > M.MAX_LIVE_TICKS then return false end
    if row.now ~= now then settle(row, now) end
    return true
  end

  local function neighbours(row)
    return (row.last and get(row.last) or 0) + (get(row.next) or 0)
  end

  -- Places left on the row: a hint for choosing, without a reservation.
  function self.free(row, now)
    if not usable(row, now) then return 0 end
    local pending = row.settled + (get(row.this) or 0) + neighbours(row)
    if pending <= 0 then return row.room end
    if pending >= row.room then return 0 end
    return row.room - pending
  end

  -- Assigns one call to the row under tick `now`; false, and nothing is counted, when it has no place left. Route TAKE does
  -- the same for a row that this function has been used on under the same tick and level.
  function self.take(row, now)
    if not usable(row, now) then return false end
    local mine = inc(row.this)
    if row.settled + mine + neighbours(row) <= row.room then return true end
    dec(row.this)
    return false
  end

  -- The call assigned under `tick` certainly never reached the proxy: its place is free again.
  function self.give_back(row, tick)
    dec(row.id .. ":" .. tick)
  end

  return self
end

return M
