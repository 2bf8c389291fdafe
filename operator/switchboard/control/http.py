"""`/metrics` for Prometheus and `/healthz` for the kubelet, in plain HTTP on the operator's pod."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

from switchboard.errors import ConfigurationError


@asynccontextmanager
async def serving(port: int, unhealthy: Callable[[], list[str]]) -> AsyncIterator[int]:
    """Serves until left; gives the port it got. `unhealthy` names the pools that cannot be reconciled."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def healthz(_: web.Request) -> web.Response:
        if pools := unhealthy():
            return web.Response(status=503, text=f"no reconcile succeeded lately: {', '.join(pools)}\n")
        return web.Response(text="ok\n")

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics), web.get("/healthz", healthz)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, port=port).start()
        except OSError as error:
            message = f"cannot listen on port {port}: {error.strerror}; set HTTP_PORT to a free one"
            raise ConfigurationError(message) from error
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
