-- What the proxies of a pool tell each other of registered clients.
--
-- The proxy that saves a REGISTER sends each peer a copy, with Call-ID, CSeq, contacts and Path, under a token for the whole
-- pool (kind l). tm repeats it until it is answered. Its order among others for the same contact is the client's own: usrloc
-- takes no older CSeq. A proxy that starts asks one peer after the other (INFO, kind l) for all that it knows; the
-- agent opens it once that has arrived (ctl=>learned).

local sht, pvget, pvset = KSR.htable, KSR.pv.get, KSR.pv.sets
local get, set, inc = sht.sht_get, sht.sht_sets, sht.sht_inc
local tokens, gruu = require("tokens"), require("gruu")
local headers = tokens.headers

-- Seconds after which a client is to send something over a connection, so that no router forgets it (docs/networks.md).
local FLOW_TIMER = 60
local MOST_BRANCHES = 12 -- of tm: as many contacts ring
local ANSWER_SECONDS = 5 -- for all of a peer's locations, after which the next one is asked

local M = { teachers = {} } -- what else a proxy that starts is taught: functions of its address, which tell how many they sent

local function bracketed(address) return string.find(address, ":", 1, true) and "[" .. address .. "]" or address end

-- The contacts of an address of record, the latest first.
local function contacts_of(aor)
  local found = {}
  if KSR.registrar.reg_fetch_contacts("location", aor, "seen") <= 0 then return found end
  for at = 0, (pvget("$(ulc(seen=>count))") or 0) - 1 do
    local function of(field) return pvget("$(ulc(seen=>" .. field .. ")[" .. at .. "])") end
    local left = (of("expires") or 0) - pvget("$TS")
    if left > 0 then
      found[#found + 1] = { left = left, address = of("addr"), path = of("path"), call_id = of("callid"),
        cseq = of("cseq"), instance = of("instance"), reg_id = of("regid") or 0, ruid = of("ruid"), connection = of("conid") }
    end
  end
  KSR.registrar.reg_free_contacts("seen")
  return found
end

-- The address of record of a URI: a user of one of the pool's own names or of its realm is the same one. $var(aor), "" where
-- it has no user. $var(instance): what lookup is told besides, where the URI is a GRUU and so one instance's alone.
function vp_aor(uri)
  local user, host, params = string.match(uri or "", "^sips?:([^@;?]+)@(%[[^%]]*%])([^?]*)")
  if not user then user, host, params = string.match(uri or "", "^sips?:([^@;?]+)@([^:;?>]+)([^?]*)") end
  local aor, instance = "", ""
  if user then
    host = string.lower(host)
    if get("alias", host) == 1 or host == pvget("$var(realm)") then host = "pool.invalid" end
    aor = "sip:" .. user .. "@" .. host
    local given = string.match(params .. ";", ";gr=?([^;]*);")
    if given == "" then
      local hidden, is_it = gruu.reveal(user)
      given = nil
      for _, contact in ipairs(hidden and contacts_of("sip:" .. hidden) or {}) do
        if is_it(contact) then aor, given = "sip:" .. hidden, gruu.instance(contact) end
      end
      given = given or "none"
    end
    if given then instance = ";gr=" .. given end
  end
  pvset("$var(aor)", aor)
  pvset("$var(instance)", instance)
  return 1
end

-- $var(elsewhere) 1: a contact is not where the request came from. It is reached over the flow then, or anybody could
-- register somebody else's address.
function vp_contacts_elsewhere()
  local own, elsewhere = pvget("$si") .. " " .. pvget("$sp"), 0
  for _, contacts in ipairs(headers("Contact")) do
    contacts = string.lower(contacts)            -- a scheme may be written SIP: as well
    local uri, more = string.gsub(string.match(contacts, "<%s*([^>]+)>") or contacts, "^sips?:", "")
    local place = string.gsub(uri, "^[^@]*@", "")
    local host, port = string.match(place, "^%[([^%]]+)%]:?(%d*)")
    if not host then host, port = string.match(place, "^([^:;?]+):?(%d*)") end
    local several = select(2, string.gsub(contacts, "sips?:", "")) > more
    if contacts ~= "*" and (several or (host or "") .. " " .. (port ~= "" and port or "5060") ~= own) then elsewhere = 1 end
  end
  KSR.pv.seti("$var(elsewhere)", elsewhere)
  return 1
