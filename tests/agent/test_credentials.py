"""The agent brings the pool's passwords at gateways into effect, at its start and when their Secrets have changed."""

from __future__ import annotations

from switchboard.pool.spec import Gateway
from tests.agent.pod import in_kamailio, pods, settings
from tests.tools.addresses import NETWORK
from tests.tools.wait import until

OWN = ("own", "carrier")


async def test_passwords_change_without_a_restart() -> None:
    """A changed one is in effect soon; what cannot be used changes nothing, and is told without what stands there. A
    gateway whose Secret the pod was made without has none.
    """
    carriers = tuple(
        Gateway(name=name, kind="pstn", networks=(f"192.0.2.{at}/32",), credentials_secret=secret)
        for at, (name, secret) in enumerate([("carrier", "login"), ("later", "other")])
    )
    async with pods(f"{NETWORK}.17", started=False) as (pod,):
        pod.credentials("login", username="trunk", password="first")
        pod.start()
        async with pod.linked() as operator:
            await operator.configure(settings(gateways=carriers))
            await in_kamailio(pod, {OWN: "trunk:first"})

            pod.credentials("login", username="trunk", password="second")
            await in_kamailio(pod, {OWN: "trunk:second"})

            pod.credentials("login", username="trunk")
            await until(lambda: "Secret login: it has no password" in pod.log.read_text(), "what is wrong is logged")
            assert pod.proxy.control.dump("own") == {"carrier": "trunk:second"}
            assert "trunk" not in pod.log.read_text()

            await operator.configure(settings())
            assert pod.proxy.control.dump("own") == {}
