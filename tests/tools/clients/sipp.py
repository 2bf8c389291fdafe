"""SIPp as a client that does what a phone does. The scenarios are made here; tests/tools/sipp.py runs them, and counts.
It sends back what it hears and sees.

    server = Server(pool.primary.ip, "tcp")
    with registered(server, f"{CLIENTS}.8", "bob", tmp_path) as bob:
        ...
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.tools.listeners import PORTS
from tests.tools.pool import ALIAS
from tests.tools.sipp import SCENARIOS, Sipp
from tests.tools.transport import Protocol

SOCKETS: dict[Protocol, str] = {"udp": "u1", "tcp": "tn"}  # SIPp's words; n: a connection for each call
DIALOG = ("[last_Via:]", "[last_From:]", "[last_To:]", "[last_Call-ID:]")
SDP = """v=0
o=- 1 1 IN IP[local_ip_type] [local_ip]
s=-
c=IN IP[media_ip_type] [media_ip]
t=0 0
m=audio [media_port] RTP/AVP 0
a=rtpmap:0 PCMU/8000
a={direction}
m=video [media_port+2] RTP/AVP 96
a=rtpmap:96 VP8/90000
a={direction}"""
CONTACT = r"""<action>
<ereg regexp="sip:[^&gt;]*" search_in="hdr" header="Contact:" check_it="true" assign_to="uri"/>
<ereg regexp="sip:([^@&gt;]*@)?([0-9.]+)" search_in="hdr" header="Contact:" check_it="true" assign_to="all,user,host"/>
</action>"""
ROUTE = """<action>
<ereg regexp="sip:([0-9.]+)" search_in="hdr" header="Record-Route:" check_it="true" assign_to="all,host"/>
</action>"""
SEND_THERE = '<nop><action><setdest host="[$host]" port="5060" protocol="[transport]"/></action></nop>'
PROVISIONAL = "".join(f'<recv response="{status}" optional="true"/>' for status in (100, 180, 183))


@dataclass(frozen=True)
class Server:
    """Where a client sends what it sends: the primary, in the place of the pool's Service."""

    ip: str
    protocol: Protocol
    followed: bool = True  # where it answers with a 302; otherwise that is the end


def registered(server: Server, ip: str, user: str, directory: Path) -> Sipp:
    """Registers, and answers whoever calls, until it is stopped."""
    send, address = _Sender(user), f"sip:{user}@{ALIAS}"
    steps = [
        *_accepted(server, send, "REGISTER", f"sip:{ALIAS}", address, "Expires: 120", "Supported: path"),
        '<pause milliseconds="600000"/>',
    ]
    return _start(server, ip, directory / user, steps, "-oocsf", str(SCENARIOS / "answerer.xml"))


def calling(server: Server, ip: str, user: str, directory: Path, transfer_to: str) -> Sipp:
    """Calls, holds, resumes, transfers, hangs up: each when the one called asks for it by an INFO within the call, so
    that nobody has to guess how long the step before takes.
    """
    send = _Sender(user)
    accepted = [_answer(200), send.within("ACK")]
    steps = [
        *_accepted(server, send, "INVITE", f"sip:echo@{ALIAS}", f"sip:echo@{ALIAS}", sdp="sendrecv"),
        # the serving proxy; over a connection it is reached through the one that has the connection
        *([SEND_THERE] if server.protocol == "udp" else []),
        send.within("ACK"),
        *(_asked("INFO"), send.within("INVITE", sdp="sendonly"), *accepted),
        *(_asked("INFO"), send.within("INVITE", sdp="sendrecv"), *accepted),
        *(_asked("INFO"), send.within("REFER", f"Refer-To: <{transfer_to}>"), _answer(202), _asked("NOTIFY")),
        *(_asked("INFO"), send.within("BYE"), _answer(200)),
    ]
    return _start(server, ip, directory / user, steps)


class _Sender:
    """Composes a user's requests."""

    def __init__(self, user: str) -> None:
        self._user = user

    def first(self, method: str, uri: str, to: str, *headers: str, sdp: str = "") -> str:
        return self._request(method, uri, f"<{to}>", *headers, sdp=sdp)

    def within(self, method: str, *headers: str, sdp: str = "") -> str:
        """Within the dialog."""
        return self._request(method, "[next_url]", f"<sip:echo@{ALIAS}>[peer_tag_param]", "[routes]", *headers, sdp=sdp)

    def _request(self, method: str, uri: str, to: str, *headers: str, sdp: str) -> str:
        lines = [
            f"{method} {uri} SIP/2.0",
            "Via: SIP/2.0/[transport] [local_ip]:[local_port];rport;branch=[branch]",
            f"From: <sip:{self._user}@{ALIAS}>;tag=[pid]c[call_number]",
            f"To: {to}",
            "Call-ID: [call_id]",
            f"CSeq: [cseq] {method}",
            f"Contact: <sip:{self._user}@[local_ip]:[local_port];transport=[transport]>",
            "Max-Forwards: 70",
            *headers,
            *(("Content-Type: application/sdp",) if sdp else ()),
        ]
        again = "" if method == "ACK" else 'retrans="500"'
        return _sent(again, *lines, body=SDP.format(direction=sdp) if sdp else "")


def _accepted(server: Server, send: _Sender, method: str, uri: str, to: str, *headers: str, sdp: str = "") -> list[str]:
    """A request and its answer, which comes from the proxy that a 302 names where one comes and is followed."""
    acknowledged = _sent("", f"ACK {uri} SIP/2.0", *DIALOG, "CSeq: [cseq] ACK", "Max-Forwards: 70")
    route = ROUTE if sdp else ""
    again = [SEND_THERE, send.first(method, "[$uri]", to, *headers, sdp=sdp), _answer(200, 'rrs="true"', route)]
    return [
        send.first(method, uri, to, *headers, sdp=sdp),
        PROVISIONAL,
        f'<recv response="302" optional="true" next="redirected">{CONTACT}</recv>',
        f'<recv response="200" rrs="true" next="accepted">{route}</recv>',
        '<label id="redirected"/><nop counter="redirected"/>',
        *([acknowledged] if method == "INVITE" else []),
        *(again if server.followed else ['<nop counter="abandoned" next="end"/>']),
        '<label id="accepted"/><nop counter="answered"/>',
    ]


def _answer(status: int, attributes: str = "", action: str = "") -> str:
    return f'{PROVISIONAL}<recv response="{status}" {attributes}>{action}</recv>'


def _asked(method: str) -> str:
    """A request from the other side, and the answer to it."""
    return f'<recv request="{method}"/>' + _sent("", "SIP/2.0 200 OK", *DIALOG, "[last_CSeq:]")


def _sent(attributes: str, *lines: str, body: str = "") -> str:
    return "\n".join([f"<send {attributes}><![CDATA[", *lines, "Content-Length: [len]", "", body, "", "]]></send>"])


def _start(server: Server, ip: str, directory: Path, steps: list[str], *arguments: str) -> Sipp:
    directory.mkdir(parents=True)
    scenario = directory / "client.xml"
    head = '<?xml version="1.0" ?>\n<scenario name="client">'
    foot = '<label id="end"/><nop/><Reference variables="all,user,host,uri"/></scenario>'
    scenario.write_text("\n".join([head, *steps, foot]))
    where = [f"{server.ip}:{PORTS[server.protocol]}", "-i", ip, "-mi", ip, "-p", "5060"]
    once = ["-t", SOCKETS[server.protocol], "-m", "1", "-r", "100", "-max_socket", "100", "-rtp_echo"]
    return Sipp(scenario, directory, [*where, *once, *arguments])
