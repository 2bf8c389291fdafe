"""The programs of the control plane: how each is started, when it is ready, how it is stopped and started again."""

import json
import os
import signal
import ssl
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import yaml

from e2e.embedded.errors import ComponentError
from e2e.embedded.network import LOCAL, NODE, SERVICES
from e2e.embedded.settings import Settings
from e2e.embedded.state import State, write_atomically, write_json
from e2e.embedded.waiting import wait_for

NODE_NAME = "local"  # of the first node; the others: local-2, local-3, ...
SERVER = "https://127.0.0.1:6443"
START_SECONDS = 60.0  # a cold machine with two busy cores; a warm one needs 10 in all
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Component:
    """A program with its log and, in `ready`, a URL that answers 200 once it works."""

    name: str
    command: list[str]
    ready: str


def control_plane(state: State, binaries: Path, settings: Settings) -> list[Component]:
    """In the order they are started: the API server's storage, the API server, then those that live from it."""
    pki = state.pki
    etcd = ["--data-dir", str(state.root / "etcd"), "--unsafe-no-fsync", "--log-level=warn"]
    etcd += [f"--{kind}-client-urls=http://127.0.0.1:2379" for kind in ("listen", "advertise")]
    api_server = [
        "--etcd-servers=http://127.0.0.1:2379",
        "--bind-address=0.0.0.0",
        f"--advertise-address={NODE}",
        "--secure-port=6443",
        f"--service-cluster-ip-range={SERVICES}",
        f"--tls-cert-file={pki / 'apiserver.pem'}",
        f"--tls-private-key-file={pki / 'apiserver.pem'}",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--service-account-key-file={pki / 'service-accounts.key'}",
        f"--service-account-signing-key-file={pki / 'service-accounts.key'}",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--authorization-mode=RBAC",
        "--allow-privileged=true",
        # The node is ready as soon as the node program says so: no taint that a controller takes off later.
        "--disable-admission-plugins=TaintNodesByCondition",
    ]
    controllers = [
        f"--kubeconfig={pki / 'controller-manager.kubeconfig'}",
        f"--service-account-private-key-file={pki / 'service-accounts.key'}",
        f"--root-ca-file={pki / 'ca.crt'}",
        "--use-service-account-credentials=true",
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
    ]
    scheduler = [f"--kubeconfig={pki / 'scheduler.kubeconfig'}", "--bind-address=127.0.0.1", "--leader-elect=false"]
    proxy = [f"--config={_proxy_configuration(state, settings)}"]
    return [
        Component("etcd", [str(binaries / "etcd"), *etcd], "http://127.0.0.1:2379/health"),
        Component("kube-apiserver", [str(binaries / "kube-apiserver"), *api_server], f"{SERVER}/readyz"),
        Component(
            "kube-controller-manager",
            [str(binaries / "kube-controller-manager"), *controllers],
            f"{SERVER}/api/v1/namespaces/default/serviceaccounts/default",
        ),
        Component("kube-scheduler", [str(binaries / "kube-scheduler"), *scheduler], "https://127.0.0.1:10259/readyz"),
        Component("kube-proxy", [str(binaries / "kube-proxy"), *proxy], "http://127.0.0.1:10256/healthz"),
        Component("node", [*python("e2e.embedded.node.app"), str(state.root)], f"{SERVER}/api/v1/nodes/{NODE_NAME}"),
    ]


def python(module: str) -> list[str]:
    """Runs `main()` of one of our modules, from any directory and without a PYTHONPATH that others would inherit."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from {module} import main; sys.exit(main())"
    return [sys.executable, "-c", code]


def start(component: Component, state: State) -> int:
    """Its process id. It has a session of its own, so that Ctrl-C on a terminal reaches only COMMAND."""
    log = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(state.log(component.name)), log, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    pid = os.posix_spawn(component.command[0], component.command, os.environ, file_actions=files, setsid=True)
    write_json(state.run(component.name), {"command": component.command, "ready": component.ready, "pid": pid})
    return pid


def await_ready(component: Component, pid: int, state: State) -> None:
    """Until the component answers; ComponentError with the end of its log when it ends or the deadline passes."""

    def answers() -> bool:
        ended_pid, status = os.waitpid(pid, os.WNOHANG)
        if ended_pid:
            raise ComponentError(ended(component.name, os.waitstatus_to_exitcode(status), state))
        return _answers(component.ready, state)

    try:
        wait_for(answers, START_SECONDS, f"{component.name} to be ready", every_seconds=0.05)
    except TimeoutError as late:
        raise ComponentError(f"{late}; {log_tail(component.name, state)}") from None


def restart(name: str, state: State) -> None:
    """Starts a component that `stop` has stopped, and waits until it is ready."""
    described = json.loads(state.run(name).read_text())
    component = Component(name, described["command"], described["ready"])
    await_ready(component, start(component, state), state)


def stop(name: str, state: State) -> None:
    """Ends a component at once and waits until it is gone.

    The control plane is killed (asked to end, an API server first waits a minute for its watchers); the node program is
    asked, because it takes its Pods along.
    """
    number = signal.SIGTERM if name == "node" else signal.SIGKILL
    described = json.loads(state.run(name).read_text())
    pid = described["pid"]
    write_json(state.run(name), {**described, "pid": 0})  # not a crash: nobody need be told
    os.kill(pid, number)
    wait_for(lambda: not running(pid), 30.0, f"{name} (process {pid}) to end")


def running_as(pid: int, state: State) -> str:
    """The component whose process this is, or was; empty if none, or if that was stopped on purpose."""
    described = {file.stem: json.loads(file.read_text()) for file in state.run("any").parent.glob("*.json")}
    return next((name for name, each in described.items() if each["pid"] == pid), "")


def running(pid: int) -> bool:
    """Whether a process exists and is not merely waiting to be collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def ended(name: str, status: int, state: State) -> str:
    """The one line that is printed when a component ends by itself."""
    return f"{name} ended with status {status}; {log_tail(name, state)}"


def log_tail(name: str, state: State, lines: int = 3) -> str:
    """Where a component's log is and how it ends."""
    log = state.log(name)
    last = log.read_text(errors="replace").strip().splitlines()[-lines:]
    return f"its log is {log}, last lines: {' | '.join(last) or '(empty)'}"


def _answers(url: str, state: State) -> bool:
    context = ssl.create_default_context(cafile=str(state.pki / "ca.crt"))
    if not url.startswith(SERVER):  # the scheduler makes itself a certificate; it listens on 127.0.0.1 only
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(state.pki / "admin.pem")
    try:
        with urllib.request.urlopen(url, timeout=2.0, context=context) as answer:  # noqa: S310 - our own constants
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _proxy_configuration(state: State, settings: Settings) -> Path:
    configuration = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "hostnameOverride": NODE_NAME,
        "clusterCIDR": LOCAL,
        "clientConnection": {"kubeconfig": str(state.pki / "proxy.kubeconfig")},
        "nftables": {"minSyncPeriod": f"{settings.service_sync_milliseconds}ms"},
        # The host's limits are not ours to change.
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "metricsBindAddress": "127.0.0.1:10249",
        "healthzBindAddress": "127.0.0.1:10256",
    }
    path = state.root / "kube-proxy.yaml"
    write_atomically(path, yaml.safe_dump(configuration))
    return path
