-- Digest authentication (RFC 3261 section 22, RFC 8760) that all proxies of a pool share: a nonce is a time and its MAC by the
-- pool key, so every proxy knows the others' nonces, and none keeps a list. (Kamailio's auth module has a secret that is set
-- at its start, and one algorithm at a time.)

local sht, pvget, pvset = KSR.htable, KSR.pv.get, KSR.pv.sets
local get = sht.sht_get
local mac = require("tokens").mac

local NONCE_SECONDS = 300
local CLOCKS_DIFFER_SECONDS = 30
-- Wrong passwords that one source may try in a minute (fail=> forgets after that), whatever the users.
local MOST_WRONG = 20

local M = {}

-- Whether a source has tried too many.
function M.limited(source) return (get("fail", source) or 0) >= MOST_WRONG end

local hashes = {
  ["MD5"] = function(text) pvset("$var(hashed)", text) return pvget("$(var(hashed){s.md5})") end,
  ["SHA-256"] = function(text) pvset("$var(hashed)", text) return pvget("$(var(hashed){s.sha256})") end,
}

-- The parameters of one header; nil where it is not a digest.
local function read(text)
  local at = string.match(text, "^%s*[Dd][Ii][Gg][Ee][Ss][Tt]%s+()")
  if not at then return nil end
  local given = {}
  while at do
    local name, value, rest = string.match(text, '^([%w_-]+)%s*=%s*"([^"]*)"%s*,?%s*()', at)
    if not name then name, value, rest = string.match(text, '^([%w_-]+)%s*=%s*([^%s,"]+)%s*,?%s*()', at) end
    if name then given[string.lower(name)] = value end
    at = rest
  end
  return given
end

-- The credentials for that realm; a client may have others for those behind us.
local function find(header, realm)
  for at = 0, (pvget("$hdrc(" .. header .. ")") or 0) - 1 do
    local given = read(pvget("$(hdr(" .. header .. ")[" .. at .. "])") or "")
    if given and given.realm == realm then return given, at end
  end
end

-- Bound to the source, so that what was read on the way is of no use elsewhere.
local function nonce(time)
  return time .. "." .. mac("nonce|" .. time .. "|" .. pvget("$si"))
end

-- "fresh", "stale", or nil: not ours, or not for this source.
local function age_of(given)
  local time = string.match(given or "", "^(%d+)%.%x+$")
  if not time or given ~= nonce(time) then return nil end
  local age = pvget("$TS") - tonumber(time)
  return age >= -CLOCKS_DIFFER_SECONDS and age <= NONCE_SECONDS and "fresh" or "stale"
end

local function user_in(uri) return string.match(uri or "", "^sips?:([^@;?]+)@") or "" end

-- Whether the response is what the user's password makes. A response for another called number is none for this one.
local function right(given)
  local algorithm = string.upper(given.algorithm or "MD5")
  local hash, ha1 = hashes[algorithm], get("ha1", algorithm .. ":" .. (given.username or ""))
  local method = pvget("$rm")
  if not (hash and ha1 and given.uri and given.response) then return false end
  if method ~= "REGISTER" and user_in(given.uri) ~= (pvget("$rU") or "") then return false end
  local ha2 = hash(method .. ":" .. given.uri)
  local middle = given.nonce
  if given.qop == "auth" then
    if not (given.nc and given.cnonce) then return false end
    middle = table.concat({ given.nonce, given.nc, given.cnonce, "auth" }, ":")
  elseif given.qop or algorithm ~= "MD5" then      -- before RFC 2617 there was no qop, and no other algorithm
    return false
  end
  return string.lower(given.response) == hash(ha1 .. ":" .. middle .. ":" .. ha2)
end

-- Checks a request's credentials. Leaves $var(digest): "" it has none of that realm (or for a nonce that is not ours), "ok",
-- "stale", "wrong", or "limited", after too many wrong ones from this source; $var(user), and which header: $var(credentials_at).
-- Only who has been given a nonce is counted, so nobody can lock others out by writing their address into a UDP packet.
function vp_digest(header, realm)
  local source = pvget("$si")
  local given, at = find(header, realm)
  local age = given and age_of(given.nonce)
  local verdict = ""
  if age and M.limited(source) then
    verdict = "limited"
  elseif age == "stale" then
    verdict = "stale"
  elseif age then
    verdict = right(given) and "ok" or "wrong"
    if verdict == "wrong" then sht.sht_inc("fail", source) end
  end
  pvset("$var(digest)", verdict)
  pvset("$var(user)", given and given.username or "")
  KSR.pv.seti("$var(credentials_at)", at or 0)
  return 1
end

-- $var(credentials_at): which of those headers is for that realm; -1: none of them.
function vp_credentials(header, realm)
  local _, at = find(header, realm)
  KSR.pv.seti("$var(credentials_at)", at or -1)
  return 1
end

-- $var(challenge): a line for each algorithm, in the order in which they are preferred (ctl=>digests).
function vp_challenge(header, realm)
  local name = header == "Authorization" and "WWW-Authenticate" or "Proxy-Authenticate"
  local ending = pvget("$var(digest)") == "stale" and ", stale=true\r\n" or "\r\n"
  local lines, fresh = {}, nonce(pvget("$TS"))
  for algorithm in string.gmatch(get("ctl", "digests") or "", "[^,]+") do
    lines[#lines + 1] = string.format('%s: Digest realm="%s", nonce="%s", algorithm=%s, qop="auth"%s', name, realm, fresh,
      algorithm, ending)
  end
  pvset("$var(challenge)", table.concat(lines))
  return 1
end

-- Whose certificate that is, by the SIP address in it: $var(user), "" where it names none of our realm or its names, or a gateway's
-- user, which has a password.
function vp_certified_user(uri)
  local user, domain = string.match(uri or "", "^[sS][iI][pP][sS]?:([^@;?]+)@([^;?:]+)")
  domain = string.lower(domain or "")
  if user and (domain ~= pvget("$var(realm)") and get("alias", domain) ~= 1 or get("trunk", user)) then user = nil end
  pvset("$var(user)", user or "")
  return 1
end

-- Whether a user may call itself what it does: $var(claims) 1 or 0; $var(identity), the address that is its own. A user with a
-- domain (alice@example.com) has it there, others in the realm, or by a name of the pool. Who wants to be unknown (RFC 3323)
-- may be.
function vp_claims(method)
  local user = pvget("$var(user)")
  local name, domain = string.match(user, "^([^@]+)@(.+)$")
  local claims = true
  for _, of in ipairs(method == "REGISTER" and { "f", "t" } or { "f" }) do
    local claimed, at = pvget("$" .. of .. "U") or "", string.lower(pvget("$" .. of .. "d") or "")
    if not (method ~= "REGISTER" and string.lower(claimed) == "anonymous") then
      local there = domain and at == domain or not domain and (at == pvget("$var(realm)") or get("alias", at) == 1)
      claims = claims and claimed == (name or user) and there
    end
  end
  KSR.pv.seti("$var(claims)", claims and 1 or 0)
  pvset("$var(identity)", domain and user or user .. "@" .. pvget("$var(realm)"))
  return 1
end

return M
