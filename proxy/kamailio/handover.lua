-- Hand-over: what two primaries tell each other.

local sht, pv = KSR.htable, KSR.pv
local get, inc = sht.sht_get, sht.sht_inc
local pvget, pvset = pv.get, pv.sets
local mac = require("tokens").mac

-- What the previous primary tells the new one of an INVITE, by its branch: $var(word), a request that no client could make.
function vp_tell(branch, knows)
  local here, word = pvget("$Ri") .. ":" .. pvget("$Rp"), branch .. (tonumber(knows) > 0 and " yes" or " no")
  pvset("$var(word)", table.concat({
    "INFO sip:pool@" .. pvget("$si") .. " SIP/2.0", "Via: SIP/2.0/UDP " .. here .. ";branch=z9hG4bKknown" .. branch,
    "From: <sip:pool@" .. here .. ">;tag=known", "To: <sip:pool@" .. pvget("$si") .. ">", "Call-ID: known-" .. branch,
    "CSeq: 1 INFO", "Max-Forwards: 1", "X-VP-Known: " .. word .. " " .. mac("known|" .. word),
    "Content-Length: 0", "", "" }, "\r\n"))
  return 1
end

-- The new primary is told. $var(held) 1: its transaction, $var(index) and $var(label), waits for this.
function vp_told(header)
  pv.seti("$var(held)", 0)
  local branch, answer, given = string.match(header or "", "^(%S+) (%l+) (%x+)$")
  if not branch or given ~= mac("known|" .. branch .. " " .. answer) then inc("cnt", "forged") return 1 end
  if answer == "yes" then sht.sht_sets("known", branch, "1") end
  local index, label = string.match(get("held", branch) or "", "^(%d+):(%d+)$")
  sht.sht_rm("held", branch)
  if index then
    pv.seti("$var(held)", 1)
    pv.seti("$var(index)", tonumber(index))
    pv.seti("$var(label)", tonumber(label))
  end
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
