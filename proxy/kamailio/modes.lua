-- By which mode a client is served: the first of the rules (mode=><i>) that fits it; and who does not follow a 302.
--
-- sent=><hash of its address of record> is what is known of a client:
--   <token without its MAC> <proxy's id> <CSeq> <Call-ID> <client>   where a 302 sent it, for two minutes
--   follows <client>                                                 it is redirected, for an hour
--   stays <client>                                                   it is forwarded, for four hours
-- A client that was sent away and comes back is forwarded. Whether it had followed, the proxy that it was sent to knows, which
-- has seen the token or has not: it is asked (INFO, kind l), and nobody waits for its word. Meanwhile the note is kept aside, so
-- that whoever calls all the time under one name makes one question in a while, and not one of each call.

local sht, pvget = KSR.htable, KSR.pv.get
local get = sht.sht_get
local tokens, routing, kept, named = require("tokens"), require("rows"), require("kept"), require("agents")
local send = require("registrar").send

local TICKS = 2                                            -- of 2 s; the first may be over at once: time to follow
local SECONDS = { follows = 3600, stays = 4 * 3600 }

-- ---- rules: <mode>;<network>,...;<part of a User-Agent>|...
local rule = kept("mode", function(text)
  local mode, networks, agents = string.match(text, "^(%a+);([^;]*);(.*)$")
  local list = {}
  for network in string.gmatch(networks or "", "[^,]+") do list[#list + 1] = network end
  return { mode = mode, networks = list, agents = agents }
end)

-- One network at a time: of a list of IPv6 networks the module would compare with what the one before left of the address.
local function within(address, networks)
  for _, network in ipairs(networks) do
    if KSR.ipops.is_in_subnet(address, network) > 0 then return true end
  end
  return #networks == 0
end

-- $var(redirecting), where a rule fits.
function vp_client_mode(address, agent)
  for number = 1, get("ctl", "modes") or 0 do
    local one = rule(tostring(number))
    if one and within(address, one.networks) and (one.agents == "" or named(agent or "", one.agents)) then
      KSR.pv.seti("$var(redirecting)", one.mode == "redirect" and 1 or 0)
      return 1
    end
  end
  return 1
end

-- ---- who does not follow
local M = {}

local function aside(at) return "?" .. at end
local function hash() return tostring(pvget("$var(hash)")) end
local function client() return pvget("$si") .. " " .. pvget("$fu") end

local function note(at, sent)
  sht.sht_sets("sent", at, table.concat({ sent.token, sent.id, sent.cseq, sent.call_id, sent.client }, " "))
end

-- Of the request that a 302 from Lua answers; route REDIRECT does the same without it.
function M.remember(id, token)
  if pvget("$var(remember)") ~= 1 then return end
  note(hash(), { token = token, id = id, cseq = pvget("$cs"), call_id = pvget("$ci"), client = client() })
end

local function read(at)
  local text = get("sent", at) or ""
  local word, known = string.match(text, "^(%l+) (.*)$")
  if SECONDS[word] then return { word = word, client = known } end
  local token, id, cseq, call_id, sent = string.match(text, "^(%S+) (%S+) (%d+) (%S+) (.*)$")
  return token and { token = token, id = id, cseq = tonumber(cseq), call_id = call_id, client = sent }
end

local function found_out(at, sent, word)
  sht.sht_setxs("sent", at, word .. " " .. sent.client, SECONDS[word])
end

-- A token's assigner and number, by which its arrival is counted (tok=>), and its tick.
local function parts(token)
  local assigner, tick, number = string.match(token, "^(.+)%.(%d+)%.%l([^.]+)$")
  return assigner, number, tonumber(tick)
end

local function arrived(token)
  local assigner, number = parts(token)
  return assigner ~= nil and get("tok", assigner .. "." .. number) > 0
end

-- The proxy that the client was sent to; one that is in no table any more is not asked.
local function ask(at, sent)
  if sent.id == tokens.own_id() then found_out(at, sent, arrived(sent.token) and "follows" or "stays") return end
  routing.refresh()
  local row = routing.row(sent.id)
  local host = row and string.match(row.uri, "^sip:(.+):%d+")
  if not host then return end
  local _, number = parts(sent.token)
  note(aside(at), sent)
  send(host, "INFO", "sip:pool.invalid", "sent-" .. tokens.number(tokens.head("l", 0)), 1,
    { "X-VP-Sent: " .. sent.id .. " " .. sent.token }, "sent:" .. at .. ":" .. number)
end

-- For a client that was sent away before and has come back: true where it is to be forwarded.
local function came_back(at, sent)
  if sent.call_id == pvget("$ci") and sent.cseq == tonumber(pvget("$cs")) then
    -- A repetition gets a 302 of its own. Which of them the client follows nobody knows, so no proxy is asked later.
    sent.token = "-"
    note(at, sent)
    return false
  end
  local _, _, tick = parts(sent.token)
  if tick and (get("ctl", "tick") or 0) - tick < TICKS then return false end
  sht.sht_rm("sent", at)
  if tick then ask(at, sent) end
  return true
end

-- Something is known under the client's hash. Leaves $var(redirecting), and $var(remember) 1 where that is another client's.
function vp_sent_before()
  local at = hash()
  local sent = read(at)
  local own = sent and sent.client == client()
  KSR.pv.seti("$var(remember)", not own and (not sent or sent.word ~= "stays") and 1 or 0)
  if own and (sent.word == "stays" or not sent.word and came_back(at, sent)) then
    KSR.pv.seti("$var(redirecting)", 0)
    sht.sht_inc("cnt", "stays")
  end
  return 1
end

-- Asked by a peer: $var(word), 200 or 404; 480 where it means a run of Kamailio that is over.
function vp_tell_arrived(text)
  local id, token = string.match(text or "", "^(%S+) (%S+)$")
  KSR.pv.seti("$var(word)", id ~= tokens.own_id() and 480 or arrived(token) and 200 or 404)
  return 1
end

-- The peer's word; none comes from one that is away.
function vp_told_arrived(asked, code)
  local at, number = string.match(asked, "^sent:(%d+):(.+)$")
  local sent = at and read(aside(at))
  if not sent or select(2, parts(sent.token)) ~= number then return end
  sht.sht_rm("sent", aside(at))
  if code == "200" then found_out(at, sent, "follows") elseif code == "404" then found_out(at, sent, "stays") end
end

return M
