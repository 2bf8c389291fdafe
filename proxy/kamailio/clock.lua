-- Once a second, in the timer's process.

local sht = KSR.htable
local get, inc, dec = sht.sht_get, sht.sht_inc, sht.sht_dec

-- use=>calls against the dialog table. A call is counted a moment before its dialog exists and a moment after it ends, so
-- only what was off in every one of five checks, in the same direction, is put right, by its smallest value.
local CHECKS = 5
local checks, smallest = 0, 0

function vp_reconcile(dialogs)
  local off = (get("use", "calls") or 0) - tonumber(dialogs)
  if off == 0 or off * smallest < 0 then checks, smallest = 0, off return 1 end
  if checks == 0 or math.abs(off) < math.abs(smallest) then smallest = off end
  checks = checks + 1
  if checks < CHECKS then return 1 end
  for _ = 1, math.abs(smallest) do
    if smallest > 0 then dec("use", "calls") else inc("use", "calls") end
  end
  KSR.warn("calls in use were off by " .. smallest .. " from the dialog table for " .. CHECKS .. " s: put right\n")
  inc("cnt", "reconciled")
  checks, smallest = 0, 0
  return 1
end

-- Tries without credit that the next second may make: a fifth of what was assigned in the last, and a few. Beyond that
-- an overload would be multiplied by asking everybody about every call.
local assigned_before = 0
function vp_budget()
  local assigned = get("cnt", "assigned") or 0
  sht.sht_seti("use", "tries", 20 + math.max(0, math.floor((assigned - assigned_before) / 5)))
  assigned_before = assigned
  return 1
end
