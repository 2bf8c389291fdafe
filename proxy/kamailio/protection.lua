-- Whose User-Agent is a scanner's: it has one of the parts in ctl=>agents in it.
local MOST = 1000 -- User-Agents that a worker remembers

local parts_text, parts = nil, {}
local known, count = {}, 0

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
    parts_text, parts, known, count = text, {}, {}, 0
    for part in string.gmatch(text, "[^|]+") do parts[#parts + 1] = part end
  end
  if known[agent] == nil then
    if count >= MOST then known, count = {}, 0 end
    known[agent], count = is_scanner(agent), count + 1
  end
  KSR.pv.seti("$var(scanner)", known[agent] and 1 or 0)
  return 1
end
