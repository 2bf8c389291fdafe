"""`switchboard-operator`: reads its settings, waits for the API server, watches, and acts while it holds the Lease.

When the API server has been out of reach for as long as a Lease lasts, all of it starts over in the same process: a
watch that comes back lists what there is, and kopf's indices keep for ever what has been deleted meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from contextlib import suppress

import aiohttp
import kopf

from switchboard.control.handlers import build_registry
from switchboard.control.http import serving
from switchboard.control.kube import Kube, KubeError, configure
from switchboard.control.lease import Lease, OutOfReachError
from switchboard.control.manager import Manager
from switchboard.control.metrics import LEADING, PoolCollector
from switchboard.control.nodes import Nodes
from switchboard.control.reconcile import PoolController
from switchboard.control.settings import Settings, from_environment
from switchboard.errors import ConfigurationError
from switchboard.link.client import link_session
from switchboard.logs import log_to_stderr
from switchboard.resources import names

logger = logging.getLogger(__name__)

UNREACHABLE_PAUSE_SECONDS = 2.0


def main() -> int:
    try:
        settings = from_environment(os.environ)
        log_to_stderr(settings.log_level)
        logging.getLogger("kopf").setLevel(logging.WARNING)  # at INFO it writes a line for each event it hands on
        asyncio.run(run(settings))
    except ConfigurationError as error:
        print(f"switchboard-operator: {error}", file=sys.stderr)  # noqa: T201 - logging may not be set up yet
        return 1
    return 0


async def run(settings: Settings) -> None:
    """Everything the process does, until SIGTERM or SIGINT."""
    kube = Kube(await configure())
    signalled = asyncio.Event()
    try:
        async with link_session() as links:
            while await _run_once(kube, links, settings, signalled):
                logger.info("Starting over: what went while the API server was out of reach, no watch will tell")
    finally:
        await kube.close()


async def _run_once(kube: Kube, links: aiohttp.ClientSession, settings: Settings, signalled: asyncio.Event) -> bool:
    """Whether it is to be started over."""
    manager: Manager[PoolController] = Manager(
        lambda key, observed, term: PoolController(
            key, observed, term, kube=kube, session=links, settings=settings, nodes=nodes
        ),
        unhealthy_after_seconds=3 * settings.resync_seconds,
    )
    nodes = Nodes(kube, manager.wake_all)
    collector = PoolCollector(manager)
    collector.register()
    try:
        async with serving(settings.http_port, manager.unhealthy):
            return await _operate(kube, manager, nodes, settings, signalled)
    finally:
        collector.unregister()


async def _operate(
    kube: Kube, manager: Manager[PoolController], nodes: Nodes, settings: Settings, signalled: asyncio.Event
) -> bool:
    _on_signals(signalled)
    stopping = asyncio.create_task(signalled.wait(), name="signals")
    reached = asyncio.create_task(wait_for_api_server(kube, settings), name="API server")
    await _first(stopping, reached)
    if signalled.is_set():
        await _cancel(reached)
        return False
    await reached
    lease = Lease(
        kube,
        namespace=settings.lease_namespace,
        name=settings.lease_name,
        identity=settings.identity,
        duration_seconds=settings.lease_seconds,
    )
    stop, ready = asyncio.Event(), asyncio.Event()
    turns = asyncio.create_task(take_turns(lease, manager), name="lease")
    watching = asyncio.create_task(watch(manager, settings, ready, stop), name="kopf")
    following = asyncio.create_task(nodes.run(), name="nodes")
    await _first(asyncio.create_task(ready.wait()), watching)
    _on_signals(signalled)  # kopf has put in its own; links and Lease go before it
    await _first(stopping, watching, following, turns)
    out_of_reach = turns.done()
    stopping.cancel()
    await _cancel(turns)
    await _cancel(following)
    stop.set()
    await watching
    return out_of_reach and not signalled.is_set()


def _on_signals(signalled: asyncio.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, signalled.set)


async def _first(*tasks: asyncio.Task[object] | asyncio.Task[None]) -> None:
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)


async def watch(
    manager: Manager[PoolController], settings: Settings, ready: asyncio.Event, stop: asyncio.Event
) -> None:
    """kopf, embedded: it watches and keeps the indices, nothing else."""
    await kopf.operator(
        registry=build_registry(manager, namespaced=bool(settings.watch_namespaces)),
        standalone=True,
        clusterwide=not settings.watch_namespaces,
        namespaces=settings.watch_namespaces,
        ready_flag=ready,
        stop_flag=stop,
    )


async def take_turns(lease: Lease, manager: Manager[PoolController]) -> None:
    """Leads whenever the Lease is ours; when it is lost, everything stops before it is asked for again.

    Returns when the API server has been out of reach for as long as a Lease lasts.
    """
    try:
        while True:
            await _take_turn(lease, manager)
    except OutOfReachError as error:
        logger.warning("The API server is out of reach: %s", error)


async def _take_turn(lease: Lease, manager: Manager[PoolController]) -> None:
    term = await lease.acquire()
    leading = asyncio.create_task(manager.lead(term), name=f"term {term}")
    LEADING.set(1)
    try:
        await lease.hold()
    except asyncio.CancelledError:
        await _cancel(leading)
        await lease.release()
        raise
    finally:
        LEADING.set(0)
        await _cancel(leading)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def wait_for_api_server(kube: Kube, settings: Settings) -> None:
    """Until the API server serves VoipProxyPools to us; what is in the way is said once, in one line."""
    said = ""
    while True:
        try:
            version = await kube.version()
            await kube.list(names.API_VERSION, names.KIND, next(iter(settings.watch_namespaces), ""), "")
        except KubeError as error:
            why = f"the CRD is not installed ({error})" if error.status == 404 else str(error)
            if why != said:
                logger.error("%s; trying again until it can go on", why)  # noqa: TRY400 - one clear line, no traceback
            said = why
            await asyncio.sleep(UNREACHABLE_PAUSE_SECONDS)
        else:
            logger.info("Kubernetes API %s at %s", version, kube.configuration.host)
            return
