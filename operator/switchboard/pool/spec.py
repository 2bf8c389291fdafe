"""What a VoipProxyPool asks for, parsed once at the edge into frozen types.

The CRD's schema has already refused what a schema can see; `parse` turns the rest (overlapping networks, a threshold
that leaves room for no call) into a `SpecError` whose reason and message become the Stalled condition.
"""

from __future__ import annotations

import ipaddress
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, TypeVar, get_args

import msgspec

from switchboard.errors import SpecError
from switchboard.pool import quantities as q

Policy = Literal["first", "least", "weighted"]
Mode = Literal["forward", "redirect"]
GatewayKind = Literal["voip", "pstn", "media", "router", "h323"]
Transport = Literal["UDP", "TCP"]


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """What 100 % workload means for one proxy; workload is the highest of the shares."""

    calls: int
    cpu_cores: float | None = None
    bandwidth_bits_per_second: int | None = None


class Sharing(msgspec.Struct, frozen=True, kw_only=True):
    """How workload data goes round: periodically, and at once when a share moved by `change`."""

    period_seconds: float = 0.5
    change: float = 0.02  # share of capacity, 0..1
    stale_after_seconds: float = 3.0


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """How the primary assigns, and what a client is told when every proxy is at the threshold."""

    policy: Policy = "first"
    mode: Mode = "forward"
    max_hops: int = 5
    saturated_status: int = 503
    saturated_retry_after_seconds: int = 2


class Listener(msgspec.Struct, frozen=True, kw_only=True):
    transport: Transport
    port: int


class Media(msgspec.Struct, frozen=True, kw_only=True):
    enabled: bool = True
    port_min: int = 20000
    port_max: int = 24999
    timeout_seconds: int = 60


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Where calls whose user part starts with `prefix` go; targets are SIP URIs, tried in order."""

    name: str
    prefix: str
    targets: tuple[str, ...]


class Gateway(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway that may enter the network from `networks` (CIDR); `mode` overrides the pool's."""

    name: str
    kind: GatewayKind
    networks: tuple[str, ...]
    mode: Mode | None = None


class ProxyTemplate(msgspec.Struct, frozen=True, kw_only=True):
    """`resources` and `pod_template` are Kubernetes objects as given; the template is merged last."""

    image: str
    resources: dict[str, Any] = {}
    pod_template: dict[str, Any] = {}


DEFAULT_LISTEN = (Listener(transport="UDP", port=5060), Listener(transport="TCP", port=5060))


class PoolSpec(msgspec.Struct, frozen=True, kw_only=True):
    replicas: int
    threshold: float  # share of capacity, 0..1 (80% is 0.8)
    capacity: Capacity
    client_networks: tuple[str, ...]
    proxy: ProxyTemplate
    listen: tuple[Listener, ...]
    sharing: Sharing = Sharing()
    assignment: Assignment = Assignment()
    media: Media = Media()
    routes: tuple[Route, ...] = ()
    gateways: tuple[Gateway, ...] = ()
    drain_timeout_seconds: int = 3600
    suspend: bool = False


T = TypeVar("T")

VOICE_CALL_PORTS = 4  # two legs, RTP and RTCP
VOICE_CALL_BITS_PER_SECOND = 175_000  # G.711 with 20 ms packets, both directions
IDLE_CPU_CORES = 0.02  # what a proxy's processes take without a call


def parse(resource: Mapping[str, Any]) -> PoolSpec:
    """The spec of a VoipProxyPool object; SpecError tells everything that is wrong with it at once."""
    found = _Fields(resource.get("spec"), "spec", [])
    spec = _spec(found)
    problems = found.problems or list(_contradictions(spec))
    if problems:
        raise SpecError(problems[0][0], "; ".join(message for _, message in problems))
    return spec


