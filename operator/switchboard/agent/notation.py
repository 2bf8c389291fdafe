"""Gateways, routes and clients' modes in Kamailio's words: htables of docs/contracts.md. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from switchboard.agent.kamailio import Key, Value
from switchboard.pool.spec import ClientMode, Gateway, Rewriting, Route


def gateway_entries(gateways: Iterable[Gateway]) -> Iterator[tuple[Key, Value]]:
    """`kind|mode|name=value ...`; what is not restricted is left out."""
    for gateway in gateways:
        # What hides the pool tells of no other proxy, as a 302 would.
        mode = "forward" if gateway.hide_topology else gateway.mode or ""
        limits = " ".join(f"{name}={value}" for name, value in _limits(gateway).items() if value)
        yield ("gw", gateway.name), f"{gateway.kind}|{mode}|{limits}"
        for name in gateway.certificate_names:
            yield ("cert", name), gateway.name
        if gateway.username:
            yield ("trunk", gateway.username), gateway.name


def route_entries(routes: Sequence[Route], gateways: Iterable[Gateway]) -> Iterator[tuple[Key, Value]]:
    """`domain|prefix|priority|weight|gateway|target target ...`, numbered from 1; their number last."""
    by_name = _targets_of(gateways)
    for number, route in enumerate(routes, 1):
        to = " ".join(route.targets or by_name.get(route.gateway, ()))
        text = f"{route.domain}|{route.prefix}|{route.priority}|{route.weight}|{route.gateway}|{to}"
        yield ("route", str(number)), text
    yield ("route", "n"), len(routes)


def mode_entries(rules: Sequence[ClientMode]) -> Iterator[tuple[Key, Value]]:
    """`mode;network,...;part of a User-Agent|...`, numbered from 1; their number last."""
    for number, rule in enumerate(rules, 1):
        agents = "|".join(rule.user_agents).lower()
        yield ("mode", str(number)), f"{rule.mode};{','.join(rule.networks)};{agents}"
    yield ("ctl", "modes"), len(rules)


def targets(routes: Iterable[Route], gateways: Iterable[Gateway]) -> list[str]:
    """Every target that a route leads to, once."""
    by_name = _targets_of(gateways)
    return list(dict.fromkeys(to for route in routes for to in route.targets or by_name.get(route.gateway, ())))


def _targets_of(gateways: Iterable[Gateway]) -> dict[str, tuple[str, ...]]:
    return {gateway.name: gateway.targets for gateway in gateways}


def _limits(gateway: Gateway) -> dict[str, str]:
    rights = gateway.rights
    return {
        "known": _known(gateway),
        "prefixes": ",".join(rights.prefixes),
        "register": "" if rights.register else "0",
        "priority": "1" if rights.priority else "",
        "video": "" if rights.video else "0",
        "calls": str(rights.max_calls or ""),
        "rate": str(rights.max_calls_per_second or ""),
        "incoming": _rewriting(gateway.incoming),
        "outgoing": _rewriting(gateway.outgoing),
        "codecs": ",".join(gateway.codecs),
        "hide": "1" if gateway.hide_topology else "",
    }


def _known(gateway: Gateway) -> str:
    """By what; networks alone need no word."""
    ways = {"network": gateway.networks, "certificate": gateway.certificate_names, "user": gateway.username}
    by = "+".join(way for way, given in ways.items() if given)
    return "" if by == "network" else by


def _rewriting(rule: Rewriting | None) -> str:
    return "" if rule is None else f"{rule.plus}:{rule.strip}:{rule.prefix}"
