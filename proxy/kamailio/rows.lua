-- The routing table and the policies that choose from it. A SIP worker keeps its own parsed copy of the table and reads it
-- anew when rt=>ver changes; all that workers share is counters in shared memory, changed by atomic increments.

local sht, pvget = KSR.htable, KSR.pv.get
local get, inc, dec = sht.sht_get, sht.sht_inc, sht.sht_dec

-- Candidates that policy `least` looks at per call; the order of the others is renewed when these have lost their lead.
local LEAST_WINDOW = 16

local M = {}

-- The first call under a tick is also put on a list (new=>n), so that the agent need not go through all counters.
local listed, listed_count = {}, 0

function M.count(name, key)
  local value = inc(name, key)
  if value == 1 then
    local entry = name .. ":" .. key
    if not listed[entry] then
      if listed_count > 5000 then listed, listed_count = {}, 0 end
      listed[entry], listed_count = true, listed_count + 1
      sht.sht_sets("new", tostring(inc("cnt", "new")), entry)
    end
  end
  return value
end

local count = M.count
local credits = require("credits").new(
  function(key) return get("ast", key) end,
  function(key) return count("ast", key) end,
  function(key) return dec("ast", key) end)

-- ---- the table -----------------------------------------------------------------------------------------------------------
local version, members_version = -1, -1
local rows, by_id, total_weight = {}, {}, 0
local cursor, cursor_tick = 1, -1       -- policy first: rows before it had no room under this table and tick
local order, snapshot = {}, {}          -- policy least: rows by free places, when last sorted

local function blob(prefix, chunks)
  local parts = {}
  for i = 0, chunks - 1 do parts[i + 1] = get("rt", prefix .. "." .. i) or "" end
  return table.concat(parts)
end

local function read_members(mv, chunks)
  rows, by_id, total_weight = {}, {}, 0
  local n = 0
  for id, uri, advertise, weight in string.gmatch(blob("m" .. mv, chunks), "([^|\n]+)|([^|\n]+)|([^|\n]+)|(%d+)\n") do
    n = n + 1
    local row = credits.row(id)
    total_weight = total_weight + tonumber(weight)
    row.uri, row.advertise, row.upto = uri, advertise, total_weight
    rows[n], by_id[id] = row, row
  end
end

function M.refresh()
  local v = get("rt", "ver") or 0
  if v == version then return end
  local mv, mc, lv, lc = string.match(get("rt", "i" .. v) or "", "^(%d+):(%d+):(%d+):(%d+)$")
  version = v
  if not mv then rows, by_id, total_weight, members_version = {}, {}, 0, -1 return end
  if mv ~= members_version then read_members(mv, tonumber(mc)) members_version = mv end
  local i = 0
  for room, received, closed, spare in string.gmatch(blob("l" .. lv, tonumber(lc)), "(%d+)|(%d+)|(%d+)|(%d+)\n") do
    i = i + 1
    if rows[i] then
      rows[i].spare = tonumber(spare) credits.update(rows[i], tonumber(room), tonumber(received), tonumber(closed))
    end
  end
  for rest = i + 1, #rows do credits.update(rows[rest], 0, 0, 0) end
  cursor, order = 1, nil
end

-- Not for this request: it has been there, or that proxy did not answer a moment ago.
function M.excluded(row, visited)
  return (visited ~= "" and string.find(visited, ":" .. row.id .. ":", 1, true)) or get("sus", row.id)
end

local excluded = M.excluded

local function take(row, tick, visited)
  return not excluded(row, visited) and credits.take(row, tick)
end

-- ---- policies -------------------------------------------------------------------------------------------------------------
local function first(tick, visited)
  if cursor_tick ~= tick then cursor, cursor_tick = 1, tick end
  for i = cursor, #rows do
    local row = rows[i]
    if not excluded(row, visited) then
      if credits.take(row, tick) then return row end
      if i == cursor then cursor = i + 1 end
    end
  end
end

local function weighted(tick, visited)
  if total_weight > 0 then
    for _ = 1, 4 do
      local r, low, high = math.random() * total_weight, 1, #rows
      while low < high do
        local middle = math.floor((low + high) / 2)
        if rows[middle].upto > r then high = middle else low = middle + 1 end
      end
      if take(rows[low], tick, visited) then return rows[low] end
    end
  end
  return first(tick, visited)
end

local function sort_by_free(tick)
  order = {}
  for i, row in ipairs(rows) do
    snapshot[i] = credits.free(row, tick)
    order[i] = i
  end
  table.sort(order, function(a, b)
    if snapshot[a] == snapshot[b] then return a < b end
    return snapshot[a] > snapshot[b]
  end)
end

local function least(tick, visited)
  for attempt = 1, 2 do
    if not order then sort_by_free(tick) end
    local best, most = nil, 0
    for place = 1, math.min(LEAST_WINDOW, #order) do
      local row = rows[order[place]]
      local free = credits.free(row, tick)
      if free > most and not excluded(row, visited) then best, most = row, free end
    end
    local outside = order[LEAST_WINDOW + 1]
    local rival = outside and snapshot[outside] or 0
    -- Still about as free (5 %, at least 2 calls) as the best one outside the window?
    if best and most + math.max(2, rival * 0.05) >= rival and credits.take(best, tick) then return best end
    if not outside then break end
    order = nil
  end
  return first(tick, visited)
end

local policies = { first = first, least = least, weighted = weighted }
local seeded

-- The row, with a place of it taken, or nil; and whether the next call may have the same row for as long as it has places.
function M.choose(tick, visited)
  if not seeded then seeded = true math.randomseed(pvget("$pp") * 7919 + os.time()) end
  local policy = policies[get("ctl", "policy")] or first
  return policy(tick, visited), policy == first
end

-- For an urgent call that finds no room: the proxy with the most capacity left. Admission decides.
function M.most_spare(visited)
  local best
  for _, row in ipairs(rows) do
    if not M.excluded(row, visited) and (row.spare or 0) > (best and best.spare or 0) then best = row end
  end
  return best
end

function M.rows() return rows end
function M.row(id) return by_id[id] end

M.credits = credits
return M
