-- What a gateway that asks for it is not shown (hideTopology): who is behind the proxy. Messages are rewritten as they leave for
-- it and as they come from it (hiding.cfg), before and after all else, so the rest of the configuration knows nothing of it.
--
-- Nothing is kept of a call. Towards such a gateway
--   a Contact is <sip:vp-TEXT@proxy>, TEXT being the client's own URI, encrypted by the pool's key and bound to the Call-ID;
--   our Record-Route has the entries of those behind us in its parameter vpr, in the same way;
--   the other Via lines are taken out, and kept till the answer in hop=><branch of our Via>.
-- Our Record-Route says on whose side such a gateway is: vph, with an e for the called one's, an r for the caller's.

local tokens, shift = require("tokens"), require("cipher")
local sht, pvget, pvset = KSR.htable, KSR.pv.get, KSR.pv.sets
local find, match, gmatch, gsub, sub, lower = string.find, string.match, string.gmatch, string.gsub, string.sub, string.lower

local NONE = {}
local RINGING_SECONDS, ANSWERED_SECONDS = 240, 40          -- how long an INVITE's Via lines are kept, and any others'
local LARGEST = 60000                                       -- bytes; what is larger cannot be read once more is put back
local LONGEST = 900                                         -- bytes that are sealed at once: whoever sends them, they take no time

-- ---- sealed text -----------------------------------------------------------------------------------------------------------
local DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"     -- RFC 4648, 5; without padding
local VALUES = {}
for at = 1, #DIGITS do VALUES[string.byte(DIGITS, at)] = at - 1 end

