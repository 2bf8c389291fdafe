"""What the containers of one Pod share: an address, perhaps a process namespace, and that all of it goes in the end."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from e2e.embedded import network
from e2e.embedded.errors import PodSetupError
from e2e.embedded.node.images import Image
from e2e.embedded.node.model import Container, Pod
from e2e.embedded.node.process import Process
from e2e.embedded.requirements import program
from e2e.embedded.state import State


@dataclass(frozen=True)
class Mount:
    """A file or directory of the node, at a place in the container."""

    source: Path
    target: str
    read_only: bool


class Addresses:
    """Pod addresses, handed out in turn, so that one just given back is not used again at once."""

    def __init__(self) -> None:
        self._used: set[str] = set()
        self._turn = self._forever()

    def take(self) -> str:
        """A free one."""
        address = next(candidate for candidate in self._turn if candidate not in self._used)
        self._used.add(address)
        return address

    def give_back(self, address: str) -> None:
        """No longer in use."""
        self._used.discard(address)

    @staticmethod
    def _forever() -> Iterator[str]:
        while True:
            yield from (str(address) for address in network.PODS.hosts())


class Sandbox:
    """Made before a Pod's first container, removed after its last."""

    def __init__(self, state: State, pod: Pod, address: str) -> None:
        self.address = address
        metadata = pod.metadata
        self._pod = pod
        self._state = state
        self._network = f"{metadata.namespace}.{metadata.name}.{metadata.uid[:8]}"
        self._layers = state.layers / metadata.uid
        self._files = state.root / "files" / metadata.uid
        self._pause: Process | None = None

    async def make(self) -> None:
        """Network and process namespace; what a killed node program has left of the same Pod goes first."""
        if (network.NAMESPACES / self._network).exists():
            await asyncio.to_thread(self._remove)
        self._files.mkdir(parents=True, exist_ok=True)
        (self._files / "hostname").write_text(self.hostname + "\n")
        servers = "".join(f"nameserver {server}\n" for server in self._pod.spec.dns_config.nameservers)
        (self._files / "resolv.conf").write_text(servers)
        self.write_hosts({})
        await asyncio.to_thread(network.attach, self._network, self.address)
        if self._pod.spec.share_process_namespace:
            # Its first process ignores SIGCHLD: the kernel then collects every orphan of the Pod.
            first = [program("env"), "--ignore-signal=CHLD", program("sleep"), "infinity"]
            pause = [program("bwrap"), "--dev-bind", "/", "/", "--unshare-pid", "--as-pid-1", "--die-with-parent"]
            pause += ["--json-status-fd", "{status}", "--", *first]
            self._pause = await Process.start(pause, os.environ, self._files / "pause.log", depth=1)

    @property
    def hostname(self) -> str:
        """As the Pod's containers see it."""
        return self._pod.spec.hostname or self._pod.metadata.name

    def write_hosts(self, services: Mapping[str, str]) -> None:
        """/etc/hosts, in place of DNS: the Pod and the Services (name: address). Written in place: it is mounted."""
        lines = ["127.0.0.1 localhost", f"{self.address} {self.hostname}"]
        lines += [f"{alias.ip} {' '.join(alias.hostnames)}" for alias in self._pod.spec.host_aliases]
        own = self._pod.metadata.namespace
        for name, address in sorted(services.items()):
            service, _, namespace = name.partition(".")
            short = f" {service}" if namespace == own else ""
            lines.append(f"{address} {name}.svc.cluster.local {name}.svc {name}{short}")
        (self._files / "hosts").write_text("\n".join(lines) + "\n")

    async def start(
        self,
        container: Container,
        image: Image,
        command: list[str],
        environment: Mapping[str, str],
        mounts: list[Mount],
    ) -> Process:
        """A container, on a fresh layer over its image."""
        log = self._state.pod(self._pod.metadata.namespace, self._pod.metadata.name) / f"{container.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        every = [Mount(Path(source), target, read_only=True) for source, target in image.binds.items()]
        every += [
            Mount(self._files / name, f"/etc/{name}", read_only=False) for name in ("hosts", "hostname", "resolv.conf")
        ]
        every += mounts
        every = [replace(mount, target=inside(Path(image.root), mount.target)) for mount in every]
        try:
            root = await asyncio.to_thread(self._layer, container.name, image, every)
        except OSError as error:  # such as a root file system that belongs to another user
            message = f"nothing can be mounted in the image {image.root}: {error}; does it belong to another user?"
            raise PodSetupError("Failed", message) from error
        prefix = network.enter(self._network)
        depth = 1
        if self._pause:
            # Mounting /proc for the Pod's process namespace takes a mount namespace of its own first.
            own_proc = [program("unshare"), "--mount", "--mount-proc", "--"]
            prefix = [*prefix[:-1], f"--pid=/proc/{self._pause.pid}/ns/pid", "--", *own_proc]
            depth = 2
        words = [*prefix, *self._bubblewrap(container, root, every), "--", *command]
        return await Process.start(words, environment, log, depth)

    def _bubblewrap(self, container: Container, root: Path, mounts: list[Mount]) -> list[str]:
        pod, own = self._pod.spec.security_context, container.security_context
        user = own.run_as_user if own.run_as_user is not None else pod.run_as_user or 0
        group = own.run_as_group if own.run_as_group is not None else pod.run_as_group or user
        words = [program("bwrap"), "--unshare-user", "--uid", str(user), "--gid", str(group), "--cap-drop", "ALL"]
        words += ["--unshare-uts", "--hostname", self.hostname, "--die-with-parent", "--json-status-fd", "{status}"]
        words += ["--bind", str(root), "/"]
        if self._pause:
            words += ["--bind", "/proc", "/proc"]
        else:
            words += ["--unshare-pid", "--as-pid-1", "--proc", "/proc"]
        words += ["--dev", "/dev", "--ro-bind", "/sys", "/sys"]
        for mount in sorted(mounts, key=lambda mount: mount.target.count("/")):
            words += ["--ro-bind" if mount.read_only else "--bind", str(mount.source), mount.target]
        if own.read_only_root_filesystem:
            words += ["--remount-ro", "/"]
        return [*words, "--chdir", container.working_dir or "/"]

    def _layer(self, name: str, image: Image, mounts: list[Mount]) -> Path:
        """An overlay over the image, with the places to mount things on, as container runtimes make them."""
        if not Path(image.root).is_dir():
            raise PodSetupError("Failed", f"the image's root file system {image.root} is not a directory")
        layer = self._layers / name
        self._remove_layer(layer)
        for part in ("upper", "work", "root"):
            (layer / part).mkdir(parents=True)
        options = f"lowerdir={image.root},upperdir={layer / 'upper'},workdir={layer / 'work'},userxattr"
        command = [program("mount"), "-t", "overlay", "overlay", "-o", options, str(layer / "root")]
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
        if mounted.returncode != 0:
            raise PodSetupError("Failed", f"no overlay over {image.root}: {mounted.stderr.strip()}")
        for place in [*(Mount(Path("/"), each, read_only=True) for each in ("/proc", "/dev", "/sys")), *mounts]:
            where = layer / "root" / place.target.lstrip("/")
            if where.is_symlink():  # /etc/resolv.conf often is
                where.unlink()
            if place.source.is_dir():
                where.mkdir(parents=True, exist_ok=True)
            elif not where.exists():
                where.parent.mkdir(parents=True, exist_ok=True)
                where.touch()
        return layer / "root"

    @staticmethod
    def _remove_layer(layer: Path) -> None:
        if layer.exists():
            subprocess.run([program("umount"), "--lazy", str(layer / "root")], check=False, capture_output=True)
            shutil.rmtree(layer, ignore_errors=True)

    async def remove(self) -> None:
        """Every process, the network, the layers."""
        if self._pause:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pause.pid, signal.SIGKILL)
            await self._pause.exited
        await asyncio.to_thread(self._remove)

    def _remove(self) -> None:
        network.detach(self._network, self.address)
        for layer in self._layers.glob("*"):
            self._remove_layer(layer)
        shutil.rmtree(self._layers, ignore_errors=True)
        shutil.rmtree(self._files, ignore_errors=True)


def inside(root: Path, target: str) -> str:
    """Where a path leads in the file system `root`: links in its directories are followed as from within.

    /var/run, for one, is a link to /run, which must not lead to the node's own.
    """
    path = Path("/")
    *directories, last = [part for part in Path(target).parts if part != "/"]
    for number, part in enumerate(directories):
        here = root / path.relative_to("/") / part
        if here.is_symlink():
            linked = Path(os.path.normpath(path / here.readlink()))
            return inside(root, str(linked.joinpath(*directories[number + 1 :], last)))
        path /= part
    return str(path / last)
