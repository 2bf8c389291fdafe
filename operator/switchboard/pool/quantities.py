"""The notations of a VoipProxyPool's values: shares, durations, Kubernetes quantities, port ranges, networks, SIP URIs.

Each function returns the value in the unit that its name tells, or raises ValueError with what is allowed.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from fractions import Fraction

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_DURATION = re.compile(r"([0-9]+)(ms|s|m|h)")
_DURATION_UNITS = {"ms": Fraction(1, 1000), "s": Fraction(1), "m": Fraction(60), "h": Fraction(3600)}
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(m|k|M|G|T|Ki|Mi|Gi|Ti|[eE][+-]?[0-9]{1,2})?")
_QUANTITY_UNITS: dict[str | None, Fraction] = {
    None: Fraction(1),
    "m": Fraction(1, 1000),
    **{unit: Fraction(1000**power) for power, unit in enumerate(("k", "M", "G", "T"), 1)},
    **{unit: Fraction(1024**power) for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti"), 1)},
}
_SHARE = re.compile(r"([1-9][0-9]?|100)%")
_PORTS = re.compile(r"([0-9]{1,5})-([0-9]{1,5})")
_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)"
_TEMPLATE = re.compile(r"(?:[a-z0-9-]*\{pod\}[a-z0-9-]*)(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")
_ORIGIN = re.compile(r"https?://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(?::[1-9][0-9]{0,4})?")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")
_COLLECTOR = re.compile(rf"{_HOST}:([1-9][0-9]{{0,4}})")
_NUMBER_PREFIX = re.compile(r"[A-Za-z0-9+*#._-]+")
_DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)?")
_USER = re.compile(r"[A-Za-z0-9_.!~*'()&=+$/-]{1,128}(?:@[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)?")
_DIGITS = re.compile(r"[0-9*#]*")
_USER_AGENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ./_-]*")
_RESOURCE_PRIORITY = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)?")
_CODEC = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_SIP_URI = re.compile(rf"sip:(?:[A-Za-z0-9+*#._-]+@)?{_HOST}(?::([1-9][0-9]{{0,4}}))?(?:;transport=(?:udp|tcp|tls))?")

HIGHEST_PORT = 65535
LOWEST_PORT = 1024  # proxies run without privileges


def share(text: object) -> float:
    """`80%` is 0.8."""
    match = _SHARE.fullmatch(str(text))
    if match is None:
        raise ValueError("must be a whole percentage from 1% to 100%, such as 80%")
    return int(match[1]) / 100


def seconds(text: object) -> float:
    """`500ms` is 0.5."""
    match = _DURATION.fullmatch(str(text))
    if match is None:
        raise ValueError("must be a duration: a whole number and ms, s, m or h, such as 3s")
    return float(int(match[1]) * _DURATION_UNITS[match[2]])


def some_seconds(text: object) -> float:
    """A duration above zero."""
    value = seconds(text)
    if value <= 0:
        raise ValueError("must be a duration above zero, such as 500ms")
    return value


def whole_seconds(text: object) -> int:
    """`1h` is 3600; SIP and Kubernetes count whole seconds here."""
    value = seconds(text)
    if value != int(value):
        raise ValueError("must be a duration of whole seconds, such as 2s")
    return int(value)


def quantity(text: object) -> float:
    """A Kubernetes quantity above zero: `500m` is 0.5, `200M` is 200,000,000."""
    match = _QUANTITY.fullmatch(str(text))
    value = Fraction(0)
    if match is not None:
        unit = match[2]
        scale = _QUANTITY_UNITS[unit] if unit in _QUANTITY_UNITS else Fraction(f"1{unit}")
        value = Fraction(match[1]) * scale
    if value <= 0:
        raise ValueError("must be a quantity above zero, such as 2, 500m or 200M")
    return float(value)


def whole(text: object) -> int:
    """A whole number, not below zero."""
    if not isinstance(text, int) or isinstance(text, bool) or text < 0:
        raise ValueError("must be a whole number, not below zero")
    return text


def positive(text: object) -> int:
    """A whole number above zero."""
    value = whole(text)
    if value == 0:
        raise ValueError("must be above zero")
    return value


def sip_failure(value: object) -> int:
    """A final SIP status that refuses a call."""
    status = whole(value)
    if not 400 <= status <= 699:
        raise ValueError("must be a SIP status from 400 to 699, such as 503")
    return status


def flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")  # noqa: TRY004 (all of them raise the same error, for one message)
    return value


def text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("must be a text, and not empty")
    return value


def ports(text: object) -> tuple[int, int]:
    """`20000-24999`: first and last, both included."""
    match = _PORTS.fullmatch(str(text))
    first, last = (int(match[1]), int(match[2])) if match else (0, 0)
    if not LOWEST_PORT <= first < last <= HIGHEST_PORT:
        raise ValueError("must be a range first-last within 1024-65535, such as 20000-24999")
    return first, last


def port(value: object) -> int:
    if not isinstance(value, int) or not LOWEST_PORT <= value <= HIGHEST_PORT:
        raise ValueError("must be a port from 1024 to 65535")
    return value


def advertised(text: object) -> str:
    """`PodIP`, `NodeIP`, or a host name in which `{pod}` stands for a proxy's own name."""
    if text in ("PodIP", "NodeIP") or _TEMPLATE.fullmatch(str(text)):
        return str(text)
    raise ValueError("must be PodIP, NodeIP, or a host name with {pod} in it, such as {pod}.sip.example.com")


