"""From what a pool asks for to what its agents apply at run time."""

from __future__ import annotations

from collections.abc import Iterable

from switchboard.link.messages import Settings
from switchboard.pool.spec import PoolSpec
from switchboard.resources import names
from switchboard.resources.names import PoolRef


def settings(pool: PoolRef, spec: PoolSpec, addresses: Iterable[str] = ()) -> Settings:
    """`addresses`: the Service's cluster addresses, once the API server has given it some."""
    return Settings(
        threshold=spec.threshold,
        capacity=spec.capacity,
        sharing=spec.sharing,
        assignment=spec.assignment,
        media=spec.media,
        client_networks=spec.client_networks,
        client_modes=spec.client_modes,
        client_origins=spec.client_origins,
        authentication=spec.authentication,
        registrar=spec.registrar,
        gateways=spec.gateways,
        routes=spec.routes,
        health_checks=spec.health_checks,
        urgent=spec.urgent,
        protection=spec.protection,
        aliases=(*names.aliases(pool), *addresses),
    )
