"""What a container finds around it: files, environment, processes, identity."""

import time
from collections.abc import Callable
from typing import Any

from e2e.embedded.waiting import wait_for
from tests.embedded.conftest import SECONDS, Namespace

Shell = Callable[..., dict[str, Any]]
FOREVER = "while :; do sleep 0.1; done"
READER = "trap 'exit 0' TERM; while :; do echo $(cat /etc/conf/a /etc/conf/b 2>&1); sleep 0.02; done"


def _config_map(name: str, **data: str) -> dict[str, Any]:
    return {"kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def _secret(name: str, **data: str) -> dict[str, Any]:
    return {"kind": "Secret", "metadata": {"name": name}, "stringData": data}


def test_config_map_is_refreshed_at_once_and_whole(namespace: Namespace, shell: Shell) -> None:
    """Files of a ConfigMap follow its changes, all of them in one step: a reader never sees half a change."""
    namespace.apply(_config_map("conf", a="1", b="1"))
    mounts = [{"name": "conf", "mountPath": "/etc/conf"}]
    volumes = [{"name": "conf", "configMap": {"name": "conf"}}]
    namespace.pod("reader", shell(READER, volumeMounts=mounts), volumes=volumes)
    namespace.until_log("reader", "11")
    for number in range(2, 8):
        namespace.apply(_config_map("conf", a=str(number), b=str(number)))
        namespace.until_log("reader", f"{number}{number}")
    seen = set(namespace.log("reader").split())
    assert len(seen) == 7


def test_refresh_delay(namespace: Namespace, shell: Shell) -> None:
    """The delay that was chosen passes between a change and the files."""
    namespace.apply(_config_map("conf", a="1", b="1"))
    mounts = [{"name": "conf", "mountPath": "/etc/conf"}]
    volumes = [{"name": "conf", "configMap": {"name": "conf"}}]
    namespace.pod("reader", shell(READER, volumeMounts=mounts), volumes=volumes)
    namespace.until_log("reader", "11")
    namespace.cluster.choose(volume_refresh_seconds=1.5)
    try:
        began = time.monotonic()
        namespace.apply(_config_map("conf", a="2", b="2"))
        namespace.until_log("reader", "22")
        assert 1.4 < time.monotonic() - began < 4
    finally:
        namespace.cluster.choose(volume_refresh_seconds=0.0)


def test_optional_config_map_appears_later(namespace: Namespace, shell: Shell) -> None:
    """A Pod starts without a ConfigMap that is optional; its files appear with it."""
    mounts = [{"name": "conf", "mountPath": "/etc/conf"}]
    volumes = [{"name": "conf", "configMap": {"name": "late", "optional": True}}]
    namespace.pod("reader", shell(READER, volumeMounts=mounts), volumes=volumes)
    namespace.until_log("reader", "No such file")
    namespace.apply(_config_map("late", a="5", b="5"))
    namespace.until_log("reader", "55")


def test_missing_secret_is_waited_for(namespace: Namespace, shell: Shell) -> None:
    """A Pod waits for a Secret that is not optional, an Event says which, and it starts when the Secret is there."""
    mounts = [{"name": "key", "mountPath": "/etc/key", "readOnly": True}]
    items = [{"key": "key", "path": "deep/er", "mode": 0o400}]
    volumes = [{"name": "key", "secret": {"secretName": "late", "items": items}}]
    script = f"cat /etc/key/deep/er; stat -Lc ' %a' /etc/key/deep/er; touch /etc/key/x 2>&1; {FOREVER}"
    namespace.pod("wants", shell(script, volumeMounts=mounts), volumes=volumes)
    wait_for(lambda: "FailedMount" in namespace.kubectl("get", "events"), SECONDS, "an Event")
    assert namespace.get("wants")["status"]["phase"] == "Pending"
    namespace.apply(_secret("late", key="hidden", other="x"))
    log = namespace.until_log("wants", "Read-only")
    assert log.startswith("hidden 400\n")


def test_environment(namespace: Namespace, shell: Shell) -> None:
    """fieldRefs, keys of ConfigMaps and Secrets, and $(REFERENCES) to them in values and arguments."""
    namespace.apply(_config_map("conf", color="blue"), _secret("key", word="hidden"))

    def field(name: str, path: str) -> dict[str, Any]:
        return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}

    env = [
        field("NAME", "metadata.name"),
        field("NAMESPACE", "metadata.namespace"),
        field("ID", "metadata.uid"),
        field("IP", "status.podIP"),
        field("NODE", "spec.nodeName"),
        field("APP", "metadata.labels['app']"),
        {"name": "COLOR", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "color"}}},
        {"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "key", "key": "word"}}},
        {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "key", "key": "none", "optional": True}}},
        {"name": "BOTH", "value": "$(COLOR)-$(WORD)-$(UNKNOWN)-$$(NAME)"},
    ]
    script = f"echo $NAME $NAMESPACE $ID $IP $NODE $APP $BOTH ${{NONE-unset}} $0; pwd; {FOREVER}"
    namespace.pod("env", shell(script, env=env, args=["$(COLOR)"], workingDir="/usr"))
    log = namespace.until_log("env", "/usr")
    pod = namespace.get("env")
    expected = ["env", namespace.name, pod["metadata"]["uid"], pod["status"]["podIP"], "local", "env"]
    assert log.split() == [*expected, "blue-hidden-$(UNKNOWN)-$(NAME)", "unset", "blue", "/usr"]


