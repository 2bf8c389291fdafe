-- Assigns requests to proxies; the start of all that the configuration has in Lua. Called by lua_run from the route blocks;
-- what is decided is left in $var(...) or $avp(...).

package.path = debug.getinfo(1, "S").source:match("^@(.*)/[^/]*$") .. "/?.lua"

local sht, pv = KSR.htable, KSR.pv
local get, inc = sht.sht_get, sht.sht_inc
local pvget, pvset = pv.get, pv.sets
local tokens, routing = require("tokens"), require("rows")
local credits = routing.credits
local modes = require("modes")
require("routes")
require("handover")
require("digest")
require("registrar")
require("delegated")
require("media")
require("protection")
require("hiding")
require("clock")

-- The call that arrived with a token is counted, after its place was reserved or refused (contracts.md, the order).
function vp_received(counts)
  if counts and counts ~= "" then routing.count("rcv", counts) end
  return 1
end

-- ---- assigning ----------------------------------------------------------------------------------------------------------
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
local function redirect(row, unsigned, visited, parts)
  local scheme, user, host, port, params, proto, at_port, source, domain =
    string.match(parts, "^(.-)\n(.-)\n(.-)\n(.-)\n(.-)\n(.-)\n(.-)\n(.-)\n(.*)$")
  if row.id ~= tokens.own_id() then visited = tokens.with_self(visited) end
  visited = tokens.bare(visited)
  if domain == "" then domain = (port == "0" or port == "" or port == "<null>") and host or host .. ":" .. port end
  local kept = ""
  if params ~= "" and params ~= "<null>" then
    for param in string.gmatch(params, "[^;]+") do
      local name = string.lower(string.match(param, "^[^=]*"))
      if name ~= "transport" and name ~= "vpt" and name ~= "vpv" and name ~= "vpd" then kept = kept .. ";" .. param end
    end
  end
  local token = tokens.sign(unsigned, row.id, visited, "ip=" .. source, domain)
  -- TLS has a port of its own, the same at each proxy.
  local host_port = proto == "tls" and row.advertise:gsub("%d+$", at_port) or row.advertise
  KSR.hdr.append_to_reply("Contact: <" .. scheme .. ":" .. (user ~= "" and user ~= "<null>" and user .. "@" or "") ..
    host_port .. (proto ~= "udp" and ";transport=" .. proto or "") .. kept ..
    ";vpd=" .. domain .. (visited ~= "" and ";vpv=" .. visited or "") .. ";vpt=" .. token .. ">\r\n")
  KSR.sl.send_reply(302, "Moved Temporarily")
  inc("cnt", "redirected")
  modes.remember(row.id, unsigned)
end

-- Chooses a proxy for the request and, where `redirecting` is "1", answers it. Leaves $avp(pick) ("" when none has room) and
-- $var(uri).
-- An INVITE takes one of the proxy's places; anything else goes where the next call would, and costs nothing.
function vp_assign(redirecting, method, parts)
  routing.refresh()
  local visited, tick = visited_so_far(), get("ctl", "tick") or 0
  local row, kind = nil, "c"
  if method == "INVITE" then
    row = routing.choose(tick, visited)
    if row then inc("cnt", "assigned") end
  else
    kind = "n"
    for _, candidate in ipairs(routing.rows()) do
      if not routing.excluded(candidate, visited) then
        row = row or candidate
        if credits.free(candidate, tick) > 0 then row = candidate break end
      end
    end
  end
  if not row then
    pvset("$avp(pick)", "")
  elseif redirecting == "1" then
    pvset("$avp(pick)", row.id)
    redirect(row, tokens.number(tokens.head(kind, tick)), pvget("$avp(visited)") or "", parts)
  else
    picked(row, kind, tick)
  end
  return 1
end

