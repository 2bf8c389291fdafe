"""Who may reach which port of a proxy: by the policy that the API server holds, and by trying where it is enforced."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

from e2e.embedded.errors import DeadlineError
from e2e.kind.tests.world import CLIENTS, NAMESPACE, NetworkPolicy, Place, Pool, until
from switchboard.resources import names

ANYBODY = "anybody"
OPERATOR = "operator in namespace switchboard"
PROMETHEUS = "prometheus where switchboard.dev/monitoring=true"
PROXIES = "proxies of edge"
ENFORCED_WITHIN_SECONDS = 10


def who(peer: dict[str, Any]) -> str:
    """A peer of a NetworkPolicy, in the words of the table below."""
    if "ipBlock" in peer:
        return str(peer["ipBlock"]["cidr"])
    pod = peer["podSelector"]["matchLabels"]
    where = peer.get("namespaceSelector", {}).get("matchLabels", {})
    if not where:
        return f"proxies of {pod['switchboard.dev/pool']}"
    name = pod.get("app.kubernetes.io/component", pod["app.kubernetes.io/name"])
    namespace = where.get("kubernetes.io/metadata.name")
    labels = ",".join(f"{key}={value}" for key, value in where.items())
    return f"{name} in namespace {namespace}" if namespace else f"{name} where {labels}"


def test_the_policy_says_who_may_reach_which_port(pool: Pool, pbx: Place) -> None:
    """Agent: operator, proxies, Prometheus. SIP: clients, proxies, the PBX. Media: anybody. Nothing else is open."""
    policies = NetworkPolicy.objects(pool.api, namespace=NAMESPACE)
    (policy,) = [one.obj["spec"] for one in policies if one.obj["metadata"]["name"].startswith(pool.name)]
    reached = {
        (port["protocol"], port["port"]): {who(peer) for peer in rule["from"]} if rule.get("from") else {ANYBODY}
        for rule in policy["ingress"]
        for port in rule["ports"]
    }
    assert policy["policyTypes"] == ["Ingress"]
    assert policy["podSelector"]["matchLabels"] == {"switchboard.dev/pool": pool.name}
    sip = {CLIENTS, PROXIES, f"{pbx.address}/32"}
    assert reached == {
        ("TCP", names.AGENT_PORT): {OPERATOR, PROMETHEUS, PROXIES},
        ("UDP", 5060): sip,
        ("UDP", 15060): sip,  # where the Service sends
        ("TCP", 5060): sip,
        ("UDP", 20000): {ANYBODY},
    }


def test_a_stranger_reaches_the_agent_only_where_nothing_is_enforced(pool: Pool, client: Place) -> None:
    """A pod that is neither proxy nor operator opens the agent's port only where it opens one that is closed to all."""
    proxy = next(iter(pool.pods().values())).obj["status"]["podIP"]
    enforced = not enforcing_nothing(pool, client)
    print(f"NetworkPolicies are {'' if enforced else 'not '}enforced on this cluster")
    assert opens(client, proxy, names.AGENT_PORT) != enforced


def enforcing_nothing(pool: Pool, client: Place) -> bool:
    """Probes the cluster: whether a port still opens on a pod that a policy closes to everybody."""
    target = pool.pbx_place
    deny = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "nobody-to-pbx", "namespace": NAMESPACE},
        "spec": {"podSelector": {"matchLabels": {"app": "pbx"}}, "policyTypes": ["Ingress"]},
    }
    listening = [*target.prefix, "python3", "-m", "http.server", "8099", "--bind", target.address]
    policy = NetworkPolicy(pool.api, deny)
    with subprocess.Popen(listening, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            until(lambda: opens(client, target.address, 8099), "the probe's server answers")
            policy.create()
            return _stays_open(client, target.address)
        finally:
            server.terminate()
            policy.delete()  # pykube takes one that is not there for deleted


def _stays_open(client: Place, address: str) -> bool:
    try:
        until(lambda: not opens(client, address, 8099), "the policy's effect", ENFORCED_WITHIN_SECONDS)
    except DeadlineError:
        return True
    return False


def opens(place: Place, address: str, port: int) -> bool:
    """Whether a connection from there is accepted."""
    attempt = f"exec 3<>/dev/tcp/{address}/{port}"
    bash = shutil.which("bash") or "bash"
    try:
        return subprocess.run([*place.prefix, bash, "-c", attempt], check=False, timeout=3).returncode == 0
    except subprocess.TimeoutExpired:
        return False
