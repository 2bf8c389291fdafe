"""The Pod of one proxy: Kamailio with rtpengine and the agent as native sidecars, three containers of one image.

Sidecars start before Kamailio and outlive it, so a proxy that goes away still relays and reports until its last call
has ended: Kamailio's preStop waits for the drain. The grace period is fixed and higher than any drain.timeout, which is
enforced at run time, as are threshold, policy, mode, gateways, routes: none of them is in the Pod, and changing them
restarts nothing. What is in the Pod is summed up in one hash (`template_hash`); another one: the proxy is due to roll.
"""

from __future__ import annotations

import hashlib

import msgspec

from switchboard.errors import SpecError
from switchboard.pool.spec import Expose, Listener, PoolSpec
from switchboard.resources import names
from switchboard.resources.credentials import PASSWORD, USERNAME
from switchboard.resources.database import wanted_secret
from switchboard.resources.listeners import certificates_volume, directories, listen_arguments
from switchboard.resources.merge import merge
from switchboard.resources.names import Manifest, PoolRef

GRACE_SECONDS = 25 * 3600  # an hour above the highest drain.timeout that the CRD allows
LOST_NODE_SECONDS = 30  # the default of 300 would leave the pool a proxy short for five minutes
UID = 10001  # of all three containers, so that the agent may read the others' CPU and use their sockets

PROXY_BIN = "/opt/switchboard/proxy/bin"
RUN_DIR = "/run/switchboard"
MOUNTS = {
    "run": RUN_DIR,
    "load": "/etc/switchboard/load",
    "settings": "/etc/switchboard/settings",
    "tls": "/etc/switchboard/tls",
    "token": "/etc/switchboard/token",
    "listen": "/etc/switchboard/listen",  # a directory for each Secret, where a listener has one
    "users": "/etc/switchboard/users",  # where clients authenticate
    "credentials": "/etc/switchboard/credentials",  # a directory for each Secret, where a gateway asks for a password
    "database": "/etc/switchboard/database",  # where locations are kept in one
}


def build_pod(pool: PoolRef, spec: PoolSpec, name: str) -> Manifest:
    """`name` as `names.proxy` makes it. Raises SpecError when spec.proxy.podTemplate cannot be merged."""
    template = _template(pool, spec)
    metadata = names.metadata(pool, name, "proxy")
    identity = {names.PROXY_LABEL: name, names.TEMPLATE_LABEL: _hash(template)}
    extra = template.get("metadata", {})
    # What selects the pod stands whatever the template says.
    metadata["labels"] = extra.get("labels", {}) | metadata["labels"] | identity
    host_name = spec.expose.host_name(name)
    own = {names.ADVERTISE: host_name} if host_name else {}
    if annotations := extra.get("annotations", {}) | own:
        metadata["annotations"] = annotations
    # With its subdomain: <pod>.<pool>-proxies.<namespace>.svc is a name of the pod in the cluster's DNS.
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"] | {"hostname": name}}


def template_hash(pool: PoolRef, spec: PoolSpec) -> str:
    """Ten hex digits over what a new pod would be made of; a pod carries its own as a label (TEMPLATE_LABEL)."""
    return _hash(_template(pool, spec))


def _hash(template: Manifest) -> str:
    text = msgspec.json.encode(template, order="deterministic")
    return hashlib.sha256(text).hexdigest()[:10]


def _template(pool: PoolRef, spec: PoolSpec) -> Manifest:
    merged = merge({"spec": _pod_spec(pool, spec)}, spec.proxy.pod_template)
    containers = merged.get("spec", {}).get("containers", [])
    if not any(container["name"] == "kamailio" for container in containers):
        message = "spec.proxy.podTemplate.spec.containers leaves no container kamailio; a proxy needs it"
        raise SpecError("InvalidPodTemplate", message)
    return merged


def _pod_spec(pool: PoolRef, spec: PoolSpec) -> Manifest:
    sidecars = [_rtpengine(pool, spec)] if spec.media.enabled else []
    return {
        "serviceAccountName": names.account(pool),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "subdomain": names.proxies_service(pool),
        **_network(spec.expose),
        "shareProcessNamespace": True,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": UID,
            "runAsGroup": UID,
            "fsGroup": UID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "initContainers": [*sidecars, _agent(pool, spec)],
        "containers": [_kamailio(pool, spec)],
        "volumes": _volumes(pool, spec),
        "tolerations": [_toleration("not-ready"), _toleration("unreachable")],
        "topologySpreadConstraints": [_over_nodes(pool)],
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [_over_zones(pool)]}},
    }


