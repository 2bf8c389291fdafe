-- Tokens of assignments, and the other MACs by which the proxies of a pool know each other's work.
--
-- <assigner>.<tick>.<n>.<mac>; n begins with what the token is:
--   c  a call assigned by credit: counted as received
--   t  a call tried without credit: admit it or refuse it, do not send it on
--   p  a fresh request that a member passes to the primary
--   n  not a call: costs nothing
--   l  what proxies tell each other of locations, for every one of them
-- The MAC is SHA-256 over the key and what it vouches for, cut to half: without the other half nobody can extend the input,
-- which is all that HMAC's second pass is for. The key has a fixed length, so key and input cannot be mistaken. Route
-- ASSIGN_CALL makes the same tokens without Lua.

local sht, pv = KSR.htable, KSR.pv
local get, inc = sht.sht_get, sht.sht_inc
local pvget, pvset = pv.get, pv.sets

-- Ticks (of 2 s or more) for which a token is believed: a client may be slow to follow its 302. Counted only while live.
local TOKEN_TICKS = 25
local LIVE_TICKS = 3

-- Whom a token is for, where it is not one proxy.
local FOR_ALL = { p = "primary", l = "pool" }

local M = {}

local self_id, process

-- Kamailio chooses its id before it starts its workers.
function M.own_id()
  self_id = self_id or get("ctl", "id")
  return self_id
end

local function mac(text)
  pvset("$var(mac)", get("ctl", "key") .. text)
  return pvget("$(var(mac){s.sha256}{s.substr,0,32})")
end

-- What this worker's tokens begin with under a tick.
function M.head(kind, tick)
  process = process or pvget("$pp")
  return M.own_id() .. "." .. tick .. "." .. kind .. process .. "x"
end

-- The next token, without its MAC: $var(n) numbers all that this worker makes.
function M.number(head)
  local n = pvget("$var(n)") + 1
  pv.seti("$var(n)", n)
  return head .. n
end

function M.sign(unsigned, target, visited, client, bound)
  return unsigned .. "." .. mac(table.concat({ unsigned, target, visited, client, bound }, "|"))
end

function M.headers(name)
  local found = {}
  for at = 0, (pvget("$hdrc(" .. name .. ")") or 0) - 1 do
    found[#found + 1] = pvget("$(hdr(" .. name .. ")[" .. at .. "])")
  end
  return found
end

-- What proxies tell each other (kind l) is bound to all that it says: method, whose it is, Call-ID, CSeq, and these headers.
local SAID = {
  "Contact", "Path", "Expires", "X-VP-Taught", "X-VP-Teach", "X-VP-Source", "X-VP-Sent", "X-VP-Restored",
}

function M.bound_to(method, to, call_id, cseq, lines)
  table.sort(lines)
  return table.concat({ method, to, call_id, cseq, table.concat(lines, "\n") }, "\n")
end

local function said()
  local lines = {}
  for _, name in ipairs(SAID) do
    for _, value in ipairs(M.headers(name)) do lines[#lines + 1] = name .. ": " .. value end
  end
  return M.bound_to(pvget("$rm"), pvget("$tu"), pvget("$ci"), pvget("$cs"), lines)
end

-- $avp(visited) is ":a:b:" (empty: ""); on the wire it is "a:b".
function M.bare(visited) return (visited:gsub("^:", ""):gsub(":$", "")) end

function M.with_self(visited)
  local id = M.own_id()
  if visited == "" then return ":" .. id .. ":" end
  if string.find(visited, ":" .. id .. ":", 1, true) then return visited end
  return visited .. id .. ":"
end

-- Checks the token of a request, if it has one. Leaves
--   $var(arrival)  "" none, or not believed: a fresh request; else the token's kind, or "loop"
--   $var(direct)   1: it came with a 302's Contact, so the client itself is at the other end; not believed: it cannot follow
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
  local id = M.own_id()
  local seen = ":" .. visited .. ":"
  if string.find(seen, ":" .. id .. ":", 1, true) then
    -- A client itself: it sends what follows our 302 to its outbound proxy, which we are.
    if direct then pvset("$var(domain)", bound) else pvset("$var(arrival)", "loop") end
    return 1
  end
  local unsigned, given = string.match(token or "", "^(.+)%.(%x+)$")
  local assigner, tick, kind, n = string.match(unsigned or "", "^(.+)%.(%d+)%.(%l)(%d+x%d+)$")
  local target = FOR_ALL[kind] or id
  if kind == "l" then bound = said() end
  if not kind or given ~= mac(table.concat({ unsigned, target, visited, client, bound }, "|")) then
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

-- ---- signed route parameters ---------------------------------------------------------------------------------------------
-- Our Record-Route and Path entries carry a MAC: who comes with one takes part in a dialog that went through us.
-- Where one that says from which side of the call something is hidden (hiding.lua), it covers that as well, and who the caller is.
function M.route_mac(text, sides, caller)
  local kind = sides and sides ~= "" and "route-" .. sides .. "|" .. caller or "route"
  return string.sub(mac(kind .. "|" .. (text or "")), 1, 16)
end

function vp_route_mac(text, sides, caller) pvset("$var(route_mac)", M.route_mac(text, sides, caller)) return 1 end

-- By which the dialog module knows the dialog of a request again: $var(did), as it writes that itself into the first branches.
function vp_did(entry, id)
  pvset("$var(did)", string.reverse(string.format("%x", entry)) .. "." .. string.reverse(string.format("%x", id)))
  return 1
end

M.mac = mac
return M
