"""A VoipProxyPool object becomes a spec, once, at the edge.

The CRD's schema has already refused what a schema can see; the rest (overlapping networks, a threshold that leaves
room for no call) becomes a `SpecError` whose reason and message become the Stalled condition.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from switchboard.errors import SpecError
from switchboard.pool import quantities as q
from switchboard.pool.contradictions import contradictions
from switchboard.pool.fields import Fields, mapping
from switchboard.pool.spec import (
    DEFAULT_LISTEN,
    SCANNERS,
    Assignment,
    Authentication,
    Autoscaling,
    Capacity,
    ClientCertificates,
    ClientMode,
    DigestAlgorithm,
    Expose,
    Family,
    FamilyPolicy,
    Gateway,
    GatewayKind,
    HealthChecks,
    Listener,
    Media,
    Mode,
    Plus,
    Policy,
    PoolSpec,
    Protection,
    ProxyTemplate,
    Registrar,
    Rewriting,
    Rights,
    Route,
    ServiceType,
    Sharing,
    Transport,
    Urgent,
)


def parse(resource: Mapping[str, Any]) -> PoolSpec:
    """The spec of a VoipProxyPool object; SpecError tells everything that is wrong with it at once."""
    found = Fields(resource.get("spec"), "spec", [])
    spec = _spec(found)
    problems = found.problems or list(contradictions(spec))
    if problems:
        raise SpecError(problems[0][0], "; ".join(message for _, message in problems))
    return spec


def _spec(spec: Fields) -> PoolSpec:
    autoscaling, clients, proxy = spec.inside("autoscaling"), spec.inside("clients"), spec.inside("proxy")
    return PoolSpec(
        replicas=spec.read("replicas", q.whole, 2),
        threshold=spec.read("threshold", q.share, 0.8),
        capacity=_capacity(spec.inside("capacity")),
        client_networks=clients.each("networks", q.network, "", required=True),
        client_origins=clients.each("origins", q.origin, ""),
        client_modes=tuple(_client_mode(one) for one in clients.objects("modes")),
        authentication=_authentication(clients.inside("auth")),
        proxy=ProxyTemplate(
            image=proxy.read("image", q.text, "", required=True),
            resources=proxy.read("resources", mapping, {}),
            pod_template=proxy.read("podTemplate", mapping, {}),
        ),
        listen=tuple(_listener(one) for one in spec.objects("listen")) or DEFAULT_LISTEN,
        autoscaling=_autoscaling(autoscaling) if autoscaling.given else None,
        expose=_expose(spec.inside("expose")),
        sharing=_sharing(spec.inside("sharing")),
        assignment=_assignment(spec.inside("assignment")),
        media=_media(spec.inside("media")),
        registrar=_registrar(spec.inside("registrar")),
        routes=tuple(_route(one) for one in spec.objects("routes")),
        gateways=tuple(_gateway(one) for one in spec.objects("gateways")),
        health_checks=_health_checks(spec.inside("healthChecks")),
        urgent=_urgent(spec.inside("urgent")),
        protection=_protection(spec.inside("protection")),
        target_tls_secret=spec.inside("targetTLS").read("secretName", q.text, ""),
        hep_collector=spec.inside("hep").read("collector", q.collector, ""),
        drain_timeout_seconds=spec.inside("drain").read("timeout", q.whole_seconds, 3600),
        suspend=spec.read("suspend", q.flag, fallback=False),
    )


def _client_mode(rule: Fields) -> ClientMode:
    return ClientMode(
        mode=rule.one_of("mode", Mode, "forward", required=True),
        networks=rule.each("networks", q.network, ""),
        user_agents=rule.read("userAgents", q.user_agents, ()),
    )


def _authentication(auth: Fields) -> Authentication | None:
    if not auth.given:
        return None
    delegated = auth.read("delegated", q.flag, fallback=False)
    secret_name = auth.read("secretName", q.text, "", required=not delegated)
    if delegated and secret_name:
        message = (
            "spec.clients.auth has a secretName and is delegated: either the pool has the passwords, or a registrar"
        )
        auth.problems.append(("InvalidField", message))
    return Authentication(
        secret_name=secret_name,
        realm=auth.read("realm", q.domain, "", required=not delegated),
        algorithms=auth.choices("algorithms", DigestAlgorithm) or Authentication().algorithms,
        certificates=auth.read("certificates", q.flag, fallback=False),
    )


def _capacity(capacity: Fields) -> Capacity:
    bandwidth = capacity.read("bandwidth", q.quantity, None)
    return Capacity(
        calls=capacity.read("calls", q.positive, 1, required=True),
        cpu_cores=capacity.read("cpu", q.quantity, None),
        bandwidth_bits_per_second=None if bandwidth is None else math.ceil(bandwidth),
    )


def _autoscaling(autoscaling: Fields) -> Autoscaling:
    return Autoscaling(
        min=autoscaling.read("min", q.positive, 1, required=True),
        max=autoscaling.read("max", q.positive, 1, required=True),
        headroom=autoscaling.read("headroom", q.share, 0.25),
        scale_down_after_seconds=autoscaling.read("scaleDownAfter", q.whole_seconds, 300),
    )


def _expose(expose: Fields) -> Expose:
    return Expose(
        type=expose.one_of("type", ServiceType, "ClusterIP"),
        annotations=expose.read("annotations", mapping, {}),
        advertise=expose.read("advertise", q.advertised, "PodIP"),
        families=expose.choices("ipFamilies", Family) or ("IPv4",),
        family_policy=expose.one_of("ipFamilyPolicy", FamilyPolicy, "SingleStack"),
    )


def _listener(listener: Fields) -> Listener:
    return Listener(
        transport=listener.one_of("transport", Transport, "UDP", required=True),
        port=listener.read("port", q.port, 5060, required=True),
        secret_name=listener.read("secretName", q.text, ""),
        client_certificates=listener.one_of("clientCertificates", ClientCertificates, "none"),
        advertise=listener.read("advertise", q.outside_host, ""),
    )


def _sharing(sharing: Fields) -> Sharing:
    return Sharing(
        period_seconds=sharing.read("period", q.some_seconds, 0.5),
        change=sharing.read("change", q.share, 0.02),
        stale_after_seconds=sharing.read("staleAfter", q.some_seconds, 3.0),
    )


def _assignment(assignment: Fields) -> Assignment:
    saturated = assignment.inside("saturated")
    return Assignment(
        policy=assignment.one_of("policy", Policy, "first"),
        mode=assignment.one_of("mode", Mode, "forward"),
        max_hops=assignment.read("maxHops", q.positive, 5),
        saturated_status=saturated.read("status", q.sip_failure, 503),
        saturated_retry_after_seconds=saturated.read("retryAfter", q.whole_seconds, 2),
    )


def _media(media: Fields) -> Media:
    first, last = media.read("ports", q.ports, (20000, 24999))
    return Media(
        enabled=media.read("enabled", q.flag, fallback=True),
        port_min=first,
        port_max=last,
        timeout_seconds=media.read("timeout", q.whole_seconds, 60),
    )


def _registrar(registrar: Fields) -> Registrar:
    return Registrar(
        enabled=registrar.read("enabled", q.flag, fallback=False),
        max_expires_seconds=registrar.read("maxExpires", q.whole_seconds, 3600),
        database_secret=registrar.inside("database").read("secretName", q.text, ""),
    )


def _route(route: Fields) -> Route:
    return Route(
        name=route.read("name", q.text, "", required=True),
        prefix=route.read("prefix", str, ""),
        domain=route.read("domain", q.domain, ""),
        priority=route.read("priority", q.whole, 1),
        weight=route.read("weight", q.whole, 1),
        targets=route.each("targets", q.sip_uri, ""),
        gateway=route.read("gateway", q.text, ""),
    )


def _health_checks(checks: Fields) -> HealthChecks:
    return HealthChecks(
        period_seconds=checks.read("period", q.whole_seconds, 10),
        threshold=checks.read("threshold", q.positive, 2),
    )


def _urgent(urgent: Fields) -> Urgent:
    return Urgent(
        numbers=urgent.each("numbers", q.number_prefix, ""),
        priorities=urgent.each("priorities", q.resource_priority, ""),
    )


def _protection(protection: Fields) -> Protection:
    return Protection(
        requests_per_second=protection.read("requestsPerSecond", q.positive, None),
        user_agents=protection.read("userAgents", q.user_agents, SCANNERS),
    )


def _gateway(gateway: Fields) -> Gateway:
    numbers = gateway.inside("numbers")
    return Gateway(
        name=gateway.read("name", q.text, "", required=True),
        kind=gateway.one_of("kind", GatewayKind, "voip", required=True),
        networks=gateway.each("networks", q.network, ""),
        certificate_names=gateway.each("certificateNames", q.domain, ""),
        username=gateway.read("username", q.user, ""),
        credentials_secret=gateway.inside("credentials").read("secretName", q.text, ""),
        mode=gateway.one_of("mode", Mode, None),
        targets=gateway.each("targets", q.sip_uri, ""),
        rights=_rights(gateway.inside("rights")),
        incoming=_rewriting(numbers.inside("incoming")),
        outgoing=_rewriting(numbers.inside("outgoing")),
        codecs=gateway.each("codecs", q.codec, ""),
        hide_topology=gateway.read("hideTopology", q.flag, fallback=False),
    )


def _rights(rights: Fields) -> Rights:
    return Rights(
        prefixes=rights.each("prefixes", q.number_prefix, ""),
        register=rights.read("register", q.flag, fallback=True),
        priority=rights.read("priority", q.flag, fallback=False),
        video=rights.read("video", q.flag, fallback=True),
        max_calls=rights.read("maxCalls", q.positive, None),
        max_calls_per_second=rights.read("maxCallsPerSecond", q.positive, None),
    )


def _rewriting(rewriting: Fields) -> Rewriting | None:
    if not rewriting.given:
        return None
    return Rewriting(
        plus=rewriting.one_of("plus", Plus, "keep"),
        strip=rewriting.read("strip", q.whole, 0),
        prefix=rewriting.read("prefix", q.digits, ""),
    )
