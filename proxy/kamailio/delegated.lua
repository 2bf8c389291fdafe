-- Authentication delegated to an upstream registrar: who has registered there, through us, from where, is known to every proxy of
-- the pool, and may call as the one that it has registered.
--
-- src=><user>@<host>,<source> is "until:at": until when, in seconds, and as of which moment, so that a copy that comes late
-- changes nothing. What is over stays for a while as "0:at" for the same reason.

local sht, pvget, pvset = KSR.htable, KSR.pv.get, KSR.pv.sets
local get, inc = sht.sht_get, sht.sht_inc
local digest, registrar, headers = require("digest"), require("registrar"), require("tokens").headers

local OVER_SECONDS = 60       -- as long as a copy may be on its way
local LONGEST_SECONDS = 86400
local DEFAULT_SECONDS = 3600  -- RFC 3261's, where neither client nor registrar says how long

-- Where the request comes from. A packet's address is easily forged, so its port counts as well; a connection's is not, and who
-- connects anew, or to another proxy, has another port.
local function source()
  if pvget("$proto") == "udp" then return "udp:" .. pvget("$si") .. ":" .. pvget("$sp") end
  return pvget("$si")
end

-- user@host of a URI, as everything of that user is kept; nil where it has no user.
local function address_of(uri)
  vp_aor(uri)
  local aor = pvget("$var(aor)")
  return aor ~= "" and string.sub(aor, 5) or nil
end

local function note(address, from, until_, at)
  local key = address .. "," .. from
  local before = tonumber(string.match(get("src", key) or "", ":([%d.]+)$")) or 0
  if tonumber(at) < before then return end
  local left = until_ > 0 and until_ - pvget("$TS") or OVER_SECONDS
  if left > 0 then sht.sht_setxs("src", key, until_ .. ":" .. at, left) end
end

local serial = 0

local function copy(peer, address, from, until_, at, taught)
  local lines = { "X-VP-Source: " .. table.concat({ address, from, until_, at }, " ") }
  if taught then lines[2] = "X-VP-Taught: 1" end
  serial = serial + 1
  registrar.send(peer, "INFO", "sip:pool.invalid", "source-" .. pvget("$pp") .. "-" .. serial .. "-" .. pvget("$TS"), 1, lines)
end

local function tell_all(address, from, until_)
  local at = pvget("$TV(Sn)")
  note(address, from, until_, at)
  for _, peer in ipairs(registrar.peers()) do copy(peer, address, from, until_, at) end
end

-- What a peer tells.
function vp_source_learned()
  local address, from, until_, at = string.match(pvget("$hdr(X-VP-Source)"), "^(%S+) (%S+) (%d+) ([%d.]+)$")
  if address then note(address, from, tonumber(until_), at) end
  if pvget("$hdr(X-VP-Taught)") then inc("learn", "got") end
  return 1
end

-- All that there is, to a peer that starts; how many they are.
table.insert(registrar.teachers, function(peer)
  local all = {}
  if sht.sht_iterator_start("sources", "src") > 0 then
    while sht.sht_iterator_next("sources") > 0 do all[pvget("$shtitkey(sources)")] = pvget("$shtitval(sources)") end
    sht.sht_iterator_end("sources")
  end
  local count = 0
  for key, value in pairs(all) do
    local address, from = string.match(key, "^(.*),([^,]*)$")
    local until_, at = string.match(value, "^(%d+):([%d.]+)$")
    copy(peer, address, from, until_, at, true)
    count = count + 1
  end
  return count
end)

-- ---- REGISTER ------------------------------------------------------------------------------------------------------------
local function contacts(headers)
  local found = {}
  for _, header in ipairs(headers) do
    for uri, params in string.gmatch(header, "<([^>]*)>([^,]*)") do
      found[string.lower(uri)] = tonumber(string.match(string.lower(params), ";%s*expires%s*=%s*(%d+)")) or -1
    end
    local bare = string.match(header, "^%s*([^<>,;]+)%s*;?[^<>]*$")
    if bare then found[string.lower(bare)] = tonumber(string.match(string.lower(header), ";%s*expires%s*=%s*(%d+)")) or -1 end
  end
  return found
end

local function nonce_in(header) return string.match(pvget("$hdr(" .. header .. ")") or "", 'nonce="([^"]*)"') end

