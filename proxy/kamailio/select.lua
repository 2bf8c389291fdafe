-- Chooses proxies from the routing table, and makes and checks the tokens of assignments. Called by lua_run from the route
-- blocks; what it decides it leaves in $var(...). A SIP worker keeps its own parsed copy of the table and reads it anew when
-- rt=>ver changes; all that workers share is counters in shared memory, changed by atomic increments.

local sht, pv = KSR.htable, KSR.pv
local get, inc, dec = sht.sht_get, sht.sht_inc, sht.sht_dec
local pvget, pvset = pv.get, pv.sets
local DIR = debug.getinfo(1, "S").source:match("^@(.*)/[^/]*$")

-- Candidates that policy `least` looks at per call; the order of the others is renewed when these have lost their lead.
local LEAST_WINDOW = 16
-- Ticks (of 2 s or more) for which a token is believed: a client may be slow to follow its 302. Counted only while live.
local TOKEN_TICKS = 25
local LIVE_TICKS = 3

-- ---- counters that the agent reads ------------------------------------------------------------------------------------
-- The first call under a tick is also put on a list (new=>n), so that the agent need not go through all counters.
local listed, listed_count = {}, 0

local function count(name, key)
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

local credits = dofile(DIR .. "/credits.lua").new(
  function(key) return get("ast", key) end,
  function(key) return count("ast", key) end,
  function(key) return dec("ast", key) end)

-- ---- the table -----------------------------------------------------------------------------------------------------------
local version, members_version = -1, -1
local rows, by_id, total_weight = {}, {}, 0
local self_id
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

local function refresh()
  local v = get("rt", "ver") or 0
  if v == version then return end
  local mv, mc, lv, lc = string.match(get("rt", "i" .. v) or "", "^(%d+):(%d+):(%d+):(%d+)$")
  version = v
  if not mv then rows, by_id, total_weight, members_version = {}, {}, 0, -1 return end
  self_id = get("ctl", "id")
  if mv ~= members_version then read_members(mv, tonumber(mc)) members_version = mv end
  local i = 0
  for room, received, closed in string.gmatch(blob("l" .. lv, tonumber(lc)), "(%d+)|(%d+)|(%d+)\n") do
    i = i + 1
    if rows[i] then credits.update(rows[i], tonumber(room), tonumber(received), tonumber(closed)) end
  end
  for rest = i + 1, #rows do credits.update(rows[rest], 0, 0, 0) end
  cursor, order = 1, nil
end

-- Not for this request: it has been there, or that proxy did not answer a moment ago.
local function excluded(row, visited)
  return (visited ~= "" and string.find(visited, ":" .. row.id .. ":", 1, true)) or get("sus", row.id)
end

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

local function choose(tick, visited)
  if not seeded then seeded = true math.randomseed(pvget("$pp") * 7919 + os.time()) end
  return (policies[get("ctl", "policy")] or first)(tick, visited)
end

-- ---- tokens ---------------------------------------------------------------------------------------------------------------
-- <assigner>.<tick>.<n>.<mac>; n begins with what the token is:
--   c  a call assigned by credit: counted as received
--   t  a call tried without credit: admit it or refuse it, do not send it on
--   p  a fresh request that a member passes to the primary
--   n  not a call: costs nothing
-- The MAC is SHA-256 over the key and what it vouches for, cut to half: without the other half nobody can extend the input,
-- which is all that HMAC's second pass is for. The key has a fixed length, so key and input cannot be mistaken.
local serial, process = 0, nil

local function mac(text)
  pvset("$var(mac)", get("ctl", "key") .. text)
  return pvget("$(var(mac){s.sha256}{s.substr,0,32})")
end

local function sign(kind, tick, target, visited, client, bound)
  serial = serial + 1
  process = process or pvget("$pp")
  local head = (self_id or get("ctl", "id")) .. "." .. tick .. "." .. kind .. process .. "x" .. serial
  return head .. "." .. mac(table.concat({ head, target, visited, client, bound }, "|"))
end

-- $avp(visited) is ":a:b:" (empty: ""); on the wire it is "a:b".
local function bare(visited) return (visited:gsub("^:", ""):gsub(":$", "")) end

local function with_self(visited)
  self_id = self_id or get("ctl", "id")
  if visited == "" then return ":" .. self_id .. ":" end
  if string.find(visited, ":" .. self_id .. ":", 1, true) then return visited end
  return visited .. self_id .. ":"
