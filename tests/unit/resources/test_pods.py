from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from switchboard.errors import SpecError
from switchboard.pool.spec import (
    Assignment,
    Authentication,
    Capacity,
    Expose,
    Gateway,
    Listener,
    Media,
    PoolSpec,
    ProxyTemplate,
    Registrar,
    Sharing,
)
from switchboard.resources.names import PoolRef
from switchboard.resources.pods import build_pod, template_hash

WithTemplate = Callable[[dict[str, object]], PoolSpec]


def containers(pod: dict[str, Any]) -> dict[str, dict[str, Any]]:
    spec = pod["spec"]
    return {container["name"]: container for container in [*spec["initContainers"], *spec["containers"]]}


def env(container: dict[str, Any]) -> dict[str, str]:
    """Name to value, or to the field that it is read from."""
    return {
        one["name"]: one["value"] if "value" in one else one["valueFrom"]["fieldRef"]["fieldPath"]
        for one in container["env"]
    }


@pytest.fixture
def pod(pool: PoolRef, spec: PoolSpec) -> dict[str, Any]:
    return build_pod(pool, spec, "edge-abcde")


def test_sidecars_start_before_kamailio_and_outlive_it(pod: dict[str, Any]) -> None:
    """The sidecars are native ones, rtpengine before the agent, of the same image as Kamailio."""
    assert [(one["name"], one["restartPolicy"]) for one in pod["spec"]["initContainers"]] == [
        ("rtpengine", "Always"),
        ("agent", "Always"),
    ]
    assert [one["name"] for one in pod["spec"]["containers"]] == ["kamailio"]
    assert {one["image"] for one in containers(pod).values()} == {"switchboard-proxy:dev"}


def test_a_pool_without_media_runs_no_rtpengine(pool: PoolRef, spec: PoolSpec) -> None:
    """Without media there is no rtpengine, and the others are told so by an empty MEDIA_PORTS."""
    pod = build_pod(pool, msgspec.structs.replace(spec, media=Media(enabled=False)), "edge-abcde")
    assert set(containers(pod)) == {"agent", "kamailio"}
    assert env(containers(pod)["kamailio"])["MEDIA_PORTS"] == ""


def test_every_container_is_told_the_same(pod: dict[str, Any]) -> None:
    """The environment that the data plane is configured by, alike in all three containers."""
    rtpengine, agent, kamailio = (env(container) for container in containers(pod).values())
    assert rtpengine == agent == kamailio
    assert kamailio == {
        "POOL": "edge",
        "POD_NAME": "metadata.name",
        "POD_NAMESPACE": "metadata.namespace",
        "POD_IP": "status.podIP",
        "ADVERTISE": "status.podIP",
        "LISTEN": "udp:5060 tcp:5080",
        "MEDIA_PORTS": "20000-24999",
        "MEDIA_TIMEOUT": "60",
        "RUN_DIR": "/run/switchboard",
    }


