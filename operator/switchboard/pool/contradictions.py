"""What is right field by field and yet cannot be: for each, a reason and a message that says what to do."""

from __future__ import annotations

import ipaddress
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from switchboard.pool import quantities as q
from switchboard.pool.spec import Autoscaling, Gateway, Listener, PoolSpec

VOICE_CALL_PORTS = 4  # two legs, RTP and RTCP
VOICE_CALL_BITS_PER_SECOND = 175_000  # G.711 with 20 ms packets, both directions
IDLE_CPU_CORES = 0.02  # what a proxy's processes take without a call


def contradictions(spec: PoolSpec) -> Iterator[tuple[str, str]]:
    """Reason and message of each."""
    yield from _no_room(spec)
    yield from _autoscaling(spec.autoscaling)
    yield from _repeated("spec.routes", "name", (route.name for route in spec.routes))
    yield from _repeated("spec.gateways", "name", (gateway.name for gateway in spec.gateways))
    ports = (f"{one.transport}/{port}" for one in spec.listen for port in one.ports)
    yield from _repeated("spec.listen", "listener", ports)
    yield from _listeners(spec.listen)
    yield from _shared_hosts(spec)
    yield from _families(spec)
    yield from _ports(spec)
    yield from _overlapping_gateways(spec.gateways)
    yield from _known(spec)
    yield from _targets_over_tls(spec)
    yield from _clients_inside_gateways(spec)
    yield from _modes(spec)
    yield from _destinations(spec)
    if spec.authentication is not None and spec.authentication.delegated and spec.registrar.enabled:
        message = (
            "spec.clients.auth.delegated is true and spec.registrar.enabled, too: then there is no registrar upstream "
            "that could ask for passwords; disable the pool's own, or name a Secret in auth"
        )
        yield "NoUpstreamRegistrar", message
    if not spec.media.enabled:
        for gateway in spec.gateways:
            if gateway.codecs:
                message = (
                    f"spec.gateways {gateway.name!r} has codecs and spec.media.enabled is false: media that is not "
                    f"relayed cannot be restricted; take the codecs out, or enable media"
                )
                yield "CodecsWithoutMedia", message


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


def _autoscaling(rule: Autoscaling | None) -> Iterator[tuple[str, str]]:
    if rule is None:
        return
    if rule.min > rule.max:
        message = f"spec.autoscaling.min is {rule.min}, above max, {rule.max}: lower it, or raise max"
        yield "InvalidField", message
    if rule.headroom >= 1:
        yield "InvalidField", "spec.autoscaling.headroom is 100%: no number of proxies is enough; choose at most 90%"


def _listeners(listen: Sequence[Listener]) -> Iterator[tuple[str, str]]:
    for at, one in enumerate(listen):
        where = f"spec.listen[{at}]"
        if one.encrypted and not one.secret_name:
            yield (
                "MissingField",
                f"{where}.secretName is missing: name the Secret with the certificate for {one.transport}",
            )
        if not one.encrypted and (one.secret_name or one.client_certificates != "none"):
            message = f"{where} has a certificate, and its transport is {one.transport}: only TLS and WSS have one"
            yield "InvalidField", message
    if not any(one.transport in ("UDP", "TCP") and not one.advertise for one in listen):
        message = (
            "spec.listen has neither UDP nor TCP without advertise, over which proxies pass calls to each other: add "
            "one of them"
        )
        yield "MissingField", message
    for port, count in Counter(one.port for one in listen if one.protocol == "TCP").items():
        if count > 1:
            yield "PortConflict", f"spec.listen has {count} transports on TCP port {port}: give each a port of its own"


def _shared_hosts(spec: PoolSpec) -> Iterator[tuple[str, str]]:
    """SIP that comes in at any proxy finds its call; media goes to one proxy alone."""
    proxies = spec.autoscaling.max if spec.autoscaling else spec.replicas
    for at, one in enumerate(spec.listen):
        if one.advertise and "{" not in one.advertise and spec.media.enabled and proxies > 1:
            message = (
                f"spec.listen[{at}].advertise is {one.advertise} for {proxies} proxies, each of which needs an "
                f"address of its own for media: put {{pod}} or {{node}} into it"
            )
            yield "SharedAddress", message


def _families(spec: PoolSpec) -> Iterator[tuple[str, str]]:
    expose = spec.expose
    if len(set(expose.families)) != len(expose.families):
        yield "Duplicate", "spec.expose.ipFamilies has a family twice: keep one of them"
    if (len(expose.families) == 1) != (expose.family_policy == "SingleStack"):
        families = ", ".join(expose.families)
        message = (
            f"spec.expose.ipFamilyPolicy is {expose.family_policy} and ipFamilies is {families}: SingleStack goes with "
            f"one family, PreferDualStack and RequireDualStack with two"
        )
        yield "InvalidField", message
    if "redirect" in _every_mode(spec) and len(expose.families) > 1 and not expose.host_name("pod"):
        message = (
            "spec.expose.ipFamilies has two families and clients are redirected: one address cannot serve clients of "
            "both; set spec.expose.advertise to a host name, or the mode to forward"
        )
        yield "RedirectAcrossFamilies", message


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
    for port, what in _udp_ports(spec.listen):
        if media.port_min <= port <= media.port_max:
            yield "PortConflict", f"spec.listen has {what}, inside spec.media.ports {text}: choose one outside"


