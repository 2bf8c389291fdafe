-- Addresses of one instance of a user (RFC 5627). The public one says whose it is. A temporary one hides it: the address of
-- record is encrypted by the pool key, so every proxy can read it and none keeps a list. Its MAC covers the instance and the
-- Call-ID by which that has registered: with another Call-ID, the old ones are no more.
--
--   <salt>-<MAC>-<address of record>      in hex; the salt is another one each time, so two of them do not tell that they are one's

local mac, shift = require("tokens").mac, require("cipher")
local pvget = KSR.pv.get

local PATTERN = "^gr%-(" .. string.rep("%x", 16) .. ")%-(" .. string.rep("%x", 16) .. ")%-(%x+)$"

local M = {}

local function proof(salt, aor, contact)
  return string.sub(mac(table.concat({ "gruu", salt, aor, contact.instance, contact.call_id }, "|")), 1, 16)
end

local made = 0

-- The user of a temporary one.
function M.temporary(aor, contact)
  made = made + 1
  local salt = string.sub(mac("gruu salt|" .. pvget("$pp") .. "|" .. made .. "|" .. pvget("$TS")), 1, 16)
  local hex = {}
  for at, byte in ipairs(shift({ string.byte(aor, 1, -1) }, "gruu stream|" .. salt, 1)) do hex[at] = string.format("%02x", byte) end
  return "gr-" .. salt .. "-" .. proof(salt, aor, contact) .. "-" .. table.concat(hex)
end

-- Whose a temporary one is: the address of record, and whether a contact of that is the instance; nil where it is none.
function M.reveal(user)
  local salt, given, hex = string.match(user, PATTERN)
  if not salt then return nil end
  local bytes = {}
  for pair in string.gmatch(hex, "%x%x") do bytes[#bytes + 1] = tonumber(pair, 16) end
  local aor = string.char(unpack(shift(bytes, "gruu stream|" .. salt, -1)))
  return aor, function(contact) return contact.instance and proof(salt, aor, contact) == given end
end

-- An instance as it stands in a URI, "" where it cannot stand there: <urn:uuid:...> without the brackets.
function M.instance(contact) return string.match(contact.instance or "", "^<([%w:._-]+)>$") or "" end

return M
