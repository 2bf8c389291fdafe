-- Whose User-Agent is a scanner's: it has one of the parts in ctl=>agents in it.
local parts_text, parts = nil, {}

local function is_scanner(agent)
  agent = string.lower(agent)
  for _, part in ipairs(parts) do
    if string.find(agent, part, 1, true) then return true end
  end
  return false
end

-- Leaves $var(scanner): 1 or 0.
function vp_user_agent(agent)
  local text = KSR.htable.sht_get("ctl", "agents") or ""
  if text ~= parts_text then
    parts_text, parts = text, {}
    for part in string.gmatch(text, "[^|]+") do parts[#parts + 1] = part end
  end
  KSR.pv.seti("$var(scanner)", is_scanner(agent) and 1 or 0)
  return 1
end