def _udp_ports(listen: Iterable[Listener]) -> Iterator[tuple[int, str]]:
    for listener in listen:
        if listener.transport == "UDP":
            yield listener.port, f"UDP port {listener.port}"
            yield listener.entry_port, f"UDP port {listener.port}, whose {listener.entry_port} for the Service is"


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


def _known(spec: PoolSpec) -> Iterator[tuple[str, str]]:
    """How gateways are known: by something at all, and by certificates or passwords only where these are asked for."""
    asked = any(one.transport == "TLS" and one.client_certificates != "none" for one in spec.listen)
    auth = spec.authentication
    if auth is not None and auth.certificates and not any(one.client_certificates != "none" for one in spec.listen):
        yield (
            "NoClientCertificates",
            "spec.clients.auth.certificates is true, and no listener asks for certificates: set its clientCertificates",
        )
    names = Counter(f"certificate name {name!r}" for gateway in spec.gateways for name in gateway.certificate_names)
    names.update(f"username {gateway.username!r}" for gateway in spec.gateways if gateway.username)
    for gateway in spec.gateways:
        where = f"spec.gateways {gateway.name!r}"
        if not (gateway.networks or gateway.certificate_names or gateway.username):
            message = f"{where} has no networks, certificateNames or username, by which it is known: add one of them"
            yield "MissingField", message
        if gateway.username and (spec.authentication is None or spec.authentication.delegated):
            message = (
                f"{where} has a username, and spec.clients.auth has no Secret with its password: add secretName, or "
                f"networks to the gateway"
            )
            yield "NoPasswords", message
        if gateway.certificate_names and not asked:
            message = (
                f"{where} has certificateNames, and no TLS listener asks for certificates: set its clientCertificates"
            )
            yield "NoClientCertificates", message
    for name, count in names.items():
        if count > 1:
            yield "OverlappingGateways", f"spec.gateways has the {name} {count} times: keep one"


def _targets_over_tls(spec: PoolSpec) -> Iterator[tuple[str, str]]:
    every = [*(one.targets for one in spec.routes), *(one.targets for one in spec.gateways)]
    over_tls = [uri for targets in every for uri in targets if uri.endswith(";transport=tls")]
    if over_tls and not spec.target_tls_secret:
        yield (
            "MissingField",
            f"spec.targetTLS.secretName is missing: {over_tls[0]} is called over TLS; name a Secret with its CA",
        )
    if spec.target_tls_secret and not any(one.transport == "TLS" for one in spec.listen):
        yield "MissingField", "spec.targetTLS needs a listener with transport TLS in spec.listen: add one"


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


def _every_mode(spec: PoolSpec) -> set[str | None]:
    return {spec.assignment.mode, *(one.mode for one in spec.client_modes), *(one.mode for one in spec.gateways)}


def _modes(spec: PoolSpec) -> Iterator[tuple[str, str]]:
    """A rule without a condition would hide the rules after it; one for no client does nothing."""
    clients = [_network(network) for network in spec.client_networks]
    for at, rule in enumerate(spec.client_modes):
        where = f"spec.clients.modes[{at}]"
        if not rule.networks and not rule.user_agents:
            message = (
                f"{where} has neither networks nor userAgents: add one of them, or set spec.assignment.mode, which is "
                f"for all other clients"
            )
            yield "MissingField", message
        for network in rule.networks:
            if not any(_network(network).overlaps(one) for one in clients):
                message = (
                    f"{where}.networks has {network}, in which spec.clients.networks has no clients: add it there, or "
                    f"take it out here"
                )
                yield "NotClients", message


def _destinations(spec: PoolSpec) -> Iterator[tuple[str, str]]:
    """Each route leads to targets, or to a gateway that has some."""
    gateways = {gateway.name: gateway for gateway in spec.gateways}
    for route in spec.routes:
        where = f"spec.routes {route.name!r}"
        if bool(route.targets) == bool(route.gateway):
            yield "NoDestination", f"{where} must have either targets or a gateway: add one, or take one out"
        elif route.gateway and route.gateway not in gateways:
            yield "UnknownGateway", f"{where} leads to gateway {route.gateway!r}, which spec.gateways has not: add it"
        elif route.gateway and not gateways[route.gateway].targets:
            yield "NoDestination", f"{where} leads to gateway {route.gateway!r}, which has no targets: add its SIP URIs"


def _network(text: str) -> q.Network:
    return ipaddress.ip_network(text)
