"""Hosts behind a router that translates addresses, and sockets in their network namespaces.

Only inside namespaces that the run has made itself (e2e/embedded/network.py).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from e2e.embedded.network import NAMESPACES, add_host

CLONE_NEWNET = 0x40000000  # <sched.h>
INSIDE = "198.19.1"  # the same behind every router, as private addresses are
HOST = f"{INSIDE}.2"
_libc = ctypes.CDLL(None, use_errno=True)


def home(name: str, address: str, forget_seconds: int = 30) -> str:
    """A host of that name, at HOST behind a router at `address`, as home routers are: it translates what goes out, lets
    in what answers that, and forgets a UDP flow that was silent for `forget_seconds`. Returns the host's namespace.
    """
    router = f"{name}-router"
    _run(
        add_host(router, address),
        "ip link add lan type veth peer name wan0",
        f"ip address add {INSIDE}.1/24 dev lan",
        "ip link set lan up",
        "echo 1 > /proc/sys/net/ipv4/ip_forward",
        "nft add table ip nat",
        "nft add chain ip nat out '{ type nat hook postrouting priority 100; }'",
        "nft add rule ip nat out oifname eth0 masquerade random",
        "nft add table ip filter",
        "nft add chain ip filter forward '{ type filter hook forward priority 0; policy drop; }'",
        "nft add rule ip filter forward ct state established,related accept",
        "nft add rule ip filter forward iifname lan accept",
        f"echo {forget_seconds} > /proc/sys/net/netfilter/nf_conntrack_udp_timeout",
        f"echo {forget_seconds} > /proc/sys/net/netfilter/nf_conntrack_udp_timeout_stream",
    )
    _run([], f"ip netns add {name}", f"ip -n {router} link set wan0 netns {name} name eth0")
    _run(
        ["ip", "netns", "exec", name],
        "ip link set lo up",
        "ip link set eth0 up",
        f"ip address add {HOST}/24 dev eth0",
        f"ip route add default via {INSIDE}.1",
    )
    return name


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Sockets that this thread makes meanwhile are in that network namespace, and stay there."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    other = os.open(NAMESPACES / namespace, os.O_RDONLY)
    try:
        _enter(other)
        try:
            yield
        finally:
            _enter(own)
    finally:
        os.close(own)
        os.close(other)


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns: cannot enter the network namespace")


def _run(prefix: list[str], *lines: str) -> None:
    script = "set -eu\n" + "\n".join(lines)
    subprocess.run([*prefix, "sh", "-c", script], check=True, cwd=Path("/"))