end

local function wants(option)
  for _, supported in ipairs(headers("Supported")) do
    for tag in string.gmatch(string.lower(supported), "[%w.-]+") do
      if tag == option then return true end
    end
  end
  return false
end

-- Whether a REGISTER asks for outbound (RFC 5626) and may have it. Not over UDP, where clients would keep the flow alive by
-- STUN, which would answer strangers as well; not where somebody stands between who does not know it.
local function outbound()
  local contact = headers("Contact")[1] or ""
  local asked = string.find(contact, ";%s*reg%-id%s*=%s*%d") and string.find(contact, ";%s*%+sip%.instance%s*=")
  return asked and pvget("$proto") ~= "udp" and pvget("$hdrc(Via)") == 1 and wants("outbound")
end

-- The Path by which a client is reached over its flow: $var(route_mac), its user, signed, and $var(path_params); a proxy
-- behind the one that holds the flow says of it what that has said.
function vp_path(network)
  local params = {}
  if network and network ~= "" then params[1] = "net=" .. network end
  if outbound() or string.find(headers("Path")[1] or "", ";ob[;>]") then params[#params + 1] = "ob" end
  vp_route_mac("path")
  pvset("$var(path_params)", table.concat(params, ";"))
  return 1
end

-- The whole of it: $var(path). The path module's own cannot be saved here: it is written when a message leaves, and knows then
-- by which socket.
function vp_own_path(network)
  vp_path(network)
  local params = pvget("$var(path_params)")
  local transport = string.gsub(string.lower(pvget("$proto")), "wss", "ws")    -- in a URI both are ws
  local received = "sip:" .. bracketed(pvget("$si")) .. ":" .. pvget("$sp")
    .. (transport ~= "udp" and "%3Btransport%3D" .. transport or "")
  pvset("$var(path)", "<sip:" .. pvget("$var(route_mac)") .. "@" .. bracketed(pvget("$Ri")) .. ":" .. get("ctl", "by")
    .. ";lr;received=" .. received .. (params ~= "" and ";" .. params or "") .. ">")
  return 1
end

-- A contact as it stands in a Contact header.
local function written(contact)
  return "<" .. contact.address .. ">" .. ";expires=" .. contact.left
    .. (contact.instance and ';+sip.instance="' .. contact.instance .. '"' or "")
    .. (contact.reg_id > 0 and ";reg-id=" .. contact.reg_id or "")
end

-- By what a contact of a user is told from the others, in the database as well (agent/database.py).
local function key_of(contact)
  return contact.instance and contact.instance .. ";" .. contact.reg_id or contact.address
end

-- The contact has changed: the agent is to write it into the database. One that waits to be read already need not be told again.
local function mark(aor, contact)
  local key = string.sub(aor, 5) .. "\n" .. key_of(contact)
  if (get("marked", key) or 0) > get("ctl", "reading") then return end
  local number = inc("cnt", "changed")
  sht.sht_sets("changed", tostring(number), key)
  sht.sht_seti("marked", key, number)
end

local before = {}                                -- contacts of the user whose REGISTER is at hand

-- Before a REGISTER is saved: a client that has another instance than before, at the same address, is not two. usrloc looks at
-- the instance alone.
function vp_forget_namesake(aor)
  local sent = headers("Contact")[1] or ""
  local address, instance = string.match(sent, "<([^>]*)>"), string.match(sent, ';%s*%+sip%.instance%s*=%s*"([^"]*)"')
  before = get("ctl", "database") == 1 and contacts_of(aor) or {}
  if not (address and instance) then return 1 end
  for _, contact in ipairs(contacts_of(aor)) do
    if contact.address == address and contact.instance ~= instance then
      KSR.registrar.unregister_ruid("location", aor, contact.ruid)
    end
  end
  return 1
end

-- A REGISTER that has been saved is answered with all contacts of its user, and the GRUUs of those that have instances.
function vp_registered()
  local aor, lines = pvget("$var(aor)"), {}
  local user, domain = string.match(pvget("$tu"), "^sips?:([^@]+)@(%[[^%]]*%])")
  if not user then user, domain = string.match(pvget("$tu"), "^sips?:([^@]+)@([^:;?]+)") end
  local with_gruu, after, kept = wants("gruu"), contacts_of(aor), get("ctl", "database") == 1
  local there = {}
  for _, contact in ipairs(after) do
    there[key_of(contact)] = true
    if kept and contact.call_id == pvget("$ci") and contact.cseq == tonumber(pvget("$cs")) then mark(aor, contact) end
  end
  for _, contact in ipairs(before) do
    if not there[key_of(contact)] then mark(aor, contact) end
  end
  for _, contact in ipairs(after) do
    local line, instance = "Contact: " .. written(contact), gruu.instance(contact)
    if with_gruu and instance ~= "" then
      line = line .. ';pub-gruu="sip:' .. user .. "@" .. domain .. ";gr=" .. instance .. '"'
        .. ';temp-gruu="sip:' .. gruu.temporary(string.sub(aor, 5), contact) .. "@" .. domain .. ';gr"'
    end
    lines[#lines + 1] = line
  end
  if outbound() then
    lines[#lines + 1] = "Require: outbound"
    lines[#lines + 1] = "Flow-Timer: " .. FLOW_TIMER
  end
  if #lines > 0 then KSR.hdr.append_to_reply(table.concat(lines, "\r\n") .. "\r\n") end
  KSR.sl.send_reply(200, "OK")
  return 1
end

-- Whether the client's connection was ours, and is gone.
local function lost(contact)
  local path = contact.path or ""
  local holder = get("peer", string.match(path, "@([^%[%]:;]+)") or string.match(path, "@%[([^%]]+)") or "") or get("ctl", "name")
  return holder == get("ctl", "name") and string.find(path, "%3Btransport%3D", 1, true)
    and not (contact.connection and KSR.tcpops.tcp_conid_state(contact.connection) > 0)
end

-- Before a user is called: contacts that are lost are forgotten, unless there are no others: $var(lost) 1.
function vp_forget_lost()
  local aor, gone, left = pvget("$var(aor)"), {}, 0
  for _, contact in ipairs(contacts_of(aor)) do
    if lost(contact) then gone[#gone + 1] = contact else left = left + 1 end
  end
  for _, contact in ipairs(left > 0 and gone or {}) do KSR.registrar.unregister_ruid("location", aor, contact.ruid) end
  KSR.pv.seti("$var(lost)", left == 0 and #gone > 0 and 1 or 0)
  return 1
end

-- Of the contacts that are to ring only those of the instance that is called: $xavp(contacts), from the last to the first.
function vp_instance_alone()
  local wanted = string.match(pvget("$var(instance)"), ";gr=(.*)")
  for at = MOST_BRANCHES - 1, 0, -1 do
    local one = "$xavp(contacts[" .. at .. "]"
    if pvget(one .. "=>uri)") and pvget(one .. "=>instance)") ~= "<" .. wanted .. ">" then KSR.pv.unset(one .. ")") end
  end
  return 1
end

local serial = 0

function M.send(peer, method, to, call_id, cseq, lines, note)
  local head = tokens.number(tokens.head("l", get("ctl", "tick") or 0))
  local bound = tokens.bound_to(method, to, call_id, cseq, lines)
  lines[#lines + 1] = "X-VP-Token: " .. tokens.sign(head, "pool", "", "", bound)
  pvset("$uac_req(method)", method)
  pvset("$uac_req(ruri)", "sip:" .. peer .. ":" .. get("ctl", "by"))
  pvset("$uac_req(furi)", "sip:" .. get("ctl", "name") .. "@pool.invalid")
  pvset("$uac_req(turi)", to)
  pvset("$uac_req(callid)", call_id)
  KSR.pv.seti("$uac_req(cseqno)", cseq)
  pvset("$uac_req(hdrs)", table.concat(lines, "\r\n") .. "\r\n")
  KSR.pv.seti("$uac_req(evroute)", note and 1 or 0)
  pvset("$uac_req(evparam)", note or "")
  KSR.uac.uac_req_send()
  -- A process keeps these: its next request of its own (OPTIONS to a target) must not have this one's Call-ID and headers.
  KSR.pv.unset("$uac_req(all)")
  KSR.pv.seti("$uac_req(cseqno)", 0)
end

local send = M.send

-- The peers' addresses, as in a URI.
function M.peers()
  local found, own = {}, get("ctl", "name")
  if sht.sht_iterator_start("peers", "peer") > 0 then
    while sht.sht_iterator_next("peers") > 0 do
      if pvget("$shtitval(peers)") ~= own then
        found[#found + 1] = bracketed(pvget("$shtitkey(peers)"))
      end
    end
    sht.sht_iterator_end("peers")
  end
  table.sort(found)
  return found
end
local peers = M.peers

-- usrloc can be asked for an address of record, not for all of them: so those that have contacts are kept beside it (aor=>,
-- without "sip:").
local function note_aor(aor)
  if #contacts_of(aor) > 0 then set("aor", string.sub(aor, 5), "1") else sht.sht_rm("aor", string.sub(aor, 5)) end
end

-- A contact has expired.
function vp_expired(aor) note_aor("sip:" .. aor) return 1 end

-- The REGISTER at hand has been saved: every peer is to know.
function vp_tell_peers()
  note_aor(pvget("$var(aor)"))
  for _, peer in ipairs(peers()) do
    local lines = {}
    for _, contact in ipairs(headers("Contact")) do lines[#lines + 1] = "Contact: " .. contact end
    for _, path in ipairs(headers("Path")) do lines[#lines + 1] = "Path: " .. path end
    for _, expires in ipairs(headers("Expires")) do lines[#lines + 1] = "Expires: " .. expires end
    if #headers("Contact") > 0 then
      send(peer, "REGISTER", pvget("$var(aor)"), pvget("$ci"), tonumber(pvget("$cs")), lines)
    end
  end
  return 1
end

-- A copy of a REGISTER, before it is saved. $var(older) 1: of its contact we know the same or a later one.
function vp_learned_one()
  local older = 0
  if pvget("$hdr(X-VP-Taught)") then inc("learn", "got") end
  if pvget("$hdr(X-VP-Restored)") then inc("learn", "back") end
  local sent = headers("Contact")[1] or ""
  local reg_id = tonumber(string.match(sent, ";%s*reg%-id%s*=%s*(%d+)")) or 0
  for _, contact in ipairs(contacts_of(pvget("$tu"))) do
    local same = contact.address == string.match(sent, "<([^>]*)>")
    if contact.instance then same = contact.reg_id == reg_id and string.find(sent, contact.instance, 1, true) end
    if same and contact.call_id == pvget("$ci") and contact.cseq >= tonumber(pvget("$cs")) then older = 1 end
  end
  KSR.pv.seti("$var(older)", older)
  return 1
end

-- And after that.
function vp_learned() note_aor(pvget("$tu")) return 1 end

-- ---- a proxy that starts -------------------------------------------------------------------------------------------------
-- A peer asks (X-VP-Teach), or tells how many contacts it has sent (X-VP-Taught). $var(knows) 1: we know all there is.
function vp_learning()
  local count = pvget("$hdr(X-VP-Taught)")
  if count then sht.sht_seti("learn", "all", 1 + (tonumber(count) or 0)) end
  -- With a database, once what that has is known as well: a peer that is taught by us does not ask it.
  local waits = get("ctl", "database") == 1
    and (get("ctl", "ready") ~= 1 or get("learn", "restored") < get("ctl", "restore"))
  KSR.pv.seti("$var(knows)", (count or get("ctl", "learned") == 1 and not waits) and 1 or 0)
  return 1
end

-- All contacts, one REGISTER each, as it was saved; then how many there were.
function vp_teach(peer)
  peer = bracketed(peer)
  local aors, count = {}, 0
  if sht.sht_iterator_start("aors", "aor") > 0 then
    while sht.sht_iterator_next("aors") > 0 do aors[#aors + 1] = "sip:" .. pvget("$shtitkey(aors)") end
    sht.sht_iterator_end("aors")
  end
  for _, aor in ipairs(aors) do
    for _, contact in ipairs(contacts_of(aor)) do
      local lines = { "Contact: " .. written(contact), "X-VP-Taught: 1" }
      if contact.path and contact.path ~= "" then lines[#lines + 1] = "Path: " .. contact.path end
      send(peer, "REGISTER", aor, contact.call_id, contact.cseq, lines)
      count = count + 1
    end
  end
  for _, teach in ipairs(M.teachers) do count = count + teach(peer) end
  serial = serial + 1
  send(peer, "INFO", "sip:pool.invalid", "taught-" .. pvget("$pp") .. "-" .. serial .. "-" .. pvget("$TS"), 1,
    { "X-VP-Taught: " .. count })
  return 1
end

-- The next peer in turn is asked; when none is left there is nothing to learn.
local function ask_next()
  local all, at = peers(), inc("learn", "asked")
  if not all[at] then sht.sht_seti("ctl", "learned", 1) return end
  sht.sht_seti("learn", "since", pvget("$TS"))
  send(all[at], "INFO", "sip:pool.invalid", "teach-" .. get("ctl", "boot") .. "-" .. at, 1, { "X-VP-Teach: 1" },
    "learn:" .. at)
end

-- A peer's answer: one that knows nothing itself, or does not answer, is passed over.
function vp_asked(note, code)
  if tonumber(code) >= 300 and note == "learn:" .. get("learn", "asked") then ask_next() end
end

-- What the agent has read from the database (restore=>1 to ctl=>restore) is told to ourselves, as by a peer. A client that is reached
-- over a flow is left out where nobody holds that any more.
local RESTORED_AT_ONCE = 1000

local function restore()
  local all, from = get("ctl", "restore"), get("learn", "restored")
  for number = from + 1, math.min(all, from + RESTORED_AT_ONCE) do
    local fields = {}
    for field in string.gmatch((get("restore", tostring(number)) or "") .. "\n", "([^\n]*)\n") do fields[#fields + 1] = field end
    sht.sht_rm("restore", tostring(number))
    inc("learn", "restored")
    local own, aor, call_id, cseq, expires, address, instance, reg_id, path = unpack(fields)
    local left = (tonumber(expires) or 0) - pvget("$TS")
    local holder = string.match(path or "", "@([^%[%]:;]+)") or string.match(path or "", "@%[([^%]]+)")
    if left > 0 and (not holder or get("peer", holder)) then
      local contact = { address = address, left = left, instance = instance ~= "" and instance or nil, reg_id = tonumber(reg_id) }
      local lines = { "Contact: " .. written(contact), "X-VP-Restored: 1" }
      if path ~= "" then lines[#lines + 1] = "Path: " .. path end
      M.send(own, "REGISTER", "sip:" .. aor, call_id, tonumber(cseq), lines)
    else
      inc("learn", "back")
    end
  end
end

local expires

function vp_learn()
  if get("ctl", "registrar") == 1 and get("ctl", "expires") ~= expires then
    expires = get("ctl", "expires")
    KSR.jsonrpcs.exec('{"jsonrpc":"2.0","id":1,"method":"cfg.seti","params":["registrar","max_expires",' .. expires .. "]}")
  end
  if get("ctl", "learn") ~= 1 then
    if get("ctl", "learned") == 1 then           -- turned off: it misses what happens until it is turned on again
      sht.sht_seti("ctl", "learned", 0)
      sht.sht_seti("ctl", "restore", 0)
      sht.sht_reset("learn")
    end
    return 1
  end
  if get("learn", "restored") < get("ctl", "restore") then restore() end
  if get("ctl", "learned") == 1 then return 1 end
  local all = get("learn", "all")                -- how many there are, and one; 0: not told yet
  if all > 0 and get("learn", "got") + 1 >= all then
    sht.sht_seti("ctl", "learned", 1)
  elseif pvget("$TS") - get("learn", "since") > ANSWER_SECONDS then
    ask_next()
  end
  return 1
end

return M
