"""The node image, where no container registry is in reach: Debian, the programs built here, the control plane's images.

What goes into a node is named by a hash, so a second run makes nothing. Three images of the cluster are one: Debian
with packet filter tools, kube-proxy, and an init that reaps (catatonit). As `pause` it holds a pod's namespaces, as
`kube-proxy` it fills Services, as `switchboard-e2e/tools` it is the tests' clients and PBX.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.embedded import binaries
from e2e.embedded.waiting import wait_for
from e2e.kind import programs, settings
from e2e.kind.command import run, step, succeeds
from e2e.programs import cache

SUITE = "bookworm"  # its systemd and containerd run on cgroup v1 as well as v2
REGISTRY = "registry.k8s.io"
TOOLS = "switchboard-e2e/tools:1"
TOOLS_PACKAGES = "ca-certificates,catatonit,conntrack,curl,iproute2,iptables,kmod,nftables,python3-minimal"
NODE_PACKAGES = (
    "systemd,systemd-sysv,containerd,runc,iptables,nftables,iproute2,conntrack,socat,ethtool,kmod,procps,"
    "util-linux,mount,ca-certificates"
)
SLIM = (
    *("--variant=minbase", "--mode=root", "--aptopt=APT::Install-Recommends false"),
    *(f"--dpkgopt=path-exclude=/usr/share/{what}/*" for what in ("doc", "man", "locale", "info")),
    "--customize-hook=rm -rf $1/var/lib/apt/lists/* $1/var/cache/apt/*",
)
MASKED = (  # what a machine does and a container must not
    *("systemd-udevd.service", "systemd-udevd-kernel.socket", "systemd-udevd-control.socket"),
    *("systemd-udev-trigger.service", "systemd-logind.service", "systemd-networkd.service"),
    *("systemd-resolved.service", "systemd-timesyncd.service", "systemd-sysctl.service"),
    *("systemd-modules-load.service", "systemd-remount-fs.service", "systemd-binfmt.service"),
    *("systemd-update-utmp.service", "systemd-tmpfiles-clean.timer", "e2scrub_reap.service", "e2scrub_all.timer"),
    *("proc-sys-fs-binfmt_misc.automount", "getty.target", "console-getty.service", "getty@tty1.service"),
    *("dev-hugepages.mount", "dev-mqueue.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount"),
    *("sys-kernel-config.mount", "sys-fs-fuse-connections.mount", "apt-daily.timer", "apt-daily-upgrade.timer"),
    *("dpkg-db-backup.timer", "fstrim.timer", "nftables.service"),
)


def loaded_mark(name: str) -> str:
    """The file in a node that says it has the engine's present image of that name."""
    wanted = run("docker", "image", "inspect", "--format", "{{.Id}}", name).strip()
    return f"kind/loaded-{wanted.removeprefix('sha256:')}"


def tools() -> None:
    """Has the engine hold the tools' image."""
    if not succeeds("docker", "image", "inspect", TOOLS):
        with step("image of Debian's tools and kube-proxy"), tempfile.TemporaryDirectory(dir=cache()) as work:
            _make_tools(binaries.CONTROL_PLANE.ensure(), Path(work) / "tools.tar")


def node() -> str:
    """The name of the node image, made first where the engine does not have it."""
    built, control_plane = programs.TOOLSET.ensure(), binaries.CONTROL_PLANE.ensure()
    recipe = (built.name, control_plane.name, SUITE, TOOLS_PACKAGES, NODE_PACKAGES, SLIM, MASKED, TOOLS)
    wanted = hashlib.sha256(repr(recipe).encode())
    for file in sorted(path for path in (settings.HERE / "node").rglob("*") if path.is_file()):
        wanted.update(file.read_bytes())
    name = f"switchboard-e2e/node:{wanted.hexdigest()[:12]}"
    if not succeeds("docker", "image", "inspect", name):
        with tempfile.TemporaryDirectory(prefix="node-", dir=cache()) as work:
            _make_node(name, built, control_plane, Path(work))
    return name


def _make_node(name: str, built: Path, control_plane: Path, work: Path) -> None:
    with step("images of the control plane"):
        images = _control_plane_images(built, control_plane)
    root = work / "root"
    with step("a node's root file system"):
        _debian(root, NODE_PACKAGES)
        _furnish(root, built, control_plane)
    with step("the images into it"):
        _preload(root, [*images, TOOLS], work)
        (root / loaded_mark(TOOLS)).touch()
    with step(f"node image {name}"):
        _import(root, name)


def _debian(target: Path, packages: str, *options: str) -> None:
    run("mmdebstrap", *SLIM, *options, f"--include={packages}", SUITE, target, timeout_seconds=900)


