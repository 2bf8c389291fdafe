-- What the proxies of a pool tell each other of registered clients.
--
-- The proxy that saves a REGISTER sends each peer a copy, with Call-ID, CSeq, contacts and Path, under a token for the whole
-- pool (kind l). tm repeats it until it is answered. Its order among others for the same contact is the client's own: usrloc
-- takes no older CSeq. A proxy that starts asks one peer after the other (INFO, kind l) for all that it knows; the
-- agent opens it once that has arrived (ctl=>learned).

local sht, pvget, pvset = KSR.htable, KSR.pv.get, KSR.pv.sets
local get, set, inc = sht.sht_get, sht.sht_sets, sht.sht_inc
local tokens = require("tokens")

local ANSWER_SECONDS = 5 -- for all of a peer's locations, after which the next one is asked

local function bracketed(address) return string.find(address, ":", 1, true) and "[" .. address .. "]" or address end

-- The address of record of a URI: a user of one of the pool's own names or of its realm is the same one. $var(aor), "" where
-- it has no user.
function vp_aor(uri)
  local user, host = string.match(uri or "", "^sips?:([^@;?]+)@(%[[^%]]*%])")
  if not user then user, host = string.match(uri or "", "^sips?:([^@;?]+)@([^:;?>]+)") end
  local aor = ""
  if user then
    host = string.lower(host)
    if get("alias", host) == 1 or host == pvget("$var(realm)") then host = "pool.invalid" end
    aor = "sip:" .. user .. "@" .. host
  end
  pvset("$var(aor)", aor)
  return 1
end

local function headers(name)
  local found = {}
  for at = 0, (pvget("$hdrc(" .. name .. ")") or 0) - 1 do
    found[#found + 1] = pvget("$(hdr(" .. name .. ")[" .. at .. "])")
  end
  return found
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

-- A Path over the flow that the request came by, as PATH makes them: $var(path). The path module's own cannot be saved here:
-- it is written when a message leaves, and knows then by which socket.
function vp_own_path(network)
  vp_route_mac("path")
  local transport = string.gsub(string.lower(pvget("$proto")), "wss", "ws")    -- in a URI both are ws
  local received = "sip:" .. bracketed(pvget("$si")) .. ":" .. pvget("$sp")
    .. (transport ~= "udp" and "%3Btransport%3D" .. transport or "")
  pvset("$var(path)", "<sip:" .. pvget("$var(route_mac)") .. "@" .. bracketed(pvget("$Ri")) .. ":" .. get("ctl", "by")
    .. ";lr;received=" .. received .. (network and network ~= "" and ";net=" .. network or "") .. ">")
  return 1
end

local serial = 0

local function send(peer, method, to, call_id, cseq, lines, note)
  local head = tokens.number(tokens.head("l", get("ctl", "tick") or 0))
  lines[#lines + 1] = "X-VP-Token: " .. tokens.sign(head, "pool", "", "", call_id)
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

-- The peers' addresses, as in a URI.
local function peers()
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

-- usrloc can be asked for an address of record, not for all of them: so these are kept beside it (aor=>, without "sip:").
local function note_aor(aor) set("aor", string.sub(aor, 5), "1") end

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

function vp_learned_one()
  note_aor(pvget("$tu"))
  if pvget("$hdr(X-VP-Taught)") then inc("learn", "got") end
  return 1
end

-- ---- a proxy that starts -------------------------------------------------------------------------------------------------
-- A peer asks (X-VP-Teach), or tells how many contacts it has sent (X-VP-Taught). $var(knows) 1: we know all there is.
function vp_learning()
  local count = pvget("$hdr(X-VP-Taught)")
  if count then sht.sht_seti("learn", "all", 1 + (tonumber(count) or 0)) end
  KSR.pv.seti("$var(knows)", (count or get("ctl", "learned") == 1) and 1 or 0)
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
    if KSR.registrar.reg_fetch_contacts("location", aor, "taught") > 0 then
      for at = 0, (pvget("$(ulc(taught=>count))") or 0) - 1 do
        local function of(field) return pvget("$(ulc(taught=>" .. field .. ")[" .. at .. "])") end
        local left = (of("expires") or 0) - pvget("$TS")
        if left > 0 then
          local q = of("q") or -1
          local lines = { "Contact: <" .. of("addr") .. ">;expires=" .. left .. (q >= 0 and ";q=" .. q / 1000 or ""),
            "X-VP-Taught: 1" }
          local path = of("path")
          if path and path ~= "" then lines[#lines + 1] = "Path: " .. path end
          send(peer, "REGISTER", aor, of("callid"), of("cseq"), lines)
          count = count + 1
        end
      end
      KSR.registrar.reg_free_contacts("taught")
    end
  end
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

local expires

function vp_learn()
  if get("ctl", "registrar") ~= 1 then return 1 end
  if get("ctl", "expires") ~= expires then
    expires = get("ctl", "expires")
    KSR.jsonrpcs.exec('{"jsonrpc":"2.0","id":1,"method":"cfg.seti","params":["registrar","max_expires",' .. expires .. "]}")
  end
  if get("ctl", "learned") == 1 or get("ctl", "learn") ~= 1 then return 1 end
  local all = get("learn", "all")                -- how many there are, and one; 0: not told yet
  if all > 0 and get("learn", "got") + 1 >= all then
    sht.sht_seti("ctl", "learned", 1)
  elseif pvget("$TS") - get("learn", "since") > ANSWER_SECONDS then
    ask_next()
  end
  return 1
end
