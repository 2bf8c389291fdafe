"""A pool with encrypted listeners, from a Secret that comes late, changes, and is wrong for a while."""

from __future__ import annotations

import asyncio
import sys
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import Any

from e2e.embedded.network import add_host
from tests.cluster.test_certificates import told
from tests.cluster.world import Pool
from tests.tools.certificates import HOST, LIFE, Authority, Secret
from tests.tools.wait import until

LISTEN = [
    {"transport": "UDP", "port": 5060},
    {"transport": "TLS", "port": 5061, "secretName": "edge-tls"},
    {"transport": "WSS", "port": 8443, "secretName": "edge-tls"},
]
CONNECT = """
import socket, ssl, sys
address, port, authority, host = sys.argv[1:]
context = ssl.create_default_context(cafile=authority)
context.wrap_socket(socket.create_connection((address, int(port)), 5), server_hostname=host).close()
"""


async def give(pool: Pool, files: Secret) -> None:
    """The Secret, as cert-manager keeps it."""
    await pool.kube.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "edge-tls", "namespace": pool.namespace},
            "type": "kubernetes.io/tls",
            "data": {name: b64encode(content).decode() for name, content in files.items()},
        }
    )


async def trusted(pool: Pool, port: int, authority: Authority) -> bool:
    """Whether a host outside gets a connection to the Service, and a certificate of this authority."""
    certificate = pool.directory / "authority.crt"
    certificate.write_bytes(authority.pem)
    prefix = add_host("phone", "198.18.130.9")
    arguments = (await pool.address(), str(port), str(certificate), HOST)
    process = await asyncio.create_subprocess_exec(
        *prefix, sys.executable, "-c", CONNECT, *arguments, stderr=asyncio.subprocess.DEVNULL
    )
    return await process.wait() == 0


async def says(pool: Pool, condition: str, status: str, reason: str) -> None:
    async def so() -> bool:
        found = await pool.condition(condition)
        return (found["status"], found["reason"]) == (status, reason)

    await until(so, f"condition {condition} to be {status}, {reason}")


async def test_the_life_of_a_certificate(pool: Pool, fast_volumes: None) -> None:
    """Proxies wait for a Secret that is missing, and the pool says so; renewed, it is in use without a restart; a wrong
    one is told, and the one before stays in use.
    """
    first, second = Authority(), Authority()
    pool.apply(replicas=1, listen=LISTEN, routes=[])
    await says(pool, "Ready", "False", "CertificateMissing")
    await give(pool, first.secret(HOST))
    await pool.ready(1)
    (name,) = await pool.pods()
    await until(lambda: trusted(pool, 5061, first), "a connection over TLS")
    await until(lambda: trusted(pool, 8443, first), "one for a WebSocket")

    await give(pool, second.secret(HOST))
    await until(lambda: trusted(pool, 5061, second), "the renewed certificate")
    expires = datetime.fromtimestamp(await told(pool, "listen/edge-tls"), UTC)
    assert timedelta(0) < datetime.now(UTC) + LIFE - expires < timedelta(minutes=5)

    await give(pool, {**second.secret(HOST), "tls.key": first.secret(HOST)["tls.key"]})
    await says(pool, "Degraded", "True", "CertificateInvalid")
    assert await trusted(pool, 8443, second)
    await give(pool, second.secret(HOST))
    await says(pool, "Degraded", "False", "AllProxiesServing")
    assert {"CertificateMissing", "CertificateInvalid"} <= await pool.reasons()
    assert [(pod, restarts(found)) for pod, found in (await pool.pods()).items()] == [(name, 0)]


def restarts(pod: dict[str, Any]) -> int:
    """How often its containers have been started anew."""
    return sum(int(one["restartCount"]) for one in pod["status"]["containerStatuses"])
