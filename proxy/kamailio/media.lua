-- rtpengine's XML-RPC call: dlg.terminate_dlg(Call-ID, From tag, To tag) -> $var(silent_call), _from, _to.
local pvset = KSR.pv.sets

function vp_media_timeout(body)
  local strings = {}
  for s in string.gmatch(body or "", "<string>([^<]*)</string>") do strings[#strings + 1] = s end
  local known = string.find(body or "", "dlg.terminate_dlg", 1, true)
  pvset("$var(silent_call)", known and strings[1] or "")
  pvset("$var(silent_from)", strings[2] or "")
  pvset("$var(silent_to)", strings[3] or "")
  return 1
end