class _Fields:
    """The fields of one object of the resource. What is wrong is noted, and reading goes on with the fallback."""

    def __init__(self, values: object, path: str, problems: list[tuple[str, str]]) -> None:
        self.problems = problems
        self._path = path
        self._values: Mapping[str, Any] = values if isinstance(values, Mapping) else {}

    def read(self, name: str, parse: Callable[[Any], T], fallback: T, *, required: bool = False) -> T:
        """One field; `fallback` is its default when it is left out."""
        value = self._values.get(name)
        if value is None:
            if required:
                self.problems.append(("MissingField", f"{self._path}.{name} is missing: add it"))
            return fallback
        return self._parse(f"{self._path}.{name}", parse, value, fallback)

    def each(self, name: str, parse: Callable[[Any], T], fallback: T, *, required: bool = False) -> tuple[T, ...]:
        """A list of plain values."""
        values = self._list(name, required=required)
        return tuple(self._parse(f"{self._path}.{name}[{at}]", parse, value, fallback) for at, value in values)

    def one_of(self, name: str, allowed: object, fallback: T, *, required: bool = False) -> T:
        """A field with a few allowed values: those of the Literal `allowed`."""
        return self.read(name, _choice(get_args(allowed)), fallback, required=required)

    def inside(self, name: str) -> _Fields:
        return _Fields(self._values.get(name), f"{self._path}.{name}", self.problems)

    def objects(self, name: str) -> list[_Fields]:
        return [_Fields(value, f"{self._path}.{name}[{at}]", self.problems) for at, value in self._list(name)]

    def _list(self, name: str, *, required: bool = False) -> list[tuple[int, Any]]:
        values: list[Any] = self.read(name, _items, [], required=required)
        if required and values == [] and name in self._values:
            self.problems.append(("MissingField", f"{self._path}.{name} is empty: add at least one"))
        return list(enumerate(values))

    def _parse(self, path: str, parse: Callable[[Any], T], value: object, fallback: T) -> T:
        try:
            return parse(value)
        except ValueError as error:
            self.problems.append(("InvalidField", f"{path} is {value!r}: {error}"))
            return fallback


def _choice(allowed: tuple[Any, ...]) -> Callable[[Any], Any]:
    def parse(value: object) -> object:
        if value not in allowed:
            raise ValueError(f"must be one of {', '.join(str(one) for one in allowed)}")
        return value

    return parse


def _items(value: object) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise ValueError("must be a list")  # noqa: TRY004 (all of them raise the same error, for one message)
    return list(value)


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError("must be an object")  # noqa: TRY004 (all of them raise the same error, for one message)
    return dict(value)


def _spec(spec: _Fields) -> PoolSpec:
    proxy = spec.inside("proxy")
    return PoolSpec(
        replicas=spec.read("replicas", q.whole, 2),
        threshold=spec.read("threshold", q.share, 0.8),
        capacity=_capacity(spec.inside("capacity")),
        client_networks=spec.inside("clients").each("networks", q.network, "", required=True),
        proxy=ProxyTemplate(
            image=proxy.read("image", q.text, "", required=True),
            resources=proxy.read("resources", _object, {}),
            pod_template=proxy.read("podTemplate", _object, {}),
        ),
        listen=tuple(_listener(one) for one in spec.objects("listen")) or DEFAULT_LISTEN,
        sharing=_sharing(spec.inside("sharing")),
        assignment=_assignment(spec.inside("assignment")),
        media=_media(spec.inside("media")),
        routes=tuple(_route(one) for one in spec.objects("routes")),
        gateways=tuple(_gateway(one) for one in spec.objects("gateways")),
        drain_timeout_seconds=spec.inside("drain").read("timeout", q.whole_seconds, 3600),
        suspend=spec.read("suspend", q.flag, fallback=False),
    )


def _capacity(capacity: _Fields) -> Capacity:
    bandwidth = capacity.read("bandwidth", q.quantity, None)
    return Capacity(
        calls=capacity.read("calls", q.positive, 1, required=True),
        cpu_cores=capacity.read("cpu", q.quantity, None),
        bandwidth_bits_per_second=None if bandwidth is None else math.ceil(bandwidth),
    )


def _listener(listener: _Fields) -> Listener:
    return Listener(
        transport=listener.one_of("transport", Transport, "UDP", required=True),
        port=listener.read("port", q.port, 5060, required=True),
    )


def _sharing(sharing: _Fields) -> Sharing:
    return Sharing(
        period_seconds=sharing.read("period", q.some_seconds, 0.5),
        change=sharing.read("change", q.share, 0.02),
        stale_after_seconds=sharing.read("staleAfter", q.some_seconds, 3.0),
    )


def _assignment(assignment: _Fields) -> Assignment:
    saturated = assignment.inside("saturated")
    return Assignment(
        policy=assignment.one_of("policy", Policy, "first"),
        mode=assignment.one_of("mode", Mode, "forward"),
        max_hops=assignment.read("maxHops", q.positive, 5),
        saturated_status=saturated.read("status", q.sip_failure, 503),
        saturated_retry_after_seconds=saturated.read("retryAfter", q.whole_seconds, 2),
    )


def _media(media: _Fields) -> Media:
    first, last = media.read("ports", q.ports, (20000, 24999))
    return Media(
        enabled=media.read("enabled", q.flag, fallback=True),
        port_min=first,
        port_max=last,
        timeout_seconds=media.read("timeout", q.whole_seconds, 60),
    )


