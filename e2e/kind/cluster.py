"""The cluster: one control-plane node and two workers, made by kind.

With a container registry in reach the nodes are kind's own image and network plugin; without one they are ours
(images.py), and their pods are joined here: a range per node, a static route per range. The host has those routes too,
so that a test can send to a pod's own address.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from e2e.embedded import binaries
from e2e.embedded.waiting import wait_for
from e2e.kind import engine, images, programs, settings
from e2e.kind.command import run, step, succeeds
from e2e.kind.errors import KindError
from e2e.programs import cache

STOCK_NODE = "kindest/node:v1.34.0"
CONFIGURATION: dict[str, Any] = {
    "kind": "Cluster",
    "apiVersion": "kind.x-k8s.io/v1alpha4",
    "name": settings.CLUSTER,
    "networking": {
        "ipFamily": "ipv4",
        "apiServerAddress": "127.0.0.1",
        "podSubnet": settings.POD_RANGE,
        "serviceSubnet": settings.SERVICE_RANGE,
    },
    "nodes": [{"role": "control-plane"}, {"role": "worker"}, {"role": "worker"}],
}
KUBELET = {"kind": "KubeletConfiguration", "apiVersion": "kubelet.config.k8s.io/v1beta1", "cgroupDriver": "cgroupfs"}
READY_SECONDS = 180


def environment() -> None:
    """Where kubectl, Helm and kind find the cluster, for this process and all it starts."""
    found = [str(binaries.CONTROL_PLANE.ensure()), str(programs.TOOLSET.ensure()), os.environ["PATH"]]
    os.environ.update(
        KUBECONFIG=str(settings.KUBECONFIG),
        PATH=os.pathsep.join(found),
        KIND_EXPERIMENTAL_DOCKER_NETWORK=settings.NETWORK,
        KUBECACHEDIR=str(settings.STATE / "kubectl-cache"),
    )


def up() -> None:
    """A cluster whose nodes are ready; the one that runs, if one does."""
    engine.start()
    environment()
    if exists():
        print(f"kind: cluster {settings.CLUSTER} runs already")
        return
    settings.STATE.mkdir(parents=True, exist_ok=True)
    stock = registry_in_reach()
    print(f"kind: {'a' if stock else 'no'} container registry is in reach", flush=True)
    images.tools()
    image = STOCK_NODE if stock else images.node()
    configuration = CONFIGURATION
    if not stock:
        networking = {**CONFIGURATION["networking"], "disableDefaultCNI": True}
        patches = {"kubeadmConfigPatches": [json.dumps(KUBELET)]}
        configuration = {**CONFIGURATION, "networking": networking, **patches}
    with step(f"creating cluster {settings.CLUSTER} of {len(settings.NODES)} nodes"):
        run(
            *("kind", "create", "cluster", "--image", image, "--config", "-", "--retain"),
            stdin=json.dumps(configuration),
            timeout_seconds=420,
        )
        if not stock:
            join()
        routes_from_here()
    with step("nodes and DNS ready"):
        run("kubectl", "wait", "--for=condition=Ready", "nodes", "--all", f"--timeout={READY_SECONDS}s")
        run("kubectl", "-n", "kube-system", "rollout", "status", "deployment/coredns", f"--timeout={READY_SECONDS}s")


def down() -> None:
    """The cluster's end, and the engine's where it was started here."""
    if engine.runs():
        environment()
        for pods, _ in addresses() if exists() else ():
            subprocess.run(["ip", "route", "del", pods], check=False, capture_output=True)
        run("kind", "delete", "cluster", "--name", settings.CLUSTER)
    settings.KUBECONFIG.unlink(missing_ok=True)


def exists() -> bool:
    """Whether the cluster was made, whatever state it is in now."""
    return settings.CLUSTER in run("kind", "get", "clusters").split()


def registry_in_reach() -> bool:
    """Whether the engine can get kind's own node image."""
    return succeeds("docker", "image", "inspect", STOCK_NODE) or succeeds("docker", "pull", "--quiet", STOCK_NODE)


def load(*names: str) -> None:
    """Puts images of the engine into every node; a node that has one already is left alone."""
    for name in names:
        mark = f"/{images.loaded_mark(name)}"
        lacking = [node for node in settings.NODES if not succeeds("docker", "exec", node, "test", "-e", mark)]
        if not lacking:
            continue
        with step(f"image {name} into the nodes"), tempfile.NamedTemporaryFile(dir=cache()) as archive:
            run("docker", "save", "--output", archive.name, name)
            importing = [(node, _import(node, archive.name)) for node in lacking]
            for node, process in importing:
                if process.wait() != 0:
                    raise KindError(f"containerd of {node} could not import {name}")
                run("docker", "exec", node, "touch", mark)


def _import(node: str, archive: str) -> subprocess.Popen[bytes]:
    ctr = ("ctr", "--namespace", "k8s.io", "images", "import", "--snapshotter", "overlayfs", "-")
    with Path(archive).open("rb") as packed:
        return subprocess.Popen(
            ["docker", "exec", "--interactive", node, *ctr], stdin=packed, stdout=subprocess.DEVNULL
        )


def addresses() -> list[tuple[str, str]]:
    """Of each node: its pods' range and its own address."""
    nodes = json.loads(run("kubectl", "get", "nodes", "--output", "json"))["items"]
    return [
        (node["spec"].get("podCIDR", ""), address["address"])
        for node in nodes
        for address in node["status"].get("addresses", ())
        if address["type"] == "InternalIP"
    ]


def join() -> None:
    """Gives every node its pods' network and the way to the others'; a node that was started again needs it again."""

    def known() -> list[tuple[str, str]]:
        found = addresses()
        return found if len(found) == len(settings.NODES) and all(pods for pods, _ in found) else []

    nodes = wait_for(known, READY_SECONDS, "a range of pod addresses for every node", every_seconds=1)
    for name in settings.NODES:
        own = run("docker", "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name)
        for pods, address in nodes:
            if address != own.strip():
                run("docker", "exec", name, "ip", "route", "replace", pods, "via", address)
                continue
            # A pod's own route goes first. To one that is gone packets would go round between node and machine.
            run("docker", "exec", name, "ip", "route", "replace", "unreachable", pods)
            target = "/etc/cni/net.d/10-switchboard.conflist"
            run("docker", "exec", "--interactive", name, "tee", target, stdin=json.dumps(plugins(pods)))


def plugins(pods: str) -> dict[str, Any]:
    """A node's network plugins: a point-to-point link per pod, without masquerading, and host ports."""
    ranges = {"routes": [{"dst": "0.0.0.0/0"}], "ranges": [[{"subnet": pods}]], "dataDir": "/run/cni"}
    link = {"type": "ptp", "ipMasq": False, "mtu": settings.MTU, "ipam": {"type": "host-local", **ranges}}
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": "switchboard", "plugins": [link, ports]}


def routes_from_here() -> None:
    for pods, address in addresses():
        run("ip", "route", "replace", pods, "via", address)