-- Numbers below 2^from, as numbers below 2^to; bits that are too few for one more are left out, or filled up.
local function regroup(numbers, from, to, fill)
  local out, held, bits = {}, 0, 0
  for _, number in ipairs(numbers) do
    held, bits = held * 2 ^ from + number, bits + from
    while bits >= to do
      bits = bits - to
      out[#out + 1] = math.floor(held / 2 ^ bits)
      held = held % 2 ^ bits
    end
  end
  if fill and bits > 0 then out[#out + 1] = held * 2 ^ (to - bits) end
  return out
end

local function proof(call_id, text) return sub(tokens.mac("hidden|" .. call_id .. "|" .. text), 1, 16) end

-- nil where it is too long.
local function seal(call_id, text)
  if #text > LONGEST then return nil end
  local salt, bytes = proof(call_id, text), {}
  for pair in gmatch(salt, "%x%x") do bytes[#bytes + 1] = tonumber(pair, 16) end
  for _, byte in ipairs(shift({ string.byte(text, 1, -1) }, "hidden stream|" .. salt, 1)) do bytes[#bytes + 1] = byte end
  local sealed = {}
  for at, value in ipairs(regroup(bytes, 8, 6, true)) do sealed[at] = sub(DIGITS, value + 1, value + 1) end
  return table.concat(sealed)
end

-- nil where it is none of this call's.
local function unseal(call_id, sealed)
  if #sealed > 2 * LONGEST then return nil end
  local values = {}
  for at = 1, #sealed do
    values[at] = VALUES[string.byte(sealed, at)]
    if not values[at] then return nil end
  end
  local bytes, salt = regroup(values, 6, 8), ""
  if #bytes < 9 then return nil end
  for _ = 1, 8 do salt = salt .. string.format("%02x", table.remove(bytes, 1)) end
  local text = string.char(unpack(shift(bytes, "hidden stream|" .. salt, -1)))
  return proof(call_id, text) == salt and text or nil
end

-- ---- a message as lines ----------------------------------------------------------------------------------------------------
local COMPACT = { v = "via", f = "from", t = "to", m = "contact", i = "call-id", r = "refer-to", b = "referred-by", c = "content-type",
  l = "content-length", e = "content-encoding" }

-- The first line, and { name, value, line } of each header, the name in lower case; and how many bytes that was. nil: no such.
local function read(text)
  local from, to = find(text, "\r\n\r\n", 1, true)
  if not from then from, to = find(text, "\r?\n\r?\n") end
  local head = from and sub(text, 1, from - 1)
  if not head or find(head, "%z") then return nil end
  local start, headers = nil, {}
  if find(head, "\n[ \t]") then head = gsub(head, "\r?\n[ \t]+", " ") end
  for line in gmatch(head .. "\n", "([^\r\n]*)\r?\n") do
    if not start then
      start = line
    else
      local name, value = match(line, "^([^%s:]+)%s*:%s*(.*)$")
      if not name then return nil end
      name = lower(name)
      headers[#headers + 1] = { name = COMPACT[name] or name, value = value, line = line }
    end
  end
  return { start = start, headers = headers, size = to }
end

local function first(message, name)
  for _, header in ipairs(message.headers) do
    if header.name == name then return header.value end
  end
end

-- Replaces the head of the message at hand: $var(wire_head), and $var(wire_rest), where the rest of it begins: with the last line
-- feed of the head, so that there is always one.
local function write(message)
  local lines = { message.start }
  for _, header in ipairs(message.headers) do lines[#lines + 1] = header.line end
  pvset("$var(wire_head)", table.concat(lines, "\r\n") .. "\r\n\r")
  KSR.pv.seti("$var(wire_rest)", message.size - 1)
end

local function header(name, shown, value) return { name = name, value = value, line = shown .. ": " .. value } end

-- The values of a header that is a list, each in <>.
local function values(list)
  local found = {}
  for value in gmatch(list, "[^,<]*<[^>]*>[^,]*") do found[#found + 1] = (gsub(value, "^%s+", "")) end
  return found
end

local function branch_of(text)
  local via = match(text, "\n[Vv][Ii][Aa][ \t]*:([^\r\n]*)") or match(text, "\n[Vv][ \t]*:([^\r\n]*)")
  return via and match(via, ";%s*branch=([^;,%s]+)")
end

-- ---- what is hidden ----------------------------------------------------------------------------------------------------------
-- Headers that are treated by themselves, that may not be touched, or that name a call (the Call-ID is not hidden).
local OWN_WAY = { via = true, contact = true, ["record-route"] = true, route = true, from = true, to = true, cseq = true }
local UNTOUCHED = { ["call-id"] = true, authorization = true, ["proxy-authorization"] = true, ["www-authenticate"] = true,
  ["proxy-authenticate"] = true, ["authentication-info"] = true, replaces = true, join = true, ["target-dialog"] = true,
  ["in-reply-to"] = true, ["content-type"] = true, ["content-length"] = true, ["content-id"] = true }
local MAY_NAME_A_CALL = { ["refer-to"] = true }

-- An address in a URI becomes our own, unless it is one of `spared`. Names stay: whoever calls them so has chosen to.
local function rehosted(value, here, spared)
  return (gsub(value, "([Ss][Ii][Pp][Ss]?:)([^%s<>\"]+)", function(scheme, rest)
    local user, at = match(rest, "^([^?]*@)(.*)$")
    at = at or rest
    local host, tail = match(at, "^%[([%x:.]+)%]:?%d*(.*)$")
    if not host then host, tail = match(at, "^(%d+%.%d+%.%d+%.%d+):?%d*(.*)$") end
    if not host or spared[host] then return nil end
    return scheme .. (user or "") .. here .. tail
  end))
end

local ADDRESSES = { "%d+%.%d+%.%d+%.%d+", "[%x.]*:[%x:.]*" }       -- the second: IPv6, and whatever else has a colon

local function is_address(text)
  return not find(text, ":", 1, true) or find(text, "::", 1, true) ~= nil or select(2, gsub(text, ":", "")) >= 5
end

local function has_address(text, spared)
  if not (find(text, "%.%d+%.") or find(text, ":[%x.]*:")) then return false end
  for _, form in ipairs(ADDRESSES) do
    for found in gmatch(text, form) do
      if is_address(found) and not spared[found] then return true end
    end
  end
  return false
end

local function spare(spared, text)
  for _, form in ipairs(ADDRESSES) do
    for found in gmatch(text or "", form) do spared[found] = true end
  end
end

-- The Contact that leads to `uri` through us; what we have made already stays.
local function contact_for(uri, call_id, here, transport)
  local sealed = match(uri, "^sips?:vp%-([%w_-]+)@")
  if sealed and unseal(call_id, sealed) then return uri end
  sealed = seal(call_id, uri)
  return "sip:" .. (sealed and "vp-" .. sealed .. "@" or "") .. here .. transport
end

-- In what a Contact says where the next request within the dialog is to go; elsewhere it is left out.
local LEADS_BACK = { INVITE = true, UPDATE = true, SUBSCRIBE = true, NOTIFY = true, REFER = true }

-- Parameters of a Contact that tell which device it is.
local TELLING = { ["+sip.instance"] = true, ["pub-gruu"] = true, ["temp-gruu"] = true }

local function hidden_contact(value, call_id, here, transport)
  local uri, params = match(value, "<(sips?:[^>]*)>(.*)$")
  if not uri then uri, params = match(value, "^(sips?:[^;,%s]*)(.*)$") end
  if not uri then return value end
  params = gsub(match(params, "^[^,]*"), ";%s*([%w+.-]+)=\"[^\"]*\"", function(name) return TELLING[lower(name)] and "" end)
  return "<" .. contact_for(uri, call_id, here, transport) .. ">" .. params
end

-- To whom a redirection leads: to the pool, whoever it names there.
local function redirected(value, here)
  return (gsub(value, "(sips?:)([^>;,%s]*)[^>,%s]*", function(scheme, at)
    return scheme .. (match(at, "^(.*@)") or "") .. here
  end))
end

-- Our entry, signed anew, with the called one's side among those that are told nothing.
local function with_called_side(entry, call_id)
  local sides = (match(entry, ";vph=(%l+)") or "") .. "e"
  local mac = tokens.route_mac(call_id, sides, match(entry, ";ftag=([^;>]+)") or "")
  entry = gsub(gsub(entry, ";vph=%l+", ""), ";vp=%x+", ";vp=" .. mac)
  return (gsub(entry, ">", ";vph=" .. sides .. ">", 1))
end

local function with_routes(entry, call_id, entries)
  local sealed = #entries > 0 and seal(call_id, table.concat(entries, ","))
  return sealed and (gsub(entry, ">", ";vpr=" .. sealed .. ">", 1)) or entry
end

-- Splits Record-Route entries into ours and those of others behind us. In a request ours are the first one, and the one after it
-- where we have two; in an answer those behind us stand before the first of ours.
local function ours_and_others(entries, answer)
  local ours, others = {}, {}
  for at, entry in ipairs(entries) do
    local own
    if answer then own = #ours > 0 or find(entry, ";vph=", 1, true) ~= nil
    else own = at == 1 or (at == 2 and find(entries[1], ";r2=on", 1, true) ~= nil) end
    local list = own and ours or others
    list[#list + 1] = entry
  end
  return ours, others
end

-- The message as the gateway gets it. `side`: on whose side of the call that is. `here`: our own host, with its port where it is not
-- the usual one; `kept`: of a request, what is to be put back into its answers. A request that opens a dialog (kept.opens) has no route
-- that leads on from there.
local function hide(message, side, here, transport, spared, kept)
  local answer = kept == nil
  local call_id = first(message, "call-id") or ""
  local status = tonumber(match(message.start, "^SIP/2%.0 (%d+)")) or 0
  local method = match(first(message, "cseq") or "", "%u+")
  local recorded, out, vias, recorded_at = {}, {}, 0, nil
  spare(spared, here)
  for _, one in ipairs(message.headers) do
    local name = one.name
    if name == "via" and not answer then
      vias = vias + 1
      if vias == 1 then out[#out + 1] = one else kept[#kept + 1] = one.line end
    elseif name == "record-route" then
      recorded_at = recorded_at or #out + 1
      for _, entry in ipairs(values(one.value)) do recorded[#recorded + 1] = entry end
    elseif name == "contact" and status >= 300 then
      out[#out + 1] = header(name, "Contact", redirected(one.value, here))
    elseif name == "contact" then
      if LEADS_BACK[method] then
        out[#out + 1] = header(name, "Contact", hidden_contact(one.value, call_id, here, transport))
      end
    elseif (name == "from" or name == "to") and side == "e" and not answer then
      kept[name] = one.line
      out[#out + 1] = header(name, name == "from" and "From" or "To", rehosted(one.value, here, spared))
    elseif name == "route" and not answer and kept.opens then
      -- left out
    elseif OWN_WAY[name] or UNTOUCHED[name] then
      out[#out + 1] = one
    elseif not find(name, "^x%-vp%-") then
      local line = rehosted(one.line, here, spared)
      if MAY_NAME_A_CALL[name] or not has_address(line, spared) then out[#out + 1] = { name = name, line = line } end
    end
  end
  if recorded_at then
    local ours, others = ours_and_others(recorded, answer)
    if not answer then
      for at, entry in ipairs(kept.opens and ours or NONE) do ours[at] = with_called_side(entry, call_id) end
      for _, entry in ipairs(others) do kept[#kept + 1] = "Record-Route: " .. entry end
      if #ours > 0 then ours[#ours] = with_routes(ours[#ours], call_id, others) end
    elseif #ours > 0 then
      local back = {}
      for at = #others, 1, -1 do back[#back + 1] = others[at] end
      ours[1] = with_routes(ours[1], call_id, back)
    end
    for at = #ours, 1, -1 do table.insert(out, recorded_at, header("record-route", "Record-Route", ours[at])) end
  end
  message.headers = out
end

local function our_via(message)
  local protocol, at = match(first(message, "via") or "", "^SIP/2%.0/(%w+)%s+([^;%s]+)")
  if not at then return nil end
  protocol = lower(protocol)
  return (gsub(at, ":5060$", "")), protocol == "udp" and "" or ";transport=" .. protocol
end

local mark
local function marked(text)
  mark = mark or "\nX-VP-Hide: " .. sht.sht_get("ctl", "mark") .. " "
  local _, to = find(text, mark, 1, true)
  if to then return match(text, "^(%l) ([^\r\n]*)", to + 1) end
end

local function hide_request(message, side, theirs)
  local branch = match(first(message, "via") or "", ";%s*branch=([^;,%s]+)")
  local here, transport = our_via(message)
  if not here or not branch then return -1 end
  local spared, kept = {}, { opens = theirs ~= "" }
  spare(spared, theirs)
  if side == "r" or theirs == "" then spare(spared, match(message.start, "@([^;?%s]*)")) end
  hide(message, side, here, transport, spared, kept)
  local method = match(message.start, "^%u+")
  if method ~= "ACK" and method ~= "CANCEL" then
    local text = table.concat({ side .. " " .. theirs, kept.from or "", kept.to or "", table.concat(kept, "\n") }, "\n")
    sht.sht_setxs("hop", branch, text, method == "INVITE" and RINGING_SECONDS or ANSWERED_SECONDS)
  end
  write(message)
  return 1
end

-- What leaves, to whomever; -1: what is to be hidden cannot be. tm makes an ACK of its own, and a CANCEL, from what went out before,
-- without our mark.
function vp_hide()
  local text = pvget("$mb")
  local side, rest = marked(text)
  if not side and (find(text, "^ACK ") or find(text, "^CANCEL ")) then
    local branch = branch_of(text)
    side, rest = match(branch and sht.sht_get("hop", branch) or "", "^(%l) ([^\n]*)")
  end
  if not side then return 1 end
  local message = read(text)
  if not message then return -1 end
  if not find(text, "^SIP/2%.0 ") then return hide_request(message, side, rest) end
  local host, transport = match(rest, "^sip:([^;%s]+)(.*)$")
  local spared = {}
  for _, one in ipairs(message.headers) do
    if one.name == "via" then spare(spared, one.value) end
  end
  hide(message, side, (gsub(host, ":5060$", "")), gsub(transport, ";transport=udp", ""), spared, nil)
  write(message)
  return 1
end

-- ---- and put back ------------------------------------------------------------------------------------------------------------
local function reveal_answer(message, branch, text)
  local from, to, rest = match(text, "^[^\n]*\n([^\n]*)\n([^\n]*)\n(.*)$")
  local vias, recorded, out, last = {}, {}, {}, {}
  for line in gmatch(rest, "[^\n]+") do
    local list = find(line, "^Record%-Route") and recorded or vias
    list[#list + 1] = { line = line }
  end
  for at, one in ipairs(message.headers) do last[one.name] = at end
  for at, one in ipairs(message.headers) do
    if one.name == "from" and from ~= "" then one.line = from end
    if one.name == "to" and to ~= "" then
      local tag = match(one.value, ";%s*(tag=[^;%s]+)")
      one.line = (not tag or find(to, ";%s*tag=")) and to or to .. ";" .. tag
    end
    if one.name == "record-route" then one.line = gsub(one.line, ";vpr=[%w_-]+", "") end
    out[#out + 1] = one
    local more = at == last.via and vias or at == last["record-route"] and recorded
    for _, line in ipairs(more or NONE) do out[#out + 1] = line end
  end
  message.headers = out
  local status, method = match(message.start, "^SIP/2%.0 (%d)"), match(first(message, "cseq") or "", "%u+")
  if method == "INVITE" and status ~= "1" then sht.sht_setex("hop", branch, ANSWERED_SECONDS) end
end

local function reveal_request(message)
  if not find(first(message, "to") or "", ";%s*tag=") then return false end
  local call_id = first(message, "call-id") or ""
  local before, sealed, after = match(message.start, "^(%u+ )sips?:vp%-([%w_-]+)@[^%s]*( .*)$")
  local uri = sealed and unseal(call_id, sealed)
  if uri then
    message.start = before .. uri .. after
    KSR.pv.seti("$var(revealed)", 1)
  end
  local out, revealed = {}, uri ~= nil
  for _, one in ipairs(message.headers) do
    if one.name == "route" and find(one.value, "<.*;vpr=.*>") then
      for _, entry in ipairs(values(one.value)) do
        local routes = match(entry, ";vpr=([%w_-]+)")
        routes = routes and unseal(call_id, routes)
        out[#out + 1] = header("route", "Route", (gsub(entry, ";vpr=[%w_-]+", "")))
        if routes then out[#out + 1] = header("route", "Route", routes) end
      end
      revealed = true
    else
      out[#out + 1] = one
    end
  end
  message.headers = out
  return revealed
end

-- What comes in, from whomever. $var(revealed) 1: it was sent to a hidden Contact.
function vp_reveal()
  local text = pvget("$mb")
  if #text > LARGEST then return 1 end
  if find(text, "^SIP/2%.0 ") then
    local branch = branch_of(text)
    local kept = branch and sht.sht_get("hop", branch)
    local message = kept and read(text)
    if message then
      reveal_answer(message, branch, kept)
      write(message)
    end
  elseif find(text, "^%u+ sips?:vp%-") or find(text, ";vpr=", 1, true) then
    local message = read(text)
    if message and reveal_request(message) then write(message) end
  end
  return 1
end
