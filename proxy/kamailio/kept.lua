-- What the agent writes as text into an htable, read once: kept(<htable>, <reader>) gives a function from a key to what the
-- reader made of the text there (nil: nothing is there), which is kept until the text changes.
local get = KSR.htable.sht_get
local MOST = 1000 -- texts; beyond that it starts afresh

return function(htable, read)
  local known, count = {}, 0
  return function(key)
    local text = get(htable, key)
    if not text then return nil end
    if not known[text] then
      if count > MOST then known, count = {}, 0 end
      known[text], count = read(text), count + 1
    end
    return known[text]
  end
end
