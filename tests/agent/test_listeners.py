"""The agent beside encrypted listeners: it has Kamailio read a certificate that has changed, if that can be used."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator

import pytest

from tests.agent.pod import Pod, pods
from tests.tools.addresses import NETWORK
from tests.tools.certificates import HOST, Authority
from tests.tools.wait import until

SECRET = "edge-tls"
PORT = 5061


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
async def pod(authority: Authority) -> AsyncIterator[Pod]:
    secrets = {SECRET: authority.secret()}
    async with pods(f"{NETWORK}.13", listen=f"udp:5060 tls:{PORT}/{SECRET}", secrets=secrets) as made:
        yield made[0]


async def trusted(pod: Pod, authority: Authority) -> bool:
    """Whether the listener shows a certificate of this authority."""
    try:
        _, writer = await asyncio.open_connection(
            pod.address, PORT, ssl=authority.client(), server_hostname=HOST, local_addr=(pod.address, 0)
        )
    except ssl.SSLCertVerificationError:
        return False
    writer.close()
    return True


async def test_a_renewed_certificate_is_in_use_soon(pod: Pod, authority: Authority) -> None:
    """The Secret has changed, the volume with it, and new connections get the new certificate; Kamailio goes on."""
    async with pod.linked() as operator:
        before = await operator.hears(lambda report: report.boot)
        assert await trusted(pod, authority)
        successor = Authority()
        pod.proxy.secrets({SECRET: successor.secret()})
        await until(lambda: trusted(pod, successor), "the new certificate")
        assert (await operator.hears(lambda report: report.boot)).boot == before.boot


async def test_a_wrong_certificate_changes_nothing(pod: Pod, authority: Authority) -> None:
    """It is told in one line what is wrong with which Secret; the one before stays in use until it is mended."""
    one, other = authority.secret(), Authority().secret()

    def told() -> int:
        return pod.log.read_text().count(f"Secret {SECRET}: tls.key is not the key of tls.crt")

    pod.proxy.secrets({SECRET: {**one, "tls.key": other["tls.key"]}})
    await until(lambda: told() > 0, "what is wrong is logged")
    assert await trusted(pod, authority)
    mended = Authority()
    pod.proxy.secrets({SECRET: mended.secret()})
    await until(lambda: trusted(pod, mended), "the mended certificate")
    assert told() == 1