def _network(expose: Expose) -> Manifest:
    """A node's address is advertised from its network: media ports by the thousand cannot be mapped one by one."""
    return {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"} if expose.host_network else {}


def _rtpengine(pool: PoolRef, spec: PoolSpec) -> Manifest:
    return _container(pool, spec, "rtpengine", [f"{PROXY_BIN}/rtpengine"], ["run"]) | {"restartPolicy": "Always"}


def _agent(pool: PoolRef, spec: PoolSpec) -> Manifest:
    users = ["users"] if _has_users(spec) else []
    credentials = ["credentials"] if spec.credentials_secrets else []
    database = ["database"] if wanted_secret(spec.registrar) else []
    volumes = ["run", "load", "settings", "tls", "token", *_certificates(spec), *users, *credentials, *database]
    return _container(pool, spec, "agent", ["switchboard-agent"], volumes) | {
        "restartPolicy": "Always",
        "ports": [{"name": "agent", "containerPort": names.AGENT_PORT, "protocol": "TCP"}],
        # A restart of the agent loses no call, only reports: it may be quick. Starting up it gets half a minute.
        "startupProbe": _probe("/healthz", period=1, failures=30),
        "livenessProbe": _probe("/healthz", period=5, failures=3),
    }


def _kamailio(pool: PoolRef, spec: PoolSpec) -> Manifest:
    return _container(pool, spec, "kamailio", [f"{PROXY_BIN}/kamailio"], ["run", *_certificates(spec)]) | {
        "ports": [_container_port(listener, port) for listener in spec.listen for port in listener.ports],
        "resources": spec.proxy.resources,
        # No liveness probe: Kamailio ends on its own when it crashes, and a kill would take its calls along.
        "readinessProbe": _probe("/readyz", period=1, failures=3),
        "lifecycle": {"preStop": {"exec": {"command": ["switchboard-agent", "drain", "--wait"]}}},
    }


def _has_users(spec: PoolSpec) -> bool:
    return spec.authentication is not None and not spec.authentication.delegated


def _certificates(spec: PoolSpec) -> list[str]:
    """The volume with the listeners' certificates, where there are any."""
    return ["listen"] if spec.secret_names else []


def _container(pool: PoolRef, spec: PoolSpec, name: str, command: list[str], volumes: list[str]) -> Manifest:
    return {
        "name": name,
        "image": spec.proxy.image,
        "command": command,
        "env": _env(pool, spec),
        "volumeMounts": [_mount(volume) for volume in volumes],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _env(pool: PoolRef, spec: PoolSpec) -> list[Manifest]:
    media, expose = spec.media, spec.expose
    advertised = f"metadata.annotations['{names.ADVERTISE}']" if expose.host_name("pod") else "status.podIP"
    fields = {
        "POD_NAME": "metadata.name",
        "POD_NAMESPACE": "metadata.namespace",
        "POD_IP": "status.podIP",
        "ADVERTISE": advertised,
    }
    if expose.families != ("IPv4",):
        fields["POD_IPS"] = "status.podIPs"
    if any("{node}" in one.advertise for one in spec.listen):
        fields["NODE_NAME"] = "spec.nodeName"
    values = {
        "POOL": pool.name,
        "LISTEN": listen_arguments(spec),
        "MEDIA_PORTS": f"{media.port_min}-{media.port_max}" if media.enabled else "",
        "MEDIA_TIMEOUT": str(media.timeout_seconds),
        "RUN_DIR": RUN_DIR,
    }
    if spec.target_tls_secret:
        values["TARGET_TLS"] = spec.target_tls_secret
    if spec.credentials_secrets:
        values["CREDENTIALS"] = " ".join(spec.credentials_secrets)
    if spec.hides_topology:
        values["HIDE_TOPOLOGY"] = "1"
    if spec.hep_collector:
        values["HEP_COLLECTOR"] = spec.hep_collector
    return [
        *({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in fields.items()),
        *({"name": name, "value": value} for name, value in values.items()),
    ]


def _mount(volume: str) -> Manifest:
    mount: Manifest = {"name": volume, "mountPath": MOUNTS[volume]}
    return mount if volume == "run" else mount | {"readOnly": True}


def _volumes(pool: PoolRef, spec: PoolSpec) -> list[Manifest]:
    # Optional: a proxy starts without them, closed, and waits for a listener.
    def configmap(name: str) -> Manifest:
        return {"configMap": {"name": name, "optional": True}}

    # Readable through fsGroup, by nobody else.
    def secret(name: str) -> Manifest:
        return {"secret": {"secretName": name, "defaultMode": 0o440}}

    sources: dict[str, Manifest] = {
        "run": {"emptyDir": {}},
        "load": configmap(names.load(pool)),
        "settings": configmap(names.settings(pool)),
        "tls": secret(names.agent_tls(pool)),
        "token": secret(names.token(pool)),
    }
    if spec.secret_names:
        sources["listen"] = certificates_volume(spec)
    if spec.authentication and _has_users(spec):
        sources["users"] = secret(spec.authentication.secret_name)
    if spec.credentials_secrets:
        sources["credentials"] = directories(dict.fromkeys(spec.credentials_secrets, (USERNAME, PASSWORD)))
    if database := wanted_secret(spec.registrar):
        sources["database"] = secret(database)
    return [{"name": name} | source for name, source in sources.items()]


def _probe(path: str, *, period: int, failures: int) -> Manifest:
    get = {"path": path, "port": names.AGENT_PORT, "scheme": "HTTPS"}
    return {"httpGet": get, "periodSeconds": period, "timeoutSeconds": 2, "failureThreshold": failures}


def _container_port(listener: Listener, port: int) -> Manifest:
    return {"name": f"{listener.transport.lower()}-{port}", "containerPort": port, "protocol": listener.protocol}


def _toleration(taint: str) -> Manifest:
    return {
        "key": f"node.kubernetes.io/{taint}",
        "operator": "Exists",
        "effect": "NoExecute",
        "tolerationSeconds": LOST_NODE_SECONDS,
    }


def _over_nodes(pool: PoolRef) -> Manifest:
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {names.POOL_LABEL: pool.name}},
    }


def _over_zones(pool: PoolRef) -> Manifest:
    """No spread constraint: where nodes have no zone, the scheduler would ignore the one over nodes along with it."""
    term = {
        "topologyKey": "topology.kubernetes.io/zone",
        "labelSelector": {"matchLabels": {names.POOL_LABEL: pool.name}},
    }
    return {"weight": 100, "podAffinityTerm": term}
