-- Whether a User-Agent has one of some parts in it, whatever its case: the parts are in lower case, between "|".
return function(agent, parts)
  agent = string.lower(agent)
  for part in string.gmatch(parts, "[^|]+") do
    if string.find(agent, part, 1, true) then return true end
  end
  return false
end
