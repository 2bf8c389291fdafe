-- Hand-over: what two primaries tell each other.

local sht, pvget, pvset = KSR.htable, KSR.pv.get, KSR.pv.sets
local get, inc = sht.sht_get, sht.sht_inc
local mac = require("tokens").mac

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
    vp_announce()
  elseif now ~= "" then
    asked_seconds = asked_seconds + 1
    if asked_seconds == ASK_SECONDS then sht.sht_sets("ctl", "asked", now) vp_announce() end
  end
  return 1
end
