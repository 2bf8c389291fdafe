"""What the agent serves: the link, and plain HTTPS beside it for people, scrapers and probes.

`/v1/...` is for whoever has a certificate of the pool; kubelet's probes and Prometheus come without one. Neither drain
nor saturation makes a proxy unready: it answers, and that is what readiness means here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus

import msgspec
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from switchboard.agent.apply import Applier
from switchboard.agent.drain import Drain
from switchboard.agent.metrics import Metrics
from switchboard.link.messages import Report
from switchboard.link.server import LinkServer
from switchboard.pool.table import Row, Version


class TableInEffect(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `/v1/table`."""

    version: Version
    rows: tuple[Row, ...]


def application(
    links: LinkServer, applier: Applier, report: Callable[[], Awaitable[Report]], metrics: Metrics
) -> web.Application:
    """The HTTPS server of the pod's address."""

    async def workload(request: web.Request) -> web.Response:
        links.require_member(request)
        return _json(await report())

    async def table(request: web.Request) -> web.Response:
        links.require_member(request)
        return _json(TableInEffect(version=applier.version, rows=applier.rows))

    async def healthz(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_request: web.Request) -> web.Response:
        if applier.open:
            return web.Response(text="ok\n")
        why = "not configured yet" if applier.boot else "Kamailio does not answer"
        return web.Response(text=f"{why}\n", status=HTTPStatus.SERVICE_UNAVAILABLE)

    async def scrape(_request: web.Request) -> web.Response:
        await report()
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/v1/link", links.handle)
    app.router.add_get("/v1/workload", workload)
    app.router.add_get("/v1/table", table)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", scrape)
    return app


def helper_application(drain: Drain) -> web.Application:
    """The server of the UNIX socket that preStop uses."""

    async def begin(_request: web.Request) -> web.Response:
        await drain.begin()
        return web.Response()

    async def finished(_request: web.Request) -> web.Response:
        return web.Response(status=HTTPStatus.OK if await drain.finished() else HTTPStatus.ACCEPTED)

    app = web.Application()
    app.router.add_post("/drain", begin)
    app.router.add_get("/drained", finished)
    return app


def _json(answer: msgspec.Struct) -> web.Response:
    return web.Response(body=msgspec.json.encode(answer), content_type="application/json")
