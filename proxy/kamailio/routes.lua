-- Where a request goes once a proxy serves it. Of the routes that fit, those with the request's domain come before those without
-- one, then the longest prefix wins; what fits equally well is an alternative, in the order of RFC 2782: by priority, among
-- equals at random by weight. No target is asked twice, and none that the request came from.

local get, pvget, pvset = KSR.htable.sht_get, KSR.pv.get, KSR.pv.sets
local gateways = require("gateways")
local kept = require("kept")

-- domain|prefix|priority|weight|gateway|target target ...
local function read(text)
  local domain, prefix, priority, weight, gateway, targets =
    string.match(text, "^([^|]*)|([^|]*)|(%d+)|(%d+)|([^|]*)|(.*)$")
  return domain and {
    domain = domain, prefix = prefix, priority = tonumber(priority), weight = tonumber(weight), gateway = gateway,
    targets = targets,
  }
end

local route = kept("route", read)

local function fitting(user, domain, source)
  local best, rank = {}, -1
  for number = 1, get("route", "n") or 0 do
    local one = route(tostring(number))
    if one and string.sub(user, 1, #one.prefix) == one.prefix and (one.domain == "" or one.domain == domain)
      and (one.gateway == "" or one.gateway ~= source) then
      local fits = #one.prefix + (one.domain ~= "" and 1000 or 0)
      if fits > rank then best, rank = {}, fits end
      if fits == rank then best[#best + 1] = one end
    end
  end
  return best
end

-- By priority; among equals each next one at random, by weight.
local function in_order(routes)
  local ordered = {}
  while #routes > 0 do
    local priority, total = math.huge, 0
    for _, one in ipairs(routes) do priority = math.min(priority, one.priority) end
    for _, one in ipairs(routes) do total = total + (one.priority == priority and one.weight or 0) end
    local point, chosen = pvget("$RANDOM") % 1000 / 1000 * total, nil
    for at, one in ipairs(routes) do
      if one.priority == priority and (not chosen or point >= 0) then
        chosen, point = at, point - one.weight
      end
    end
    ordered[#ordered + 1] = table.remove(routes, chosen)
  end
  return ordered
end

-- Whether a target failed lately: calls, or checks of its health.
local function failing(target)
  return get("bad", target) or (get("health", target) or 0) >= (get("ctl", "threshold") or 2)
end

-- Whether a target is at the address that the request came from.
local function is_at(target, address)
  return string.find(target, "[:@]%[?" .. address:gsub("%p", "%%%0") .. "%f[^%w.]") ~= nil
end

-- The targets for this request: $avp(targets), "<gateway>,<URI> ..." with those that failed lately last; $avp(number) is the
-- called number, as the pool writes it. $var(through_gateway) 1: it comes from a gateway or may go to one, and
-- $var(offer_per_branch) 1: not all of them can take the same offer, for one has codecs of its own, or is reached over TLS.
function vp_targets(method)
  local source, address = gateways.source()
  local from = gateways.of(source)
  local user = pvget(method == "REGISTER" and "$tU" or "$rU") or ""
  if from and method ~= "REGISTER" then user = gateways.rewrite(from.incoming, user) end
  local routes = fitting(user, string.lower(pvget("$rd") or ""), source)
  if #routes > 1 then routes = in_order(routes) end
  local good, bad, seen = {}, {}, {}
  local through, each = from ~= nil, from and from.codecs
  for _, one in ipairs(routes) do
    local to = one.gateway ~= "" and gateways.of(one.gateway)
    if to then through, each = true, each or to.codecs end
    for target in string.gmatch(one.targets, "%S+") do
      if not seen[target] and not (source and is_at(target, address)) then
        seen[target] = true
        each = each or string.find(target .. ";", ";transport=tls;", 1, true)
        local targets = failing(target) and bad or good
        targets[#targets + 1] = one.gateway .. "," .. target
      end
    end
  end
  for _, target in ipairs(bad) do good[#good + 1] = target end
  pvset("$avp(targets)", table.concat(good, " "))
  pvset("$avp(number)", user)
  KSR.pv.seti("$var(through_gateway)", through and 1 or 0)
  KSR.pv.seti("$var(offer_per_branch)", each and 1 or 0)
  return 1
end

-- The next of $avp(targets) becomes $du and $avp(target), which is "" when none is left. $var(ends): "<source>,<target>";
-- $avp(codecs): rtpengine's flags for the call. A gateway that may not have what the call offers is passed over, and
-- $var(passed_over) is 1.
function vp_next_target()
  pvset("$avp(target)", "") pvset("$avp(codecs)", "") KSR.pv.seti("$var(passed_over)", 0)
  local source = gateways.source()
  local from = gateways.of(source)
  while true do
    local name, target, rest = string.match(pvget("$avp(targets)") or "", "^([^,]*),(%S+)%s*(.*)$")
    pvset("$avp(targets)", rest or "")
    if not target then return 1 end
    local to = gateways.of(name)
    local forbidden = to and pvget("$rm") == "INVITE" and gateways.forbids(to, pvget("$rb") or "")
    if forbidden then
      KSR.htable.sht_inc("refused", name .. ":" .. forbidden)
      KSR.pv.seti("$var(passed_over)", 1)
    else
      pvset("$avp(target)", target)
      pvset("$avp(to_gateway)", name)
      KSR.pv.seti("$avp(hidden)", to and to.hide and pvget("$rm") ~= "REGISTER" and 1 or 0)
      pvset("$du", target)
      if from or to then
        local number = pvget("$avp(number)") or ""
        if pvget("$rm") ~= "REGISTER" and number ~= "" then
          pvset("$rU", to and gateways.rewrite(to.outgoing, number) or number)
        end
        pvset("$var(ends)", (source or "") .. "," .. name)
        pvset("$avp(codecs)", gateways.codec_flags(from and from.codecs, to and to.codecs))
      end
      return 1
    end
  end
end

-- ---- health ---------------------------------------------------------------------------------------------------------------
-- Each target is asked with OPTIONS once in a period, spread over it. One that has not answered, or with 503, as often as
-- ctl=>threshold says is asked for a call only when no other is left; its first answer takes it back.
local clock = 0

local function targets()
  local found, seen = {}, {}
  for number = 1, get("route", "n") or 0 do
    for target in string.gmatch((route(tostring(number)) or { targets = "" }).targets, "%S+") do
      if not seen[target] then seen[target], found[#found + 1] = true, target end
    end
  end
  return found
end

function vp_check_health()
  local period = get("ctl", "period") or 0
  if period == 0 or get("ctl", "ready") ~= 1 then return 1 end
  clock = clock + 1
  for at, target in ipairs(targets()) do
    if (clock + at) % period == 0 then
      pvset("$uac_req(method)", "OPTIONS")
      pvset("$uac_req(ruri)", target)
      pvset("$uac_req(turi)", target)
      pvset("$uac_req(furi)", "sip:health@" .. get("ctl", "name"))
      KSR.pv.seti("$uac_req(evroute)", 1)
      pvset("$uac_req(evparam)", target)
      KSR.uac.uac_req_send()
    end
  end
  return 1
end

function vp_health(target, code)
  if string.find(target, "^learn:") then vp_asked(target, code) return 1 end
  if string.find(target, "^sent:") then vp_told_arrived(target, code) return 1 end
  if code == "408" or code == "503" then
    KSR.htable.sht_inc("health", target)
  elseif (get("health", target) or 0) > 0 then
    KSR.htable.sht_rm("health", target)
    KSR.htable.sht_rm("bad", target)
  end
  return 1
end
