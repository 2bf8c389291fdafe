"""`helm test`: VoipProxyPools are served, and an operator is well. One line for each; status 1 where one is not."""

import os
import ssl
import sys
import time
from pathlib import Path
from urllib.request import Request, urlopen

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
PATIENCE_SECONDS = 30  # right after an installation an operator may still be starting


def host(service: str) -> str:
    """What the kubelet tells every pod of its namespace's Services; needs no DNS."""
    address, port = os.environ[f"{service}_SERVICE_HOST"], os.environ[f"{service}_SERVICE_PORT"]
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def answers(what: str, request: Request) -> bool:
    """Whether it answers well before patience ends."""
    trust = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            with urlopen(request, timeout=5, context=trust):  # noqa: S310 - the two addresses below
                print(f"{what}: good")
                return True
        except OSError as error:
            if time.monotonic() > deadline:
                print(f"{what}: {error}")
                return False
            time.sleep(1)


namespace = os.environ["POOLS_NAMESPACE"]
where = f"namespaces/{namespace}/" if namespace else ""
pools = Request(
    f"https://{host('KUBERNETES')}/apis/switchboard.dev/v1alpha1/{where}voipproxypools?limit=1",
    headers={"Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}"},
)
health = Request(f"http://{host('SWITCHBOARD_OPERATOR_METRICS')}/healthz")
results = [answers("VoipProxyPools are served", pools), answers("the operator's health", health)]
sys.exit(not all(results))
