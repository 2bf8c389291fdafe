"""`python -m e2e.demo`, inside an embedded cluster: see the package's docstring.

Exit status 0 only if no call failed, none was admitted at or above the threshold, and the browser's had its media.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator

from e2e import product
from e2e.demo import browser
from e2e.demo.load import MEDIA_PBX, PBX, Callers
from e2e.demo.switch import kill_operator, kill_proxy, time_to_answer
from e2e.demo.view import View
from e2e.demo.watch import Watch
from tests.tools.certificates import Authority
from tests.tools.clients import made
from tests.tools.sipp import Sipp
from tests.tools.wait import until

POOL, SECRET = "edge", "edge-tls"
LISTEN = [
    {"transport": "UDP", "port": 5060},
    {"transport": "TCP", "port": 5060},
    {"transport": "WSS", "port": browser.WSS_PORT, "secretName": SECRET},
]
THRESHOLD = 0.8
CAPACITY_CALLS = 25  # so that each proxy has 20 places, and the pool 60
READY_SECONDS = 60


class Demo:
    def __init__(self) -> None:
        self.watch = Watch(POOL)
        self.view = View(self.watch, THRESHOLD)
        self.switch_ms = 0.0
        self.certificate = Authority().secret()
        self.heard: browser.Heard | None = None
        self._step = 0

    async def run(self) -> int:
        """Exit status."""
        started = time.monotonic()
        self.say("installing the operator: CRD, account, role, Deployment")
        await asyncio.to_thread(product.install)
        self.say(f"kubectl apply: VoipProxyPool {POOL}: 3 proxies of {CAPACITY_CALLS} calls, threshold {THRESHOLD:.0%}")
        service = await self.apply_pool()
        async with self.watching(), Callers(service) as callers:
            await until(self.every_proxy_answers, "every proxy to answer", READY_SECONDS)
            with self.view:
                await self.forward(callers)
                await self.overload(callers)
                await self.browser(callers)
                await self.redirect(callers)
            return self.conclude(callers, time.monotonic() - started)

    async def apply_pool(self) -> str:
        """The address of the pool's Service, once the pool is ready."""
        routes = [
            {"name": "media", "prefix": "av", "targets": [f"sip:{MEDIA_PBX}:5060"]},
            {"name": "pbx", "prefix": "", "targets": [f"sip:{PBX}:5060"]},
        ]
        data = {name: base64.b64encode(content).decode() for name, content in self.certificate.items()}
        metadata = {"name": SECRET}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "kubernetes.io/tls", "data": data}
        pool = product.pool(
            POOL, capacity={"calls": CAPACITY_CALLS}, routes=routes, listen=LISTEN, registrar={"enabled": True}
        )
        product.apply(secret, pool)
        await asyncio.to_thread(
            product.kubectl, "wait", "--for=condition=Ready", f"vpp/{POOL}", f"--timeout={READY_SECONDS}s"
        )
        return product.kubectl("get", "service", POOL, "-o", "jsonpath={.spec.clusterIP}")

    async def every_proxy_answers(self) -> bool:
        return sum(proxy.alive for proxy in self.watch.proxies.values()) == 3

    async def forward(self, callers: Callers) -> None:
        self.say("forward mode: 50 calls, 3 of them more with voice and video; the operator is killed in the middle")
        load = callers.call(calls=50, rate=8, hold_seconds=3)
        media = asyncio.create_task(callers.call_with_media(3, seconds=5))
        await asyncio.sleep(2.5)
        kill_operator()
        self.say("the operator is killed; calls go on")
        await self.finish(load)
        await media

    async def overload(self, callers: Callers) -> None:
        self.say("85 calls at 30 a second, and room for 60: refused only once every proxy is at the threshold")
        await self.finish(callers.call(calls=85, rate=30, hold_seconds=4))

    async def browser(self, callers: Callers) -> None:
        if not await asyncio.to_thread(made):
            return
        self.say("a browser calls a phone: WSS, WebRTC and ICE on the one side, UDP and plain RTP on the other")
        calling = asyncio.create_task(browser.call(callers.service, self.certificate))
        while not calling.done():
            self.view.draw()
            await asyncio.sleep(0.2)
        self.heard = await calling

    async def redirect(self, callers: Callers) -> None:
        self.say("redirect mode: clients follow the 302; the primary is killed in the middle")
        product.kubectl(
            "patch", "vpp", POOL, "--type=merge", "-p", json.dumps({"spec": {"assignment": {"mode": "redirect"}}})
        )
        load = callers.call(calls=70, rate=8, hold_seconds=2)
        media = asyncio.create_task(callers.call_with_media(2, seconds=1.5))
        await media
        primary = self.watch.primary
        if primary is None:
            sys.exit("demo: no proxy says that it is primary")
        timing = asyncio.create_task(time_to_answer(callers.service))
        kill_proxy(primary)
        self.switch_ms = await timing
        self.say(f"the primary, {primary}, is killed; its successor answers after {self.switch_ms:.0f} ms; calls go on")
        await self.finish(load)

    async def finish(self, load: Sipp) -> None:
        """Show the table until SIPp has ended all of its calls."""
        while load.running:
            self.view.draw()
            await asyncio.sleep(0.2)
        load.wait(1)

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.watch.run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def say(self, text: str) -> None:
        self._step += 1
        self.view.title = text
        self.view.say(f"[{self._step}] {text}")

    def conclude(self, callers: Callers, seconds: float) -> int:
        """The table, `kubectl get vpp`, and the line of figures."""
        calls, watch = callers.statistics(), self.watch
        over = watch.total("over_threshold")
        self.view.console.print(product.kubectl("get", "vpp", POOL), end="")
        if calls.dropped:
            self.view.say(
                f"{calls.dropped} answered calls were on the killed primary and ended with it; no other was lost"
            )
        for cause, count in calls.causes.items():
            self.view.console.print(f"  {count} x {cause}", markup=False)
        self.view.console.print(
            f"demo: offered={calls.offered} answered={calls.answered} refused={calls.refused} failed={calls.failed}"
            f" ringing_lost={calls.ringing_lost} over_threshold={over} max_workload={watch.max_workload:.0%}"
            f" redirected={watch.total('redirected')} forwarded={watch.total('forwarded')}"
            f" rtp_packets_sent={callers.packets_sent} rtp_packets_received={callers.packets_received}"
            f" primary_switch_ms={self.switch_ms:.0f}",
            soft_wrap=True,
        )
        self.view.console.print(str(self.heard or browser.LEFT_OUT), soft_wrap=True)
        self.view.console.print(f"took {seconds:.0f} s", style="dim")
        seen = self.heard is None or self.heard.both_ways
        return 0 if calls.failed == 0 and over == 0 and calls.offered > 0 and seen else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(Demo().run()))