def _make_tools(control_plane: Path, tar: Path) -> None:
    _debian(tar, TOOLS_PACKAGES, f"--customize-hook=copy-in {control_plane / 'kube-proxy'} /usr/local/bin")
    run("docker", "import", "--change", 'ENTRYPOINT ["/usr/bin/catatonit", "-P"]', tar, TOOLS)
    tar.unlink()


def _control_plane_images(built: Path, control_plane: Path) -> list[str]:
    """What kubeadm looks for, by the names that it looks for; some of them the tools' image."""
    wanted = run(built / "kubeadm", "config", "images", "list", "--kubernetes-version", version()).split()
    for image in wanted:
        program = image.rsplit("/", 1)[1].split(":")[0]
        if program in ("pause", "kube-proxy"):
            run("docker", "tag", TOOLS, image)
            continue
        directory = built if program == "coredns" else control_plane
        entry = ["--change", f'ENTRYPOINT ["/{program}"]'] if program == "coredns" else []
        _import_program(directory / program, ["--change", "ENV PATH=/", *entry, "-", image])
    return wanted


def _import_program(program: Path, how: list[str]) -> None:
    """An image of one static program and nothing else."""
    archive = ["tar", "--create", "--directory", str(program.parent), program.name]
    with subprocess.Popen(archive, stdout=subprocess.PIPE) as packed:
        subprocess.run(["docker", "import", *how], stdin=packed.stdout, check=True, capture_output=True)


def version() -> str:
    """Kubernetes', as v1.34.4."""
    text = (programs.KUBELET.directory / "go.mod").read_text()
    return next(line.split()[1] for line in text.splitlines() if line.strip().startswith("k8s.io/kubernetes "))


def _furnish(root: Path, built: Path, control_plane: Path) -> None:
    for program in (built / "kubelet", built / "kubeadm", control_plane / "kubectl"):
        shutil.copy(program, root / "usr/bin")
    plugins = root / "opt/cni/bin"
    plugins.mkdir(parents=True)
    for plugin in ("ptp", "loopback", "host-local", "portmap"):
        shutil.copy(built / plugin, plugins)
    for directory in ("etc/cni/net.d", "etc/kubernetes/manifests"):
        (root / directory).mkdir(parents=True)
    run("cp", "--recursive", "--preserve=mode", f"{settings.HERE / 'node'}/.", root)
    (root / "kind/version").write_text(version())
    journal = root / "etc/systemd/journald.conf.d/node.conf"
    journal.parent.mkdir(parents=True, exist_ok=True)
    journal.write_text("[Journal]\nReadKMsg=no\nStorage=volatile\n")
    systemctl = ("chroot", root, "systemctl", "--quiet")
    run(*systemctl, "set-default", "multi-user.target")
    run(*systemctl, "enable", "containerd", "kubelet", "dns-relay@udp", "dns-relay@tcp")
    run(*systemctl, "mask", *MASKED)


def _preload(root: Path, images: list[str], work: Path) -> None:
    """Unpacks the images where a node's containerd has them: in a running node's /var nothing could be built."""
    archive = work / "images.tar"
    run("docker", "save", "--output", archive, *images)
    with _containerd(root / "var/lib/containerd", work) as ctr:
        run(*ctr, "images", "import", "--all-platforms", "--snapshotter", "overlayfs", archive)
        run(*ctr, "content", "prune", "references")  # the packed copy of each layer that is unpacked now
    archive.unlink()


@contextmanager
def _containerd(data: Path, work: Path) -> Iterator[tuple[str, ...]]:
    """A containerd of our own for as long as the block runs: the words that a command to it begins with."""
    socket, configuration, state = work / "containerd.sock", work / "containerd.toml", work / "state"
    configuration.write_text(
        f'version = 2\nroot = "{data}"\nstate = "{state}"\n'
        f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\n  address = "{socket}"\n'
    )
    with (work / "containerd.log").open("wb") as log:
        process = subprocess.Popen(["containerd", "--config", str(configuration)], stdout=log, stderr=log)
    ctr = ("ctr", "--address", str(socket), "--namespace", "k8s.io")
    try:
        wait_for(lambda: succeeds(*ctr, "version"), 30, f"containerd ({work}/containerd.log)")
        yield ctr
    finally:
        process.terminate()
        process.wait(30)


def _import(root: Path, name: str) -> None:
    changes = (
        "ENV container=docker PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]',
    )
    how = [word for change in changes for word in ("--change", change)]
    archive = ["tar", "--create", "--directory", str(root), "--numeric-owner", "--xattrs", "--sparse", "."]
    with subprocess.Popen(archive, stdout=subprocess.PIPE) as packed:
        subprocess.run(["docker", "import", *how, "-", name], stdin=packed.stdout, check=True, capture_output=True)