def test_a_proxy_has_no_privileges(pod: dict[str, Any]) -> None:
    """One unprivileged uid, no capabilities, nothing to write to but the run directory, no cluster credentials."""
    spec = pod["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == spec["securityContext"]["fsGroup"] == 10001
    for container in containers(pod).values():
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
        assert writable == {"/run/switchboard"}


def test_only_the_agent_sees_keys_and_settings(pod: dict[str, Any]) -> None:
    """Certificates, pool key, settings and workload data are mounted into the agent alone."""
    paths = {name: [mount["mountPath"] for mount in one["volumeMounts"]] for name, one in containers(pod).items()}
    assert paths["rtpengine"] == paths["kamailio"] == ["/run/switchboard"]
    assert paths["agent"] == [
        "/run/switchboard",
        "/etc/switchboard/load",
        "/etc/switchboard/settings",
        "/etc/switchboard/tls",
        "/etc/switchboard/token",
    ]


def test_the_database_is_known_to_the_agent_alone(pool: PoolRef, spec: PoolSpec) -> None:
    """Where the pool is the registrar; else there is nothing to keep."""
    for enabled in (True, False):
        registrar = Registrar(enabled=enabled, database_secret="edge-database")
        pod = build_pod(pool, msgspec.structs.replace(spec, registrar=registrar), "edge-abcde")
        volume = {"name": "database", "secret": {"secretName": "edge-database", "defaultMode": 0o440}}
        assert (volume in pod["spec"]["volumes"]) == enabled
        mounts = {name: [mount["name"] for mount in one["volumeMounts"]] for name, one in containers(pod).items()}
        having = [name for name, volumes in mounts.items() if "database" in volumes]
        assert having == (["agent"] if enabled else [])


def test_users_are_mounted_where_clients_authenticate(pool: PoolRef, spec: PoolSpec) -> None:
    """Into the agent alone; a proxy waits for their Secret."""
    users = Authentication(secret_name="edge-users", realm="voice.example.com")
    pod = build_pod(pool, msgspec.structs.replace(spec, authentication=users), "edge-abcde")
    assert {"name": "users", "secret": {"secretName": "edge-users", "defaultMode": 0o440}} in pod["spec"]["volumes"]
    mounts = {name: [mount["name"] for mount in one["volumeMounts"]] for name, one in containers(pod).items()}
    assert [name for name, volumes in mounts.items() if "users" in volumes] == ["agent"]
    upstream = build_pod(pool, msgspec.structs.replace(spec, authentication=Authentication()), "edge-abcde")
    assert upstream["spec"] == build_pod(pool, spec, "edge-abcde")["spec"]


def test_passwords_at_gateways_are_mounted_where_there_are_any(pool: PoolRef, spec: PoolSpec) -> None:
    """Into the agent alone, a directory for each Secret; Kamailio is told to keep track of what they change."""
    carriers = tuple(
        Gateway(name=name, kind="pstn", networks=("203.0.113.0/28",), credentials_secret=secret)
        for name, secret in (("a", "login-b"), ("b", "login-a"), ("c", "login-a"), ("d", ""))
    )
    pod = build_pod(pool, msgspec.structs.replace(spec, gateways=carriers), "edge-abcde")
    (volume,) = [one for one in pod["spec"]["volumes"] if one["name"] == "credentials"]
    paths = [item["path"] for one in volume["projected"]["sources"] for item in one["secret"]["items"]]
    assert paths == ["login-a/username", "login-a/password", "login-b/username", "login-b/password"]
    mounts = {name: [mount["name"] for mount in one["volumeMounts"]] for name, one in containers(pod).items()}
    assert [name for name, volumes in mounts.items() if "credentials" in volumes] == ["agent"]
    assert {"name": "CREDENTIALS", "value": "login-a login-b"} in containers(pod)["kamailio"]["env"]


def test_a_proxy_starts_without_the_operators_configmaps(pod: dict[str, Any]) -> None:
    """Workload data and settings may come later; certificates and the pool key must be there, readable by the group."""
    volumes = {volume.pop("name"): volume for volume in pod["spec"]["volumes"]}
    assert volumes == {
        "run": {"emptyDir": {}},
        "load": {"configMap": {"name": "edge-load", "optional": True}},
        "settings": {"configMap": {"name": "edge-settings", "optional": True}},
        "tls": {"secret": {"secretName": "edge-agent-tls", "defaultMode": 0o440}},
        "token": {"secret": {"secretName": "edge-token", "defaultMode": 0o440}},
    }


def test_calls_have_time_to_end(pod: dict[str, Any]) -> None:
    """Kamailio is stopped once the drain is over, for which there is more time than any drain.timeout (24 h)."""
    kamailio = containers(pod)["kamailio"]
    assert kamailio["lifecycle"]["preStop"] == {"exec": {"command": ["switchboard-agent", "drain", "--wait"]}}
    assert pod["spec"]["terminationGracePeriodSeconds"] > 24 * 3600


def test_probes_ask_the_agent(pod: dict[str, Any]) -> None:
    """The agent says whether it lives and whether Kamailio answers; nothing ever restarts a Kamailio that has calls."""
    agent, kamailio = containers(pod)["agent"], containers(pod)["kamailio"]
    for probe, path in (
        (agent["startupProbe"], "/healthz"),
        (agent["livenessProbe"], "/healthz"),
        (kamailio["readinessProbe"], "/readyz"),
    ):
        assert probe["httpGet"] == {"path": path, "port": 7443, "scheme": "HTTPS"}
    assert "livenessProbe" not in kamailio


def test_proxies_spread_and_leave_a_lost_node_soon(pod: dict[str, Any]) -> None:
    """Proxies go to different nodes and zones where they can; one on a lost node is replaced after 30 s, not 300."""
    (nodes,) = pod["spec"]["topologySpreadConstraints"]
    assert (nodes["topologyKey"], nodes["whenUnsatisfiable"]) == ("kubernetes.io/hostname", "ScheduleAnyway")
    (zones,) = pod["spec"]["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert zones["podAffinityTerm"]["topologyKey"] == "topology.kubernetes.io/zone"
    assert {(one["key"], one["tolerationSeconds"]) for one in pod["spec"]["tolerations"]} == {
        ("node.kubernetes.io/not-ready", 30),
        ("node.kubernetes.io/unreachable", 30),
    }


def test_resources_are_kamailios(pool: PoolRef, spec: PoolSpec) -> None:
    """spec.proxy.resources sizes Kamailio; the sidecars' sizes come by podTemplate."""
    sized = ProxyTemplate(image="i", resources={"limits": {"memory": "1Gi"}})
    made = containers(build_pod(pool, msgspec.structs.replace(spec, proxy=sized), "edge-abcde"))
    assert made["kamailio"]["resources"] == {"limits": {"memory": "1Gi"}}
    assert "resources" not in made["rtpengine"]


@pytest.mark.parametrize(
    "change",
    [
        {"threshold": 0.5},
        {"replicas": 9},
        {"capacity": Capacity(calls=9, cpu_cores=2.0)},
        {"sharing": Sharing(period_seconds=1.0)},
        {"assignment": Assignment(policy="least", mode="redirect", max_hops=2)},
        {"gateways": ()},
        {"routes": ()},
        {"client_networks": ("192.0.2.0/24",)},
        {"drain_timeout_seconds": 60},
        {"suspend": True},
    ],
    ids=lambda change: next(iter(change)),
)
def test_run_time_settings_restart_nothing(pool: PoolRef, spec: PoolSpec, change: dict[str, Any]) -> None:
    """What is applied at run time is not in the pod: its hash, and so every proxy, stays."""
    assert template_hash(pool, msgspec.structs.replace(spec, **change)) == template_hash(pool, spec)


@pytest.mark.parametrize(
    "change",
    [
        {"proxy": ProxyTemplate(image="switchboard-proxy:next")},
        {"proxy": ProxyTemplate(image="switchboard-proxy:dev", resources={"limits": {"cpu": "1"}})},
        {"proxy": ProxyTemplate(image="switchboard-proxy:dev", pod_template={"metadata": {"labels": {"a": "b"}}})},
        {"listen": (Listener(transport="UDP", port=5070),)},
        {"media": Media(enabled=False)},
        {"media": Media(port_min=30000, port_max=30999)},
        {"media": Media(timeout_seconds=30)},
    ],
    ids=["image", "resources", "template", "listen", "no media", "media ports", "media timeout"],
)
def test_what_is_in_the_pod_rolls_the_proxies(pool: PoolRef, spec: PoolSpec, change: dict[str, Any]) -> None:
    """A change to what a proxy is started with is seen in the hash."""
    assert template_hash(pool, msgspec.structs.replace(spec, **change)) != template_hash(pool, spec)


def test_proxies_of_one_template_carry_its_hash(pool: PoolRef, spec: PoolSpec) -> None:
    """Two proxies differ in name alone, and both say what they were made of."""
    one, other = (build_pod(pool, spec, name)["metadata"] for name in ("edge-abcde", "edge-fghij"))
    assert one["labels"]["switchboard.dev/template"] == template_hash(pool, spec)
    assert one["labels"] | {"switchboard.dev/proxy": "edge-fghij"} == other["labels"]
    assert one["labels"]["switchboard.dev/proxy"] == one["name"] == "edge-abcde"


def test_the_pod_template_has_the_last_word(pool: PoolRef, with_template: WithTemplate) -> None:
    """Labels, annotations and any part of the pod's spec may be added or changed."""
    spec = with_template(
        {
            "metadata": {"labels": {"team": "voice"}, "annotations": {"a": "b"}},
            "spec": {
                "nodeSelector": {"disk": "ssd"},
                "containers": [{"name": "kamailio", "env": [{"name": "MEDIA_TIMEOUT", "value": "7"}]}],
            },
        }
    )
    pod = build_pod(pool, spec, "edge-abcde")
    assert pod["metadata"]["labels"]["team"] == "voice"
    assert pod["metadata"]["annotations"] == {"a": "b"}
    assert pod["spec"]["nodeSelector"] == {"disk": "ssd"}
    assert env(containers(pod)["kamailio"])["MEDIA_TIMEOUT"] == "7"


def test_the_pod_template_cannot_hide_a_proxy_from_its_pool(pool: PoolRef, with_template: WithTemplate) -> None:
    """Labels that select the pod stand, whatever the template says."""
    spec = with_template({"metadata": {"labels": {"switchboard.dev/pool": "other", "switchboard.dev/proxy": "x"}}})
    labels = build_pod(pool, spec, "edge-abcde")["metadata"]["labels"]
    assert labels["switchboard.dev/pool"] == "edge"
    assert labels["switchboard.dev/proxy"] == "edge-abcde"


@pytest.mark.parametrize(
    "template",
    [
        {"spec": {"containers": [{"name": "kamailio", "$patch": "delete"}]}},
        {"spec": {"$patch": "delete"}},
        {"spec": None},
    ],
    ids=["deleted", "emptied", "nulled"],
)
def test_a_proxy_without_kamailio_is_refused(
    pool: PoolRef, with_template: WithTemplate, template: dict[str, object]
) -> None:
    """A template that takes Kamailio away becomes a SpecError, not a pod that routes nothing."""
    with pytest.raises(SpecError, match="leaves no container kamailio") as refused:
        build_pod(pool, with_template(template), "edge-abcde")
    assert refused.value.reason == "InvalidPodTemplate"


def exposed(pool: PoolRef, spec: PoolSpec, **expose: Any) -> dict[str, Any]:
    return build_pod(pool, msgspec.structs.replace(spec, expose=Expose(**expose)), "edge-abcde")


def test_a_host_name_is_advertised_for_each_pod(pool: PoolRef, spec: PoolSpec) -> None:
    """{pod} is the pod's own name; the operator and the proxy read the same annotation."""
    pod = exposed(pool, spec, advertise="{pod}.sip.example.com")
    assert pod["metadata"]["annotations"] == {"switchboard.dev/advertise": "edge-abcde.sip.example.com"}
    assert env(containers(pod)["kamailio"])["ADVERTISE"] == "metadata.annotations['switchboard.dev/advertise']"


def test_a_nodes_address_is_advertised_from_its_network(pool: PoolRef, spec: PoolSpec) -> None:
    """The pod's address is then the node's; the cluster's names are still to be resolved there."""
    pod = exposed(pool, spec, advertise="NodeIP")
    assert (pod["spec"]["hostNetwork"], pod["spec"]["dnsPolicy"]) == (True, "ClusterFirstWithHostNet")
    assert env(containers(pod)["kamailio"])["ADVERTISE"] == "status.podIP"
    assert "hostNetwork" not in exposed(pool, spec)["spec"]


def test_a_proxy_of_both_families_knows_both_addresses(pool: PoolRef, spec: PoolSpec) -> None:
    """Kamailio listens on each, and rtpengine relays between them."""
    pod = exposed(pool, spec, families=("IPv4", "IPv6"))
    assert env(containers(pod)["rtpengine"])["POD_IPS"] == "status.podIPs"


def test_each_pod_has_a_name_in_the_clusters_dns(pod: dict[str, Any]) -> None:
    """`edge-abcde.edge-proxies.voice.svc`, which may be advertised inside the cluster."""
    assert (pod["spec"]["hostname"], pod["spec"]["subdomain"]) == ("edge-abcde", "edge-proxies")


def test_listeners_certificates_are_mounted(pool: PoolRef, spec: PoolSpec) -> None:
    """Into Kamailio, which shows them, and the agent, which sees them change; their keys for the group alone."""
    tls = Listener(transport="TLS", port=5061, secret_name="edge-tls")
    wss = Listener(transport="WSS", port=8443, secret_name="web-tls", client_certificates="required")
    pod = build_pod(pool, msgspec.structs.replace(spec, listen=(*spec.listen, tls, wss)), "edge-abcde")
    mount = {"name": "listen", "mountPath": "/etc/switchboard/listen", "readOnly": True}
    assert [mount in one["volumeMounts"] for one in containers(pod).values()] == [False, True, True]
    (volume,) = [one for one in pod["spec"]["volumes"] if one["name"] == "listen"]
    assert volume["projected"]["defaultMode"] == 0o440
    assert [
        (one["secret"]["name"], [item["path"] for item in one["secret"]["items"]])
        for one in volume["projected"]["sources"]
    ] == [
        ("edge-tls", ["edge-tls/tls.crt", "edge-tls/tls.key"]),
        ("web-tls", ["web-tls/tls.crt", "web-tls/tls.key", "web-tls/ca.crt"]),
    ]
    kamailio = containers(pod)["kamailio"]
    assert env(kamailio)["LISTEN"] == "udp:5060 tcp:5080 tls:5061/edge-tls wss:8443/web-tls/required"
    assert [(one["name"], one["protocol"]) for one in kamailio["ports"][-2:]] == [
        ("tls-5061", "TCP"),
        ("wss-8443", "TCP"),
    ]


def test_pods_can_hide_what_is_behind_them_where_a_gateway_asks(pool: PoolRef, spec: PoolSpec) -> None:
    """One is enough; others of the pool are as they were."""
    hidden, open_ = (
        Gateway(name=name, kind="pstn", networks=("203.0.113.0/28",), hide_topology=hides)
        for name, hides in (("a", True), ("b", False))
    )
    hiding = build_pod(pool, msgspec.structs.replace(spec, gateways=(open_, hidden)), "edge-abcde")
    assert env(containers(hiding)["kamailio"])["HIDE_TOPOLOGY"] == "1"
    shown = build_pod(pool, msgspec.structs.replace(spec, gateways=(open_,)), "edge-abcde")
    assert "HIDE_TOPOLOGY" not in env(containers(shown)["kamailio"])


def test_a_collector_gets_copies_where_one_is_named(pool: PoolRef, spec: PoolSpec) -> None:
    """Kamailio is told of it; without one it is not."""
    traced = build_pod(pool, msgspec.structs.replace(spec, hep_collector="heplify.voice.svc:9060"), "edge-abcde")
    assert env(containers(traced)["kamailio"])["HEP_COLLECTOR"] == "heplify.voice.svc:9060"


def test_hosts_of_another_network(pool: PoolRef, spec: PoolSpec) -> None:
    """What clients of another network are given is put together from the pod's and the node's name, by the kubelet."""
    listen = (
        Listener(transport="UDP", port=5060),
        Listener(transport="TLS", port=5071, secret_name="edge-tls", advertise="{pod}.{node}.example.com"),
        Listener(transport="UDP", port=5072, advertise="2001:db8::1"),
    )
    pod = build_pod(pool, msgspec.structs.replace(spec, listen=listen), "edge-abcde")
    for container in containers(pod).values():
        assert env(container)["LISTEN"].split()[1:] == [
            "tls:5071/edge-tls@$(POD_NAME).$(NODE_NAME).example.com",
            "udp:5072@2001:db8::1",
        ]
        assert env(container)["NODE_NAME"] == "spec.nodeName"
        names = [one["name"] for one in container["env"]]
        assert max(names.index("POD_NAME"), names.index("NODE_NAME")) < names.index("LISTEN"), "used after it is there"


def test_the_secret_for_targets_over_tls(pool: PoolRef, spec: PoolSpec) -> None:
    """It is mounted beside the listeners', with its CA, and named to the containers."""
    tls = Listener(transport="TLS", port=5061, secret_name="edge-tls", client_certificates="optional")
    changed = msgspec.structs.replace(spec, listen=(*spec.listen, tls), target_tls_secret="out-tls")
    pod = build_pod(pool, changed, "edge-abcde")
    assert {env(container)["TARGET_TLS"] for container in containers(pod).values()} == {"out-tls"}
    assert env(containers(pod)["kamailio"])["LISTEN"].endswith(" tls:5061/edge-tls/optional")
    (volume,) = [one for one in pod["spec"]["volumes"] if one["name"] == "listen"]
    paths = [item["path"] for one in volume["projected"]["sources"] for item in one["secret"]["items"]]
    assert paths == [f"{name}/{file}" for name in ("edge-tls", "out-tls") for file in ("tls.crt", "tls.key", "ca.crt")]
