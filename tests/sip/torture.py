"""Messages in the manner of RFC 4475: valid ones that strain a parser, and invalid ones, with what becomes of each.

The RFC leaves it to an element whether it mends, refuses or drops what is invalid. Ours differs in two valid ones:
octets after a datagram's body are refused (they could hide a second message), and a CSeq must stand on one line
(Kamailio's parser).

`{proxy}`, `{ip}` and `{port}` are filled in; so is `{name}`, in Call-ID and branch. A line's end is CRLF.
"""

from __future__ import annotations

from dataclasses import dataclass

SERVED = "served"  # it reaches whoever is called
SILENT = "silent"  # no answer, and nobody else sees it

VIA = "Via: SIP/2.0/UDP {ip}:{port};rport;branch=z9hG4bK{name}"
FROM = "From: <sip:alice@example.test>;tag=323"
TO = "To: <sip:echo@{proxy}>"
CALL_ID = "Call-ID: {name}"
CONTACT = "Contact: <sip:alice@{ip}:{port}>"
END = "Content-Length: 0"


@dataclass(frozen=True)
class Torture:
    name: str
    expected: str | int  # SERVED, SILENT, or the status of the proxy's answer
    lines: tuple[str, ...]
    body: str = ""
    trailer: bytes = b""

    def encode(self, proxy: str, ip: str, port: int) -> bytes:
        text = "\r\n".join([*self.lines, "", self.body])
        for key, value in (("proxy", proxy), ("ip", ip), ("port", str(port)), ("name", self.name)):
            text = text.replace(f"{{{key}}}", value)
        return text.encode() + self.trailer


def _request(
    name: str,
    expected: str | int,
    start: str = "OPTIONS sip:echo@far.test SIP/2.0",
    *lines: str,
    without: str = "",
    body: str = "",
    trailer: bytes = b"",
) -> Torture:
    """A request whose usual headers are replaced by `lines` of the same name, or left out."""
    method = start.split(maxsplit=1)[0]
    usual = [VIA, "Max-Forwards: 70", FROM, TO, CALL_ID, f"CSeq: 8 {method}", CONTACT, END]
    own = {line.partition(":")[0].strip().lower() for line in lines} | set(without.split())
    kept = [line for line in usual if line.partition(":")[0].lower() not in own]
    return Torture(name, expected, (start, *kept, *lines), body, trailer)


INVITE = "INVITE sip:echo@far.test SIP/2.0"
METHOD = "!interesting-Method0123456789_*+`.%indeed'~"