-- No credit is left: the row to try all the same, a different one each time; admission decides.
local try_from = 0
function vp_try()
  routing.refresh()
  pvset("$avp(pick)", "")
  local visited, rows = visited_so_far(), routing.rows()
  if pvget("$avp(urgent)") == 1 then
    local row = routing.most_spare(visited .. ":" .. tokens.own_id() .. ":")
    if row then picked(row, "t", get("ctl", "tick") or 0) end
    return 1
  end
  for step = 1, #rows do
    local row = rows[(try_from + step - 1) % #rows + 1]
    if row.id ~= tokens.own_id() and not routing.excluded(row, visited) then
      try_from = try_from + step
      picked(row, "t", get("ctl", "tick") or 0)
      return 1
    end
  end
  return 1
end

-- The assignment in $avp(pick), $avp(tick) certainly did not arrive.
function vp_give_back()
  routing.refresh()                     -- time-outs are handled by another process, which may never have chosen anything
  local row = routing.row(pvget("$avp(pick)"))
  if row and pvget("$avp(kind)") == "c" then
    credits.give_back(row, pvget("$avp(tick)"))
    inc("cnt", "returned")
  end
  return 1
end

local function visited_header(visited) return visited ~= "" and "X-VP-Visited: " .. visited .. "\r\n" or "" end

-- The headers that tell the next proxy who assigned the request and where it has been: $var(token) and
-- $var(visited_header). The third, whose it is, is $avp(client).
function vp_vouch()
  local kind, target = pvget("$avp(kind)"), pvget("$avp(pick)")
  local visited = pvget("$avp(visited)") or ""
  if kind ~= "p" then visited = tokens.with_self(visited) end
  visited = tokens.bare(visited)
  local client = pvget("$avp(client)") or ""
  local token = tokens.sign(tokens.number(tokens.head(kind, pvget("$avp(tick)"))), target, visited, client, pvget("$ci") or "")
  pvset("$var(token)", token)
  pvset("$var(visited_header)", visited_header(visited))
  return 1
end

-- ---- what a worker keeps of the shared state ---------------------------------------------------------------------------
-- $var is a worker's own memory. Whoever changes the state gives ctl=>gen a value that it never had, last.
local announced = 0
function vp_announce()
  announced = announced + 1
  sht.sht_sets("ctl", "gen", pvget("$pp") .. "." .. announced)
  return 1
end

function vp_state()
  local generation = get("ctl", "gen")  -- before all else: what changes meanwhile is read again
  local function flag(name, value) pv.seti("$var(" .. name .. ")", value and 1 or 0) end
  flag("ready", get("ctl", "ready") == 1)
  flag("registrar", get("ctl", "registrar") == 1)
  flag("primary", get("ctl", "role") == "primary")
  pv.seti("$var(gateways)", pvget("$shtcn(gw=>~~.*)"))
  pv.seti("$var(trunks)", pvget("$shtcn(trunk=>~~.*)"))
  flag("asking", get("ctl", "asked") ~= get("ctl", "prev"))
  flag("redirects", get("ctl", "mode") == "redirect")
  pv.seti("$var(modes)", get("ctl", "modes") or 0)
  pvset("$var(realm)", get("ctl", "realm") or "")
  flag("delegated", get("ctl", "delegated") == 1)
  flag("proving", get("ctl", "delegated") == 1 or (get("ctl", "realm") or "") ~= "")
  flag("certified", get("ctl", "certified") == 1)
  flag("urgency", pvget("$shtcn(urgent=>~~.*)") > 0 or (get("ctl", "priorities") or "") ~= "")
  pv.seti("$var(rate)", get("ctl", "rate"))
  flag("scanners", (get("ctl", "agents") or "") ~= "")
  pvset("$var(phone)", "")
  pvset("$var(key)", get("ctl", "key"))
  pvset("$var(id)", tokens.own_id())
  pvset("$var(own_visited_header)", visited_header(tokens.own_id()))
  pv.seti("$var(keeping)", 0)
  pvset("$var(gen)", generation)
  return 1
end

-- For a fresh call, when the row that this worker keeps has no place left: chooses, and takes the call's place. $var(taken).
local chosen
function vp_choose()
  routing.refresh()
  local tick = get("ctl", "tick") or 0
  local row, keeping = routing.choose(tick, "")
  pv.seti("$var(taken)", row and 1 or 0)
  pv.seti("$var(keeping)", row and keeping and 1 or 0)
  if not row then return 1 end
  chosen = row
  pv.seti("$var(open)", row.room - row.settled)
  pvset("$var(last)", row.last or "none")
  pvset("$var(this)", row.this)
  pvset("$var(next)", row.next)
  pvset("$var(head)", tokens.head("c", tick))
  pv.seti("$var(tick)", tick)
  local visited = row.id ~= tokens.own_id() and tokens.own_id() or ""
  pvset("$var(pick)", row.id)
  pv.seti("$var(pick_self)", row.id == tokens.own_id() and 1 or 0)
  pvset("$var(pick_uri)", row.uri)
  pvset("$var(pick_advertise)", row.advertise)
  pvset("$var(pick_visited)", visited)
  pvset("$var(pick_vpv)", visited ~= "" and ";vpv=" .. visited or "")
  return 1
end

-- The 302 for the call whose place was just taken, where the request is not of the plainest kind.
function vp_redirect(parts)
  redirect(chosen, tokens.number(pvget("$var(head)")), "", parts)
  return 1
end
