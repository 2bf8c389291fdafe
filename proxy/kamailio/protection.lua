-- Whose User-Agent is a scanner's: it has one of the parts in ctl=>agents in it.
local names = require("agents")

-- Leaves $var(scanner): 1 or 0.
function vp_user_agent(agent)
  KSR.pv.seti("$var(scanner)", names(agent, KSR.htable.sht_get("ctl", "agents") or "") and 1 or 0)
  return 1
end
