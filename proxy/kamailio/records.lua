-- Writes the record of a call that has ended: one JSON object and a line feed in a single write, so that the workers'
-- lines do not mix.

local get = KSR.htable.sht_get
local ESCAPES = { ['"'] = '\\"', ["\\"] = "\\\\" }

local function text(value)
  return '"' .. string.gsub(value, '[%c"\\]', function(c) return ESCAPES[c] or string.format("\\u%04x", string.byte(c)) end) .. '"'
end

local function time(seconds)
  return text(os.date("!%Y-%m-%dT%H:%M:%SZ", seconds))
end

-- `kept`: start, client, visited (`<null>`: no other), from and to, between spaces, which none of them has. `outcome`: when it was answered (seconds since 1970, 0: never), the
-- last answer's status, and what ended it.
function vp_record(call_id, kept, outcome)
  local start, client, visited, from, to = string.match(kept, "^(%S+) (%S+) (%S+) (%S+) (%S+)$")
  if not start then return end
  local answered, status, ended = string.match(outcome, "^(%S*) (%S*) (.*)$")
  start, answered, status = tonumber(start), tonumber(answered) or 0, tonumber(status) or 0
  local now = os.time()
  local fields = {
    '"event":"call"', '"callId":' .. text(call_id), '"proxy":' .. text(get("ctl", "name")),
    '"start":' .. time(start), '"end":' .. time(now), '"seconds":' .. (answered > 0 and now - answered or 0),
    '"from":' .. text(from), '"to":' .. text(to),
    '"client":' .. text((string.match(client, "ip=([^;]*)") or "") .. ":" .. (string.match(client, "port=([^;]*)") or "")),
    '"gateway":' .. text(string.match(client, "gw=([^;]*)") or ""),
  }
  local proxies = {}
  if visited ~= "<null>" then
    for id in string.gmatch(visited, "[^:]+") do proxies[#proxies + 1] = text(string.match(id, "^[^~]+")) end
  end
  proxies[#proxies + 1] = text(get("ctl", "name"))
  fields[#fields + 1] = '"proxies":[' .. table.concat(proxies, ",") .. "]"
  fields[#fields + 1] = '"status":' .. (answered > 0 and 200 or status)
  fields[#fields + 1] = '"ended":' .. text(ended)
  io.stderr:write("{" .. table.concat(fields, ",") .. "}\n")
  io.stderr:flush()
end
