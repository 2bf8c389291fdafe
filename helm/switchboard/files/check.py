"""`helm test`: VoipProxyPools are served, and an operator is well. One line for each; status 1 where one is not."""

import os
import ssl
import sys
import time
from pathlib import Path
from urllib.request import Request, urlopen

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
PATIENCE_SECONDS = 30  # right after an installation an operator may still be starting


def answers(what: str, request: Request) -> bool:
    """Whether it answers well before patience ends."""
    trust = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            with urlopen(request, timeout=5, context=trust):  # noqa: S310 - the two below
                print(f"{what}: good")
                return True
        except OSError as error:
            if time.monotonic() > deadline:
                print(f"{what}: {error}")
                return False
            time.sleep(1)


api = os.environ["KUBERNETES_SERVICE_HOST"]
api = f"[{api}]" if ":" in api else api
pools = Request(
    f"https://{api}:{os.environ['KUBERNETES_SERVICE_PORT']}{os.environ['POOLS_PATH']}?limit=1",
    headers={"Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}"},
)
results = [
    answers("VoipProxyPools are served", pools),
    answers("The operator's health", Request(os.environ["HEALTH_URL"])),  # noqa: S310 - the chart's own
]
sys.exit(not all(results))
