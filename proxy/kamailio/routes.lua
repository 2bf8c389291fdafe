-- Routes: where a proxy sends what it serves.

local get = KSR.htable.sht_get
local pvget, pvset = KSR.pv.get, KSR.pv.sets

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
