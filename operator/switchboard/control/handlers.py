"""What kopf watches for us. Each handler delegates in one call; kopf decides nothing and writes nothing.

Only `event` handlers and indices are used: change and deletion handlers would put annotations and a finalizer on the
objects, and with a finalizer an uninstalled operator would block `kubectl delete vpp` for ever. Indices also give the
one guarantee that matters at the start: no handler is called before every object that exists has been seen. All are
coroutines, because kopf runs plain functions in threads.
"""

from __future__ import annotations

from typing import Any, Protocol

import kopf

from switchboard.control import kube
from switchboard.control.observed import Observed, PodView, pool_key
from switchboard.resources import names

POOLS = (names.GROUP, names.VERSION, names.PLURAL)
PODS = ("", "v1", "pods")
OWNED = (  # watched so that drift is repaired
    ("", "v1", "services"),
    ("", "v1", "configmaps"),
    ("", "v1", "secrets"),
    ("", "v1", "serviceaccounts"),
    ("discovery.k8s.io", "v1", "endpointslices"),
    ("networking.k8s.io", "v1", "networkpolicies"),
    ("policy", "v1", "poddisruptionbudgets"),
)

WATCH_SERVER_SECONDS = 300  # the API server ends a watch after this; a restart of the watch costs one request
WATCH_CLIENT_SECONDS = 330.0  # and if it does not, we do: a dead watch is silent
CONNECT_SECONDS = 10.0
WORKER_IDLE_SECONDS = 0.5  # kopf keeps a task and the last object of each pod for so long; its default is 5


class Driver(Protocol):
    """What the handlers call."""

    def start(self, observed: Observed) -> None: ...

    def wake(self, key: tuple[str, str]) -> None: ...


def build_registry(driver: Driver, *, namespaced: bool = False) -> kopf.OperatorRegistry:
    """`namespaced`: the operator has rights in the namespaces it watches, and none in the cluster."""
    registry = kopf.OperatorRegistry()
    labelled = {names.POOL_LABEL: kopf.PRESENT}

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        return await kube.login()

    @kopf.on.startup(registry=registry)
    async def startup(*, settings: kopf.OperatorSettings, **indices: Any) -> None:
        configure(settings, namespaced=namespaced)
        driver.start(Observed(indices["pools"], indices["pods"], indices["owned"]))

    @kopf.index(*POOLS, id="pools", registry=registry)
    async def pools(*, body: kopf.Body, name: str, namespace: str | None, **_: Any) -> Any:
        return {(namespace, name): dict(body)}

    @kopf.index(*PODS, id="pods", labels=labelled, registry=registry)
    async def pods(*, body: kopf.Body, **_: Any) -> Any:
        return {pool_key(body): PodView.of(body)}

    @kopf.on.event(*POOLS, registry=registry)
    async def pool_event(*, name: str, namespace: str | None, **_: Any) -> None:
        driver.wake((namespace or "", name))

    async def owned(*, body: kopf.Body, **_: Any) -> Any:
        return {pool_key(body): dict(body)}

    async def object_event(*, body: kopf.Body, **_: Any) -> None:
        driver.wake(pool_key(body))

    for resource in OWNED:
        kopf.index(*resource, id="owned", labels=labelled, registry=registry)(owned)
    for resource in (PODS, *OWNED):
        kopf.on.event(*resource, labels=labelled, registry=registry)(object_event)
    return registry


def configure(settings: kopf.OperatorSettings, *, namespaced: bool = False) -> None:
    """Settings of kopf itself, as the operator needs them."""
    settings.scanning.disabled = namespaced  # whoever may not watch definitions and namespaces need not try
    settings.posting.enabled = False  # Events are written by our own recorder
    settings.peering.standalone = True  # the Lease decides who acts
    settings.watching.server_timeout = WATCH_SERVER_SECONDS
    settings.watching.client_timeout = WATCH_CLIENT_SECONDS
    settings.watching.connect_timeout = CONNECT_SECONDS
    settings.queueing.idle_timeout = WORKER_IDLE_SECONDS
    settings.networking.connect_timeout = CONNECT_SECONDS
    settings.networking.error_backoffs = _Forever()
    for resource in (PODS, *OWNED):
        settings.watching.label_selectors[resource] = names.POOL_LABEL


class _Forever:
    """Pauses (seconds) between attempts to reach the API server: kopf must not give up before that is back."""

    def __iter__(self) -> Any:
        yield from (0.5, 1.0, 2.0)
        while True:
            yield 5.0
