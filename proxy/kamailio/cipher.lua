-- Text that only the pool's proxies can read, by a key stream from the pool's key: kept by whoever it is given to, so no proxy
-- keeps a list, and every one can read it.

local mac = require("tokens").mac

-- Adds (direction 1) or takes off (-1) the key stream that `salt` begins, byte by byte. A salt is for one text alone.
return function(bytes, salt, direction)
  local shifted, stream = {}, ""
  for at, byte in ipairs(bytes) do
    local place = (at - 1) % 16
    if place == 0 then stream = mac(salt .. "|" .. at) end
    shifted[at] = (byte + direction * tonumber(string.sub(stream, 2 * place + 1, 2 * place + 2), 16)) % 256
  end
  return shifted
end
