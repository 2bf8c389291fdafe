-- Gateways: what each may do, and how numbers are written on its side. Read from gw=><name> (docs/contracts.md), which the agent
-- writes.

local get, inc, pvget, pvset = KSR.htable.sht_get, KSR.htable.sht_inc, KSR.pv.get, KSR.pv.sets

local kept = require("kept")

local M = {}

-- What there is in a text, as a set.
local function words(text, form)
  local found = {}
  for word in string.gmatch(text, form) do found[word] = true end
  return found
end

local function list(text)
  local items = {}
  for item in string.gmatch(text or "", "[^,]+") do items[#items + 1] = item end
  return #items > 0 and items or nil
end

-- plus:strip:prefix
local function rule(text)
  local plus, strip, prefix = string.match(text or "", "^(%l+):(%d+):(.*)$")
  return plus and { plus = plus, strip = tonumber(strip), prefix = prefix }
end

local function read(text)
  local given = {}
  for key, value in string.gmatch(string.match(text, "^[^|]*|[^|]*|(.*)$") or "", "(%l+)=(%S*)") do given[key] = value end
  return {
    known = words(given.known or "network", "[^+]+"),
    prefixes = list(given.prefixes),
    register = given.register ~= "0",
    priority = given.priority == "1",
    video = given.video ~= "0",
    calls = tonumber(given.calls),
    rate = tonumber(given.rate),
    incoming = rule(given.incoming),
    outgoing = rule(given.outgoing),
    codecs = list(given.codecs),
    hide = given.hide == "1",
  }
end

local named = kept("gw", read)

-- The gateway of that name; nil where it is none (any more).
function M.of(name)
  return name and name ~= "" and named(name) or nil
end

-- The name of the gateway that the request came through, at whatever proxy of the pool it entered, and its address; nil: none.
function M.source()
  local client = pvget("$avp(client)") or ""
  return string.match(client, ";gw=([^;]+)"), string.match(client, "^ip=([^;]+)")
end

-- A number as `to` writes it: the plus is taken off, digits are stripped, the prefix is put before, the plus is added. What is
-- no number stays.
function M.rewrite(to, number)
  local plus, digits = string.match(number, "^(%+?)([%d*#]+)$")
  if not to or not digits then return number end
  if to.plus ~= "keep" then plus = to.plus == "add" and "+" or "" end
  local written = plus .. to.prefix .. string.sub(digits, to.strip + 1)
  return written ~= "" and written or number
end

-- Payload types that need no rtpmap (RFC 3551), as far as they are in use.
local STATIC = { ["0"] = "pcmu", ["3"] = "gsm", ["4"] = "g723", ["8"] = "pcma", ["9"] = "g722", ["15"] = "g728",
  ["18"] = "g729", ["26"] = "jpeg", ["31"] = "h261", ["34"] = "h263" }
-- Not media by themselves.
local ACCESSORIES = { ["telephone-event"] = true, cn = true, red = true, rtx = true, ulpfec = true }

local function has_allowed_codec(codecs, section, formats)
  for format in string.gmatch(formats, "%S+") do
    local name = string.match(section, "a=rtpmap:" .. format .. " ([^/%s]+)") or STATIC[format] or ""
    for _, codec in ipairs(codecs) do
      local allowed = string.lower(codec)
      if string.lower(name) == allowed and not ACCESSORIES[allowed] then return true end
    end
  end
  return false
end

-- What in an offer the gateway may not have: "video", "codecs" (a stream with none of its own), or nil.
function M.forbids(gateway, sdp)
  if not gateway or (gateway.video and not gateway.codecs) then return nil end
  for section in string.gmatch((string.gsub("\n" .. sdp, "\nm=", "\1")), "\1([^\1]*)") do
    local kind, port, protocol, formats = string.match(section, "^(%S+) (%d+)%S* (%S+) ([^\r\n]*)")
    if kind and port ~= "0" then
      if kind == "video" and not gateway.video then return "video" end
      if gateway.codecs and string.find(protocol, "RTP", 1, true)
        and not has_allowed_codec(gateway.codecs, section, formats) then return "codecs" end
    end
  end
end

-- rtpengine's flags for a call between gateways with these lists of codecs: what both allow, in the order of the first.
function M.codec_flags(one, other)
  if not (one or other) then return "" end
  local flags = "codec-strip=all"
  for _, codec in ipairs(one or other) do
    local both = not (one and other)
    for _, allowed in ipairs(both and {} or other) do both = both or string.lower(allowed) == string.lower(codec) end
    if both then flags = flags .. " codec-offer=" .. codec end
  end
  return flags
end

-- Which gateway it is, by the network that the request comes from ("": no gateway's) and the name in the certificate of its
-- connection ("": none that we trust): $var(gateway). One that has both must have come with both.
function vp_gateway_known(network, name)
  local certified = name ~= "" and get("cert", string.lower(name)) or ""
  local gateway = M.of(certified)
  if not gateway or (gateway.known.network and network ~= certified) then certified = "" end
  gateway = M.of(network)
  if gateway and gateway.known.certificate then network = "" end
  pvset("$var(gateway)", certified ~= "" and certified or network)
  return 1
end

-- Who has proven to be that user, from the network of the gateway `there`, or with its certificate ("": neither). $var(proven):
-- "gateway", whose name is $var(gateway); "elsewhere", one that has to come from there as well; "client", any other user.
function vp_gateway_user(user, there)
  local name, proven = get("trunk", user), "client"
  if name then
    local known = (M.of(name) or { known = { network = true } }).known
    proven = (name == there or not (known.network or known.certificate)) and "gateway" or "elsewhere"
  end
  pvset("$var(gateway)", name or "")
  pvset("$var(proven)", proven)
  return 1
end

-- Whether the gateway may send this request. Leaves $var(refused): "" or which right is missing.
function vp_gateway_rights(name, method)
  local gateway, refused = M.of(name), ""
  if not gateway or method == "OPTIONS" then
    refused = ""
  elseif method == "REGISTER" then
    refused = gateway.register and "" or "register"
  else
    if method == "INVITE" then refused = M.forbids(gateway, pvget("$rb") or "") or "" end
    if gateway.prefixes then
      local number, allowed = M.rewrite(gateway.incoming, pvget("$rU") or ""), false
      for _, prefix in ipairs(gateway.prefixes) do
        allowed = allowed or string.sub(number, 1, #prefix) == prefix
      end
      if not allowed then refused = "prefix" end
    end
  end
  pvset("$var(refused)", refused)
  return 1
end

-- Whether the call is urgent by its Resource-Priority, which counts where the gateway has the right to give one: $var(urgent).
-- A namespace stands for all of its values.
function vp_priority(name, header)
  local gateway, urgent = M.of(name), false
  for value in string.gmatch(gateway and gateway.priority and string.lower(header) or "", "[%w.-]+") do
    for wanted in string.gmatch(get("ctl", "priorities") or "", "%S+") do
      urgent = urgent or value == wanted or string.match(value, "^([%w-]+)%.") == wanted
    end
  end
  KSR.pv.seti("$var(urgent)", urgent and 1 or 0)
  return 1
end

-- Takes one of the calls that the gateway may have at a time; nil when there is none left, or nobody knows. The arithmetic is
-- that of credits, for the whole pool (operator/switchboard/pool/gateways.py): this tick is counted up first, what else there
-- is read after.
local MAX_LIVE_TICKS = 30

local function take(name, limit)
  local tick = get("ctl", "tick") or 0
  local used, closed = string.match(get("gwuse", name) or "", "^(-?%d+):(%d+)$")
  if not used or tick - closed > MAX_LIVE_TICKS then return nil end
  local key = name .. ":" .. tick
  used = used + inc("gwast", key)
  for other = closed + 1, tick + 1 do
    if other ~= tick then used = used + (get("gwast", name .. ":" .. other) or 0) end
  end
  if used <= limit then return get("ctl", "id") .. ":" .. tick end
  KSR.htable.sht_dec("gwast", key)
end

-- Whether the gateway may place one more call now. Leaves $var(refused): "" or which limit is reached; $var(at): under what the
-- call is counted, where calls are.
function vp_gateway_limits(name, second)
  local gateway, refused, at = M.of(name), "", nil
  if gateway and gateway.rate and inc("rate", name .. ":" .. second) > gateway.rate then refused = "rate" end
  if gateway and gateway.calls and refused == "" then
    at = take(name, gateway.calls)
    if not at then refused = "calls" end
  end
  pvset("$var(refused)", refused)
  pvset("$var(at)", at or "")
  return 1
end

-- No primary is there to count: a gateway whose calls are counted has to wait.
function vp_gateway_alone(name)
  local gateway = M.of(name)
  pvset("$var(refused)", gateway and gateway.calls and "calls" or "")
  return 1
end

-- Ours at the targets of that gateway: $avp(own_username) and $avp(own_password); neither where we have none.
function vp_own_password(name)
  local username, password = string.match(get("own", name) or "", "^([^:]*):(.*)$")
  KSR.pv.unset("$avp(own_username)")
  if username then
    pvset("$avp(own_username)", username)
    pvset("$avp(own_password)", password)
  end
  return 1
end

-- Who is called, where that is a registered client: $var(aor). A gateway's number as the pool writes it.
function vp_called_aor()
  local uri, from = pvget("$ru"), M.of((M.source()))
  if from and from.incoming then
    uri = string.gsub(uri, "^(sips?:)([^@;?]+)", function(scheme, user) return scheme .. M.rewrite(from.incoming, user) end)
  end
  return vp_aor(uri)
end

-- A call for a registered client: what vp_targets and vp_next_target leave for others (routes.lua). $var(ends): "<source>,".
function vp_gateway_to_client()
  local source = M.source()
  local from = M.of(source)
  pvset("$var(ends)", (source or "") .. ",")
  pvset("$avp(codecs)", M.codec_flags(from and from.codecs))
  KSR.pv.seti("$var(through_gateway)", from and 1 or 0)
  KSR.pv.seti("$var(offer_per_branch)", 0)
  return 1
end

-- A call of a gateway is in use here: it has arrived.
function vp_gateway_call(name)
  local at = string.match(pvget("$avp(client)") or "", ";at=([^;]+)")
  if at then inc("gwrcv", name .. ":" .. at) end
  return 1
end

-- An offer within a call between gateways ("<source>,<target>", empty: none). Leaves $var(refused) and for whose sake,
-- $avp(gateway); $avp(codecs): rtpengine's flags.
function vp_offer_within(names)
  local source, target = string.match(names, "^([^,]*),(.*)$")
  local from, to = M.of(source), M.of(target)
  local sdp = pvget("$rb") or ""
  local refused = M.forbids(from, sdp)
  pvset("$avp(gateway)", refused and source or target)
  pvset("$var(refused)", refused or M.forbids(to, sdp) or "")
  pvset("$avp(codecs)", M.codec_flags(from and from.codecs, to and to.codecs))
  return 1
end

return M