def test_user_and_read_only_root(namespace: Namespace, shell: Shell) -> None:
    """The user asked for is what a container sees itself as, without capabilities; only volumes are writable."""
    script = f"id -u; id -g; grep CapEff /proc/self/status; touch /x 2>&1; echo ok > /data/f; cat /data/f; {FOREVER}"
    namespace.pod(
        "user",
        shell(
            script,
            securityContext={"runAsUser": 10001, "readOnlyRootFilesystem": True},
            volumeMounts=[{"name": "data", "mountPath": "/data"}],
        ),
        shell(f"touch /x && echo wrote; {FOREVER}", "writer"),
        volumes=[{"name": "data", "emptyDir": {}}],
    )
    log = namespace.until_log("user", "ok")
    assert log.split()[:4] == ["10001", "10001", "CapEff:", "0000000000000000"]
    assert "Read-only file system" in log
    namespace.until_log("user", "wrote", "writer")


def test_shared_process_namespace(namespace: Namespace, shell: Shell) -> None:
    """A container reads another's CPU time with shareProcessNamespace; orphans are collected; without, it is alone."""
    look = "for s in /proc/[0-9]*/stat; do cut -d' ' -f2,14,15 $s; done; echo end"
    orphan = f"sh -c 'sleep 0.2 &'; {FOREVER}"
    user = {"runAsUser": 10001}
    for name, shared in (("together", True), ("alone", False)):
        namespace.pod(
            name,
            shell(orphan, "other", securityContext=user),
            shell(f"sleep 1; {look}; {FOREVER}", securityContext=user),
            shareProcessNamespace=shared,
        )
    assert namespace.until_log("together", "end").count("(sh)") == 2
    assert namespace.until_log("alone", "end").count("(sh)") == 1
    states = f"cat /proc/[0-9]*/stat; echo end; {FOREVER}"
    namespace.pod("zombies", shell(orphan, "other"), shell(f"sleep 1; {states}"), shareProcessNamespace=True)
    assert " Z " not in namespace.until_log("zombies", "end")


def test_service_account_token(namespace: Namespace) -> None:
    """With the token and the CA at the usual place a Pod reaches the API server, verified, as its service account."""
    ask = (
        "import json,os,ssl,urllib.request as u\n"
        "d='/var/run/secrets/kubernetes.io/serviceaccount/'\n"
        "c=ssl.create_default_context(cafile=d+'ca.crt')\n"
        "host=os.environ['KUBERNETES_SERVICE_HOST']\n"
        "for h in (host, 'kubernetes.default.svc'):\n"
        "  b=json.dumps({'apiVersion':'authentication.k8s.io/v1','kind':'SelfSubjectReview'}).encode()\n"
        "  r=u.Request(f'https://{h}:443/apis/authentication.k8s.io/v1/selfsubjectreviews',b,"
        "{'Authorization':'Bearer '+open(d+'token').read(),'Content-Type':'application/json'})\n"
        "  print(json.load(u.urlopen(r,context=c))['status']['userInfo']['username'], flush=True)\n"
        "print(open(d+'namespace').read(), 'end', flush=True)\n"
    )
    namespace.pod("api", {"name": "main", "command": ["python3", "-c", ask]}, restartPolicy="Never")
    log = namespace.until_log("api", "end").split()
    account = f"system:serviceaccount:{namespace.name}:default"
    assert log == [account, account, namespace.name, "end"]


def test_no_token_where_none_is_wanted(namespace: Namespace, shell: Shell) -> None:
    """automountServiceAccountToken: false leaves the place empty."""
    namespace.pod("none", shell(f"ls /var/run/secrets 2>&1; echo end; {FOREVER}"), automountServiceAccountToken=False)
    assert "No such file" in namespace.until_log("none", "end")


def test_projected_downward_files(namespace: Namespace, shell: Shell) -> None:
    """A projected volume puts a ConfigMap, a Secret and fields of the Pod into one directory."""
    namespace.apply(_config_map("conf", a="A"), _secret("key", b="B"))
    sources = [
        {"configMap": {"name": "conf"}},
        {"secret": {"name": "key"}},
        {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
    ]
    namespace.pod(
        "files",
        shell(f"cd /all; cat a b name; echo; {FOREVER}", volumeMounts=[{"name": "all", "mountPath": "/all"}]),
        volumes=[{"name": "all", "projected": {"sources": sources}}],
    )
    assert namespace.until_log("files", "\n") == "ABfiles\n"