end

-- Checks the token of a request, if it has one. Leaves
--   $var(arrival)  "" none, or not believed: a fresh request; else the token's kind, or "loop"
--   $var(direct)   1: it came with a 302's Contact, so the client itself is at the other end
--   $var(counts)   "<assigner>:<tick>" when it counts as received, else ""
--   $avp(visited), $avp(client) when believed;  $var(domain) what the client asked for before the 302
function vp_arrive()
  pvset("$var(arrival)", "") pvset("$var(counts)", "") pvset("$var(domain)", "")
  local token, visited, client, bound = pvget("$hdr(X-VP-Token)")
  local direct = type(token) ~= "string"
  pv.seti("$var(direct)", direct and 1 or 0)
  if direct then
    token = pvget("$(ru{uri.param,vpt})")
    visited, bound = pvget("$(ru{uri.param,vpv})") or "", pvget("$(ru{uri.param,vpd})") or ""
    client = "ip=" .. pvget("$si")
  else
    visited, client, bound = pvget("$hdr(X-VP-Visited)") or "", pvget("$hdr(X-VP-Client)") or "", pvget("$ci") or ""
  end
  self_id = self_id or get("ctl", "id")
  local seen = ":" .. visited .. ":"
  if string.find(seen, ":" .. self_id .. ":", 1, true) then pvset("$var(arrival)", "loop") return 1 end
  local head, given = string.match(token or "", "^(.+)%.(%x+)$")
  local assigner, tick, kind, n = string.match(head or "", "^(.+)%.(%d+)%.(%l)(%d+x%d+)$")
  local target = kind == "p" and "primary" or self_id
  if not kind or given ~= mac(table.concat({ head, target, visited, client, bound }, "|")) then
    inc("cnt", "forged")
    return 1
  end
  if direct then pvset("$var(domain)", bound) end
  local age = (get("ctl", "tick") or 0) - tonumber(tick)
  if age > TOKEN_TICKS or inc("tok", assigner .. "." .. n) > 1 then
    inc("cnt", "forged")
    return 1
  end
  pvset("$var(arrival)", kind)
  if visited ~= "" then pvset("$avp(visited)", seen) end
  if not direct then pvset("$avp(client)", client) end
  if kind == "c" and age < LIVE_TICKS then pvset("$var(counts)", assigner .. ":" .. tick) end
  return 1
end

-- The call that arrived with a token is counted, after its place was reserved or refused (contracts.md, the order).
function vp_received(counts)
  if counts and counts ~= "" then count("rcv", counts) end
  return 1
end

-- ---- assigning ------------------------------------------------------------------------------------------------------------
local function picked(row, kind, tick)
  pvset("$avp(pick)", row.id)
  pvset("$var(uri)", row.uri)
  pvset("$avp(kind)", kind)
  pv.seti("$avp(tick)", tick)
  return row
end

local function visited_so_far()
  local visited, tried = pvget("$avp(visited)"), pvget("$avp(tried)")
  return (type(visited) == "string" and visited or "") .. (type(tried) == "string" and tried or "")
end

-- The 302: scheme, user, transport and parameters stay the client's; the domain it asked for goes along, signed.
-- `parts`: what of the request is needed, in one string, because each look into the message costs as much as all of them.
local function redirect(row, kind, tick, visited, parts)
  local scheme, user, host, port, params, proto, source, domain =
    string.match(parts, "^(.-)\n(.-)\n(.-)\n(.-)\n(.-)\n(.-)\n(.-)\n(.*)$")
  if row.id ~= self_id then visited = with_self(visited) end
  visited = bare(visited)
  if domain == "" then domain = (port == "0" or port == "" or port == "<null>") and host or host .. ":" .. port end
  local kept = ""
  if params ~= "" and params ~= "<null>" then
    for param in string.gmatch(params, "[^;]+") do
      local name = string.lower(string.match(param, "^[^=]*"))
      if name ~= "transport" and name ~= "vpt" and name ~= "vpv" and name ~= "vpd" then kept = kept .. ";" .. param end
    end
  end
  local token = sign(kind, tick, row.id, visited, "ip=" .. source, domain)
  KSR.hdr.append_to_reply("Contact: <" .. scheme .. ":" .. (user ~= "" and user ~= "<null>" and user .. "@" or "") ..
    row.advertise .. (proto ~= "udp" and ";transport=" .. proto or "") .. kept ..
    ";vpd=" .. domain .. (visited ~= "" and ";vpv=" .. visited or "") .. ";vpt=" .. token .. ">\r\n")
  KSR.sl.send_reply(302, "Moved Temporarily")
  inc("cnt", "redirected")