-- The address that a REGISTER is about, "" where it is not one of the domain whose registrar is asked: another's would tell of a
-- user of ours.
local function registered_address()
  local address = address_of(pvget("$tu"))
  local asked = address_of("sip:any@" .. (pvget("$rd") or ""))
  local function host(of) return string.match(of or "", "@(.*)$") end
  return address and host(address) == host(asked) and address or ""
end

-- A REGISTER on its way upstream, at the proxy that the client speaks to. $var(limited) 1: too many of its source were refused.
-- What its answer is compared with is kept with the transaction: $avp(registering).
function vp_source_registers()
  local asked = {}
  for uri, expires in pairs(contacts(headers("Contact"))) do asked[#asked + 1] = uri .. " " .. expires end
  local all = string.match(pvget("$hdr(Contact)") or "", "^%s*%*%s*$") and "*" or table.concat(asked, "\n")
  local nonce = nonce_in("Authorization")
  local proven = nonce and get("asked", pvget("$si") .. " " .. nonce)
  KSR.pv.seti("$var(limited)", digest.limited(pvget("$si")) and 1 or 0)
  pvset("$avp(registering)", registered_address() .. "\r" .. source() .. "\r" .. pvget("$si") .. "\r"
    .. (proven and "1" or "") .. "\r" .. (pvget("$hdr(Expires)") or "") .. "\r" .. all)
  return 1
end

-- For how long the registrar has registered the contacts that were asked for ("<URI> <seconds>" each, -1: `default`); 0: not, or
-- no longer. One that it writes otherwise counts for no longer than was asked for, and than any that it tells of.
local function granted(asked, default)
  local given, longest = contacts(headers("Contact")), 0
  local general = tonumber(pvget("$hdr(Expires)") or "")
  for uri, wanted in string.gmatch(asked, "(%S+) (%-?%d+)") do
    wanted = tonumber(wanted) >= 0 and tonumber(wanted) or default
    local seconds = given[uri] == -1 and (general or wanted) or given[uri]
    if not seconds then
      seconds = math.min(wanted, general or wanted)
      for _, theirs in pairs(given) do seconds = math.min(seconds, theirs >= 0 and theirs or seconds) end
    end
    if wanted > 0 then longest = math.max(longest, seconds) end
  end
  return math.min(longest, LONGEST_SECONDS)
end

-- The registrar's answer to it.
function vp_source_answered(status)
  local address, from, ip, proven, expires, asked =
    string.match(pvget("$avp(registering)"), "^(.-)\r(.-)\r(.-)\r(.-)\r(.-)\r(.*)$")
  status = tonumber(status)
  if status == 401 or status == 403 then
    local nonce = nonce_in("WWW-Authenticate")
    local stale = string.find(string.lower(pvget("$hdr(WWW-Authenticate)") or ""), "stale=\"?true")
    if nonce then sht.sht_seti("asked", ip .. " " .. nonce, 1) end
    if proven == "1" and not stale then inc("fail", ip) inc("cnt", "unauthorized") end
  elseif status < 300 and address ~= "" and asked == "*" then
    tell_all(address, from, 0)
  elseif status < 300 and address ~= "" and asked ~= "" then
    local seconds = granted(asked, tonumber(expires) or DEFAULT_SECONDS)
    tell_all(address, from, seconds > 0 and pvget("$TS") + seconds or 0)
  end
  return 1
end

-- ---- everything else -------------------------------------------------------------------------------------------------------
-- Whether the one that the request is from is registered from where it comes from: $var(known) 1 or 0, and its address,
-- $var(identity). Who wants to be unknown (RFC 3323) says to us alone who it is (P-Preferred-Identity, RFC 3325).
function vp_source_known()
  local uri = pvget("$fu")
  if string.lower(pvget("$fU") or "") == "anonymous" then
    local preferred = pvget("$hdr(P-Preferred-Identity)") or ""
    uri = string.match(preferred, "<([^>]*)>") or preferred
  end
  local address = address_of(uri)
  local until_ = address and tonumber(string.match(get("src", address .. "," .. source()) or "", "^(%d+):"))
  KSR.pv.seti("$var(known)", until_ and until_ > pvget("$TS") and 1 or 0)
  pvset("$var(identity)", string.match(uri, "^sips?:([^;?]+)") or "")
  return 1
end