VALID = (
    _request(
        "tortuous",
        SERVED,
        "INVITE sip:vivekg@far.test;unknownparam SIP/2.0",
        "TO :\r\n sip:vivekg@far.test ;   param    = 1918181833n",
        'from   : "J Rosenberg \\\\\\""       <sip:jdrosen@example.test>\r\n  ;\r\n  tag = 98asjd8',
        "MaX-fOrWaRdS: 0068",
        "Call-ID: {name}",
        "Content-Length   : 0",
        "cseq: 0009   INVITE",
        "s :",
        "NewFangledHeader:   newfangled value\r\n continued newfangled value",
        "UnknownHeaderWithUnusualValue: ;;,,;;,;",
        'Contact: "Quoted string \\"\\"" <sip:jdrosen@example.test> ; newparam =\r\n      newvalue ; q = 0.33',
        without="to from max-forwards cseq contact content-length",
    ),
    _request(
        "characters",
        SERVED,
        f"{METHOD} sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"
        "@far.test SIP/2.0",
    ),
    _request("escapes", SERVED, "INVITE sip:sips%3Auser%40example.com@far.test SIP/2.0", "To: sip:%75se%72@far.test"),
    _request("escaped-nulls", SERVED, "MESSAGE sip:null-%00-null@far.test SIP/2.0", "To: sip:null-%00-null@far.test"),
    _request("percent-in-method", SERVED, "RE%47IST%45R sip:registrar@far.test SIP/2.0"),
    _request(
        "no-space-before-bracket",
        SERVED,
        "OPTIONS sip:user@far.test SIP/2.0",
        "From: caller<sip:caller@example.test>;tag=323",
    ),
    _request(
        "long-values",
        SERVED,
        "MESSAGE sip:user@far.test SIP/2.0",
        'To: "I have a user name of ' + "extreme" * 100 + '" <sip:user@far.test>',
        "Unknown-"
        + "Long" * 20
        + "-Name: unknown-"
        + "long" * 50
        + "-value; unknown-"
        + "long" * 50
        + "-parameter-name = unknown",
    ),
    _request(
        "trailing-octets",
        400,
        "MESSAGE sip:j.user@far.test SIP/2.0",
        trailer=b"INVITE sip:joe@far.test SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKl\r\n",
    ),
    _request("semicolon-in-user", SERVED, "OPTIONS sip:user;par=u%40example.net@far.test SIP/2.0"),
    _request(
        "transports",
        SERVED,
        "OPTIONS sip:user@far.test SIP/2.0",
        VIA,
        "Via: SIP/2.0/SCTP t2.test;branch=z9hG4bKkl",
        "Via: SIP/2.0/TLS t3.test;branch=z9hG4bKk2",
        "Via: SIP/2.0/UNKNOWN t4.test;branch=z9hG4bKk3",
    ),
    _request(
        "multipart",
        SERVED,
        "MESSAGE sip:kumiko@far.test SIP/2.0",
        "Content-Type: multipart/mixed;boundary=7a9cbec02ceef655",
        "Content-Length: 101",
        body="--7a9cbec02ceef655\r\nContent-Type: text/plain\r\n\r\nHello \x01\x02\x03\r\n--7a9cbec02ceef655--\r\n"
        + " " * 20,
    ),
    _request(
        "old-syntax",
        SERVED,
        INVITE,
        "Via: SIP/2.0/UDP {ip}:{port}",
        "From: sip:iuser@example.test;tag=1",
        "To: sip:user@far.test",
    ),
    _request(
        "unknown-content",
        SERVED,
        INVITE,
        "Content-Type: application/unknownformat",
        "Content-Length: 10",
        body="<audio/>\r\n",
    ),
    _request(
        "unknown-authorization",
        SERVED,
        "MESSAGE sip:j.user@far.test SIP/2.0",
        "Authorization: NoOneKnowsThisScheme opaque-data=here",
    ),
    _request(
        "escaped-headers-in-contact",
        SERVED,
        "REGISTER sip:far.test SIP/2.0",
        "Contact: <sip:user@example.test?Route=%3Csip:sip.example.test%3E>",
    ),
    _request("bad-date", SERVED, INVITE, "Date: Fri, 01 Jan 2010 16:00:00 EST"),
    _request(
        "odd-display-name",
        SERVED,
        "OPTIONS sip:t.watson@far.test SIP/2.0",
        'From: "Bell, Alexander" <sip:a.g.bell@bell-tel.test>;tag=43',
    ),
    _request("unacceptable-accept", SERVED, INVITE, "Accept: text/nobodyKnowsThis"),
    _request(
        "unknown-scheme-in-to",
        SERVED,
        "MESSAGE sip:user@far.test SIP/2.0",
        "To: isbn:2983792873",
        "Contact: <name:John_Smith>",
    ),
)
INVALID = (
    _request("folded-cseq", SILENT, INVITE, "CSeq: 0009\r\n  INVITE"),  # is valid: Kamailio's parser takes no fold here
    _request(
        "no-branch-value", SERVED, "OPTIONS sip:user@far.test SIP/2.0", "Via: SIP/2.0/UDP {ip}:{port};branch=z9hG4bK"
    ),
    _request("extra-separators", 400, INVITE, 'Contact: "Joe" <sip:joe@example.test>;;;;,,;,,;'),
    _request(
        "content-length-too-large", 400, INVITE, "Content-Type: application/sdp", "Content-Length: 9999", body="v=0\r\n"
    ),
    _request("content-length-negative", SILENT, INVITE, "Content-Length: -999"),
    _request(
        "scalars-too-large",
        400,
        "REGISTER sip:far.test SIP/2.0",
        "CSeq: 36893488147419103232 REGISTER",
        "Max-Forwards: 300",
    ),
    _request(
        "expires-too-large", 400, "REGISTER sip:far.test SIP/2.0", "Expires: 10000000000000000000000000000000000000"
    ),
    _request("quotes-unbalanced", SILENT, INVITE, 'To: "Mr. J. User <sip:j.user@far.test>'),
    _request("uri-in-brackets", 400, "INVITE <sip:user@far.test> SIP/2.0"),
    _request("uri-with-space", SILENT, "INVITE sip:user@far.test; lr SIP/2.0"),
    _request("two-spaces", SILENT, "INVITE  sip:user@far.test  SIP/2.0", "CSeq: 8 INVITE"),
    _request("trailing-spaces", SERVED, "OPTIONS sip:remote-target@far.test SIP/2.0  "),
    _request("unknown-version", SILENT, "OPTIONS sip:t.watson@far.test SIP/7.0"),
    _request("method-mismatch", 400, "OPTIONS sip:user@far.test SIP/2.0", "CSeq: 8 INVITE"),
    _request("unknown-method-mismatch", 400, "NEWMETHOD sip:user@far.test SIP/2.0", "CSeq: 8 INVITE"),
    _request("headers-missing", SILENT, INVITE, without="call-id from to"),
    _request("unknown-scheme", 400, "OPTIONS nobodyKnowsThisScheme:totallyopaquecontent SIP/2.0"),
    _request("known-scheme", 400, "OPTIONS soap.beep://192.0.2.103:3002 SIP/2.0"),
    _request(
        "proxy-require",
        420,
        "OPTIONS sip:user@far.test SIP/2.0",
        "Proxy-Require: nothingSupportsThis, nothingSupportsThisEither",
    ),
    _request(
        "several-values",
        SILENT,
        INVITE,
        "CSeq: 5 INVITE",
        "Call-ID: {name}",
        "Call-ID: other",
        FROM,
        "From: Bob <sip:bob@example.test>;tag=2",
        "Max-Forwards: 70",
        "Max-Forwards: 5",
        "To: <sip:a@far.test>",
        "To: <sip:b@far.test>",
    ),
    _request(
        "two-content-lengths",
        SILENT,
        "OPTIONS sip:user@far.test SIP/2.0",
        "Content-Length: 13",
        "Content-Length: 5",
        body="There's no way\r\n",
    ),
    _request("max-forwards-zero", 483, "OPTIONS sip:user@far.test SIP/2.0", "Max-Forwards: 0"),
    Torture(
        "status-too-large",
        SILENT,
        ("SIP/2.0 4294967301 better not break the receiver", VIA, FROM, TO, CALL_ID, "CSeq: 8 INVITE", END),
    ),
    Torture(
        "broadcast-answer",
        SILENT,
        (
            "SIP/2.0 200 OK",
            "Via: SIP/2.0/UDP {proxy};branch=z9hG4bKx",
            "Via: SIP/2.0/UDP 255.255.255.255;branch=z9hG4bKy",
            FROM,
            TO,
            CALL_ID,
            "CSeq: 8 INVITE",
            END,
        ),
    ),
    Torture("empty-reason", SILENT, ("SIP/2.0 100 ", VIA, FROM, TO, CALL_ID, "CSeq: 8 INVITE", END)),
    Torture("no-headers", SILENT, ("INVITE sip:a@far.test SIP/2.0",)),
    Torture("zeros", SILENT, ("\0" * 64,)),
)