end

-- Chooses a proxy for the request and, in mode redirect, answers it. Leaves $avp(pick) ("" when none has room), $var(uri).
-- An INVITE takes one of the proxy's places; anything else goes where the next call would, and costs nothing.
function vp_assign(mode, method, parts)
  refresh()
  local visited, tick = visited_so_far(), get("ctl", "tick") or 0
  local row, kind = nil, "c"
  if method == "INVITE" then
    row = choose(tick, visited)
    if row then inc("cnt", "assigned") end
  else
    kind = "n"
    for _, candidate in ipairs(rows) do
      if not excluded(candidate, visited) then
        row = row or candidate
        if credits.free(candidate, tick) > 0 then row = candidate break end
      end
    end
  end
  if not row then
    pvset("$avp(pick)", "")
  elseif mode == "redirect" then
    pvset("$avp(pick)", row.id)
    redirect(row, kind, tick, pvget("$avp(visited)") or "", parts)
  else
    picked(row, kind, tick)
  end
  return 1
end

-- No credit is left: the row to try all the same, a different one each time; admission decides.
local try_from = 0
function vp_try()
  refresh()
  pvset("$avp(pick)", "")
  local visited = visited_so_far()
  for step = 1, #rows do
    local row = rows[(try_from + step - 1) % #rows + 1]
    if row.id ~= self_id and not excluded(row, visited) then
      try_from = try_from + step
      picked(row, "t", get("ctl", "tick") or 0)
      return 1
    end
  end
  return 1
end

-- The assignment in $avp(pick), $avp(tick) certainly did not arrive.
function vp_give_back()
  refresh()                     -- time-outs are handled by another process, which may never have chosen anything
  local row = by_id[pvget("$avp(pick)")]
  if row and pvget("$avp(kind)") == "c" then
    credits.give_back(row, pvget("$avp(tick)"))
    inc("cnt", "returned")
  end
  return 1
end

-- The headers that tell the next proxy who assigned the request, where it has been and whose it is: $var(vouched).
function vp_vouch()
  local kind, target = pvget("$avp(kind)"), pvget("$avp(pick)")
  local visited = pvget("$avp(visited)") or ""
  if kind ~= "p" then visited = with_self(visited) end
  visited = bare(visited)
  local client = pvget("$avp(client)") or ""
  local token = sign(kind, pvget("$avp(tick)"), target, visited, client, pvget("$ci") or "")
  pvset("$var(vouched)", "X-VP-Token: " .. token .. "\r\n" ..
    (visited ~= "" and "X-VP-Visited: " .. visited .. "\r\n" or "") .. "X-VP-Client: " .. client .. "\r\n")
  return 1
end

-- Takes our own parameters out of the Request-URI and puts the domain back that the client asked for.
function vp_restore()
  local uri, domain = pvget("$ru"), pvget("$var(domain)")
  uri = uri:gsub(";vp[tvd]=[^;?>]*", "")
  if type(domain) == "string" and domain ~= "" then
    uri = uri:gsub("^(%a+:)([^@;?]*@?)([^;?]*)", function(scheme, user, host)
      if not user:find("@", 1, true) then user = "" end
      return scheme .. user .. domain
    end, 1)
  end
  pvset("$ru", uri)
  return 1
end

-- ---- routes ---------------------------------------------------------------------------------------------------------------
-- The targets for a user: the route with the longest fitting prefix, the first of equals. Those that failed lately come last.
function vp_targets(user)
  local best, length = "", -1
  for i = 1, get("route", "n") or 0 do
    local prefix, targets = string.match(get("route", tostring(i)) or "", "^[^|]*|([^|]*)|(.*)$")
    if prefix and #prefix > length and string.sub(user or "", 1, #prefix) == prefix then
      best, length = targets, #prefix
    end
  end
  local good, bad = {}, {}
  for target in string.gmatch(best, "%S+") do
    local list = get("bad", target) and bad or good
    list[#list + 1] = target
  end
  for _, target in ipairs(bad) do good[#good + 1] = target end
  pvset("$avp(targets)", table.concat(good, " "))
  return 1
end

-- The next of $avp(targets) becomes $du and $avp(target); $avp(target) is "" when none is left.
function vp_next_target()
  local target, rest = string.match(pvget("$avp(targets)") or "", "^(%S+)%s*(.*)$")
  pvset("$avp(target)", target or "")
  pvset("$avp(targets)", rest or "")
  if target then pvset("$du", target) end
  return 1
end

-- ---- signed route parameters ---------------------------------------------------------------------------------------------
-- Our Record-Route and Path entries carry a MAC: who comes with one takes part in a dialog that went through us.
function vp_route_mac(text) pvset("$var(route_mac)", string.sub(mac("route|" .. (text or "")), 1, 16)) return 1 end

-- ---- hand-over --------------------------------------------------------------------------------------------------------------
-- What the previous primary tells the new one of an INVITE that it knows, by its branch: $var(known), a request that no
-- client could make.
function vp_know(branch)
  local here = pvget("$Ri") .. ":" .. pvget("$Rp")
  pvset("$var(known)", table.concat({
    "INFO sip:pool@" .. pvget("$si") .. " SIP/2.0", "Via: SIP/2.0/UDP " .. here .. ";branch=z9hG4bKknown" .. branch,
    "From: <sip:pool@" .. here .. ">;tag=known", "To: <sip:pool@" .. pvget("$si") .. ">", "Call-ID: known-" .. branch,
    "CSeq: 1 INFO", "Max-Forwards: 1", "X-VP-Known: " .. branch .. " " .. mac("known|" .. branch),
    "Content-Length: 0", "", "" }, "\r\n"))
  return 1
end

function vp_known(header)
  local branch, given = string.match(header or "", "^(%S+) (%x+)$")
  if branch and given == mac("known|" .. branch) then sht.sht_sets("known", branch, "1") else inc("cnt", "forged") end
  return 1
end

-- For how long the previous primary is asked about INVITEs: 32 s from when we first saw it named.
local ASK_SECONDS = 32
local previous, asked_seconds = "", 0

function vp_previous()
  local now = get("ctl", "prev") or ""
  if now ~= previous then
    previous, asked_seconds = now, 0
    sht.sht_sets("ctl", "asked", now == "" and "" or "-")
  elseif now ~= "" then
    asked_seconds = asked_seconds + 1
    if asked_seconds == ASK_SECONDS then sht.sht_sets("ctl", "asked", now) end
  end
  return 1
end

-- ---- once a second -----------------------------------------------------------------------------------------------------------
-- use=>calls against the dialog table. A call is counted a moment before its dialog exists and a moment after it ends, so
-- only what was off in every one of five checks, in the same direction, is put right, by its smallest value.
local CHECKS = 5
local checks, smallest = 0, 0

function vp_reconcile(dialogs)
  local off = (get("use", "calls") or 0) - tonumber(dialogs)
  if off == 0 or off * smallest < 0 then checks, smallest = 0, off return 1 end
  if checks == 0 or math.abs(off) < math.abs(smallest) then smallest = off end
  checks = checks + 1
  if checks < CHECKS then return 1 end
  for _ = 1, math.abs(smallest) do
    if smallest > 0 then dec("use", "calls") else inc("use", "calls") end
  end
  KSR.warn("calls in use were off by " .. smallest .. " from the dialog table for " .. CHECKS .. " s: put right\n")
  inc("cnt", "reconciled")
  checks, smallest = 0, 0
  return 1
end

-- Tries without credit that the next second may make: a fifth of what was assigned in the last, and a few. Beyond that
-- an overload would be multiplied by asking everybody about every call.
local assigned_before = 0
function vp_budget()
  local assigned = get("cnt", "assigned") or 0
  sht.sht_seti("use", "tries", 20 + math.max(0, math.floor((assigned - assigned_before) / 5)))
  assigned_before = assigned
  return 1
end

-- rtpengine's XML-RPC call: dlg.terminate_dlg(Call-ID, From tag, To tag) -> $var(silent_call), _from, _to.
function vp_media_timeout(body)
  local strings = {}
  for s in string.gmatch(body or "", "<string>([^<]*)</string>") do strings[#strings + 1] = s end
  local known = string.find(body or "", "dlg.terminate_dlg", 1, true)
  pvset("$var(silent_call)", known and strings[1] or "")
  pvset("$var(silent_from)", strings[2] or "")
  pvset("$var(silent_to)", strings[3] or "")
  return 1
end