def outside_host(text: object) -> str:
    """An IP address, or a host name in which `{pod}` and `{node}` stand for a proxy's own name and its node's."""
    name = str(text).replace("{pod}", "pod").replace("{node}", "node")
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(name))
    if _NAME.fullmatch(name):
        return str(text)
    raise ValueError(
        "must be an IP address or a host name, in which {pod} and {node} may stand, such as {node}.example.com"
    )


def collector(text: object) -> str:
    """`host:port`."""
    match = _COLLECTOR.fullmatch(str(text))
    if match is None or int(match[1]) > HIGHEST_PORT:
        raise ValueError("must be host:port, such as heplify.voice.svc:9060")
    return str(text)


def origin(text: object) -> str:
    """A web page's origin, as browsers send it."""
    if _ORIGIN.fullmatch(str(text)) is None:
        raise ValueError("must be the origin of a web page, such as https://phone.example.com")
    return str(text)


def network(text: object) -> str:
    """CIDR notation, as it was given."""
    try:
        ipaddress.ip_network(str(text))
    except ValueError as error:
        raise ValueError("must be a network in CIDR notation without host bits, such as 198.51.100.0/24") from error
    return str(text)


def number_prefix(text: object) -> str:
    """The beginning of a called number or user."""
    return _matching(_NUMBER_PREFIX, text, "letters, digits and the characters + * # . _ -, such as +49")


def domain(text: object) -> str:
    """The host of a Request-URI; empty: any."""
    return _matching(_DOMAIN, text, "a host name in lower case, such as voice.example.com, or an IPv4 address")


def user(text: object) -> str:
    """Of digest authentication; the user part of its address, which may have its domain."""
    return _matching(_USER, text, "letters, digits and the characters - _ . ! ~ * ' ( ) & = + $ /, or that and @domain")


def digits(text: object) -> str:
    """Part of a telephone number."""
    return _matching(_DIGITS, text, "digits, * and #, such as 0049")


def codec(text: object) -> str:
    """A codec's name, as SDP has it."""
    return _matching(_CODEC, text, "a codec's name in SDP, such as PCMA or telephone-event")


def resource_priority(text: object) -> str:
    """A namespace of RFC 4412, or one of its values; in lower case, as they are compared."""
    return _matching(_RESOURCE_PRIORITY, text, "a namespace of RFC 4412, or a value, such as esnet or wps.0").lower()


def user_agents(values: object) -> tuple[str, ...]:
    """A list of parts of a User-Agent; it may be empty."""
    if not isinstance(values, list | tuple):
        raise ValueError("must be a list")  # noqa: TRY004 (all of them raise the same error, for one message)
    return tuple(_matching(_USER_AGENT, one, "part of a User-Agent, such as friendly-scanner") for one in values)


def _matching(pattern: re.Pattern[str], text: object, allowed: str) -> str:
    if pattern.fullmatch(str(text)) is None:
        raise ValueError(f"must be {allowed}")
    return str(text)


def sip_uri(text: object) -> str:
    match = _SIP_URI.fullmatch(str(text))
    if match is None or int(match[1] or 0) > HIGHEST_PORT:
        raise ValueError(
            "must be a SIP URI sip:[user@]host[:port][;transport=udp|tcp|tls], such as sip:pbx.voice.svc:5060"
        )
    return str(text)