def _route(route: _Fields) -> Route:
    return Route(
        name=route.read("name", q.text, "", required=True),
        prefix=route.read("prefix", str, ""),
        targets=route.each("targets", q.sip_uri, "", required=True),
    )


def _gateway(gateway: _Fields) -> Gateway:
    return Gateway(
        name=gateway.read("name", q.text, "", required=True),
        kind=gateway.one_of("kind", GatewayKind, "voip", required=True),
        networks=gateway.each("networks", q.network, "", required=True),
        mode=gateway.one_of("mode", Mode, None),
    )


def _contradictions(spec: PoolSpec) -> Iterator[tuple[str, str]]:
    """What is right field by field and yet cannot be: reason and message."""
    yield from _no_room(spec)
    yield from _repeated("spec.routes", "name", (route.name for route in spec.routes))
    yield from _repeated("spec.gateways", "name", (gateway.name for gateway in spec.gateways))
    yield from _repeated("spec.listen", "listener", (f"{one.transport}/{one.port}" for one in spec.listen))
    yield from _ports(spec)
    yield from _overlapping_gateways(spec.gateways)
    yield from _clients_inside_gateways(spec)


def _no_room(spec: PoolSpec) -> Iterator[tuple[str, str]]:
    """Each resource, with what the first call needs of it at least: with less, that call alone is over."""
    capacity, threshold = spec.capacity, spec.threshold
    needs: tuple[tuple[str, float | None, float, str], ...] = (
        ("calls", capacity.calls, 1, "one call"),
        ("cpu", capacity.cpu_cores, IDLE_CPU_CORES, f"the {IDLE_CPU_CORES} cores of an idle proxy"),
        (
            "bandwidth",
            capacity.bandwidth_bits_per_second,
            VOICE_CALL_BITS_PER_SECOND,
            f"the {VOICE_CALL_BITS_PER_SECOND} bit/s of one voice call",
        ),
    )
    for name, available, needed, what in needs:
        if available is not None and round(available * threshold, 6) < needed:
            message = (
                f"spec.threshold is {threshold:.0%} and spec.capacity.{name} is {available:g}: that is less than "
                f"{what}; raise one of them"
            )
            yield "NoRoomForCalls", message


def _ports(spec: PoolSpec) -> Iterator[tuple[str, str]]:
    media = spec.media
    if not media.enabled:
        return
    text = f"{media.port_min}-{media.port_max}"
    needed = VOICE_CALL_PORTS * math.ceil(round(spec.threshold * spec.capacity.calls, 6))
    if media.port_max - media.port_min + 1 < needed:
        message = (
            f"spec.media.ports is {text}: the calls below the threshold need {needed} ports ({VOICE_CALL_PORTS} for a "
            f"voice call); widen it, or lower spec.capacity.calls"
        )
        yield "TooFewMediaPorts", message
    for listener in spec.listen:
        if listener.transport == "UDP" and media.port_min <= listener.port <= media.port_max:
            message = f"spec.listen has UDP port {listener.port}, inside spec.media.ports {text}: choose one outside"
            yield "PortConflict", message


def _repeated(path: str, what: str, values: Iterable[str]) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            yield "Duplicate", f"{path} has the {what} {value!r} twice: keep one of them"
        seen.add(value)


def _overlapping_gateways(gateways: Iterable[Gateway]) -> Iterator[tuple[str, str]]:
    """Two gateways' networks: whose rights would a call from the common part have?"""
    for one, other in itertools.combinations(gateways, 2):
        for mine, theirs in itertools.product(one.networks, other.networks):
            if _network(mine).overlaps(_network(theirs)):
                message = (
                    f"spec.gateways {one.name!r} ({mine}) and {other.name!r} ({theirs}) overlap: give each address to "
                    f"one gateway"
                )
                yield "OverlappingGateways", message


def _clients_inside_gateways(spec: PoolSpec) -> Iterator[tuple[str, str]]:
    """A gateway inside a client network is the more specific one and has its own rights; the other way round is not."""
    for gateway, clients in itertools.product(spec.gateways, spec.client_networks):
        for network in gateway.networks:
            inner, outer = _network(clients), _network(network)
            if inner.overlaps(outer) and inner.prefixlen >= outer.prefixlen:
                message = (
                    f"spec.clients.networks has {clients}, inside {network} of gateway {gateway.name!r}: these clients "
                    f"would have the gateway's rights; take it out, or narrow the gateway's networks"
                )
                yield "ClientsInsideGateway", message


def _network(text: str) -> q.Network:
    return ipaddress.ip_network(text)
