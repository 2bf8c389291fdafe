"""Probes, as a kubelet carries them out."""

from collections.abc import Callable
from typing import Any

import pytest

from e2e.embedded.cluster import Cluster
from e2e.embedded.waiting import wait_for
from tests.embedded.conftest import SECONDS, Namespace

Shell = Callable[..., dict[str, Any]]
FOREVER = "while :; do sleep 0.1; done"
SERVER = """
import http.server, os, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        good = os.path.exists("/run/good") and self.path == "/readyz" and self.headers["X-Probe"] == "yes"
        self.send_response(204 if good else 503)
        self.end_headers()
server = http.server.HTTPServer(("", 8443), Handler)
if sys.argv[1] == "HTTPS":
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("/tls/pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
print("up", flush=True)
server.serve_forever()
"""


def _inside(cluster: Cluster, namespace: str, pod: str) -> str:
    """The root directory of a container, seen from outside."""
    return f"/proc/{cluster.process(namespace, pod, 'main')}/root"


@pytest.mark.parametrize("scheme", ["HTTP", "HTTPS"])
def test_readiness_follows_the_answer(namespace: Namespace, scheme: str) -> None:
    """A Pod is Ready while GET answers 2xx or 3xx, over HTTPS with any certificate, and not while it does not."""
    get = {"path": "/readyz", "port": "web", "scheme": scheme, "httpHeaders": [{"name": "X-Probe", "value": "yes"}]}
    probe = {"httpGet": get, "periodSeconds": 1, "failureThreshold": 1}
    ports = [{"name": "web", "containerPort": 8443}]
    command = ["python3", "-c", SERVER, scheme]
    pem = namespace.cluster.state.pki / "apiserver.pem"  # another's name on it, signed by nobody that is asked
    namespace.kubectl("create", "secret", "generic", "tls", f"--from-file=pem={pem}")
    mounts = [{"name": "tls", "mountPath": "/tls"}]
    container = {"name": "main", "command": command, "ports": ports, "readinessProbe": probe, "volumeMounts": mounts}
    namespace.pod("web", container, volumes=[{"name": "tls", "secret": {"secretName": "tls"}}])
    namespace.until_log("web", "up")
    assert not namespace.container("web", "main")["ready"]
    good = f"{_inside(namespace.cluster, namespace.name, 'web')}/run/good"
    with open(good, "w"):  # noqa: PTH123 - pathlib resolves /proc/*/root and leaves the container
        pass
    namespace.ready("web")
    _remove(good)
    wait_for(lambda: not namespace.container("web", "main")["ready"], SECONDS, "the Pod to be unready again")
    assert namespace.container("web", "main")["restartCount"] == 0


def test_failed_liveness_restarts_the_container(namespace: Namespace, shell: Shell) -> None:
    """After `failureThreshold` failures in a row a container is ended, with SIGTERM first, and started again."""
    probe = {"exec": {"command": ["test", "!", "-e", "/run/sick"]}, "periodSeconds": 1, "failureThreshold": 2}
    namespace.pod(
        "live", shell(f"trap 'echo term; exit 0' TERM; echo up; touch /run/sick; {FOREVER}", livenessProbe=probe)
    )
    wait_for(lambda: namespace.container("live", "main").get("restartCount", 0) >= 1, SECONDS, "a restart")
    assert namespace.log("live").startswith("up\nterm\nup\n")
    assert "Liveness probe failed" in namespace.kubectl("get", "events")


def test_startup_probe_holds_the_others_back(namespace: Namespace, shell: Shell) -> None:
    """Liveness and readiness are asked only once the startup probe has succeeded."""
    startup = {"exec": {"command": ["test", "-e", "/run/up"]}, "periodSeconds": 1, "failureThreshold": 10}
    alive = {"exec": {"command": ["test", "-e", "/run/up"]}, "periodSeconds": 1, "failureThreshold": 1}
    script = f"sleep 1.5; touch /run/up; {FOREVER}"
    namespace.pod("slow", shell(script, startupProbe=startup, livenessProbe=alive, readinessProbe=alive))
    namespace.ready("slow")
    assert namespace.container("slow", "main")["restartCount"] == 0


def test_startup_probe_that_never_succeeds_restarts(namespace: Namespace, shell: Shell) -> None:
    """A container that does not start up is ended and started again, and is never ready."""
    startup = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 2}
    namespace.pod("never", shell(f"trap 'exit 0' TERM; {FOREVER}", startupProbe=startup))
    status = wait_for(
        lambda: one if (one := namespace.container("never", "main")).get("restartCount", 0) >= 1 else {},
        SECONDS,
        "a restart",
    )
    assert not status["ready"]


def test_tcp_probe(namespace: Namespace) -> None:
    """A TCP probe succeeds when the port takes connections."""
    probe = {"tcpSocket": {"port": 8000}, "periodSeconds": 1}
    namespace.pod("tcp", {"name": "main", "command": ["python3", "-m", "http.server"], "readinessProbe": probe})
    namespace.ready("tcp")


def _remove(path: str) -> None:
    import os

    os.unlink(path)  # noqa: PTH108 - see above
