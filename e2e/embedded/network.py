"""The cluster's network: one node, a network namespace for each pod and each host outside the cluster.

Everything is inside the cluster's own network namespace, where 198.18.0.0/15 ends (`unreachable`): nothing can leave.
Pods and hosts hang on point-to-point links, as the CNI plugin `ptp` makes them: all their traffic passes the node, so
that kube-proxy's rewriting holds both ways and every packet has its sender's own address. (Plain addresses on one host
would all look like the destination talking to itself.)
"""

import ipaddress
import json
import subprocess
from pathlib import Path

from e2e.embedded.errors import EmbeddedError
from e2e.embedded.requirements import program

ALL = "198.18.0.0/15"
PODS = ipaddress.ip_network("198.18.0.0/17")
HOSTS = ipaddress.ip_network("198.18.128.0/17")  # phones, gateways, PBXs
NODE = ipaddress.ip_address("198.18.255.254")
LOCAL = "198.18.0.0/16"  # pods and hosts: kube-proxy leaves their source addresses alone
SERVICES = ipaddress.ip_network("198.19.0.0/16")
API_SERVICE = SERVICES[1]
NAMESPACES = Path("/run/netns")


def make_node() -> None:
    """Called once, as the first thing in a fresh network namespace."""
    _ip(
        f"link set lo up\naddr add {NODE}/32 dev lo\nroute add unreachable {ALL}\n"
        # Any route will do for Services: kube-proxy rewrites the destination.
        f"route add {SERVICES} dev lo src {NODE}\n"
    )
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    # `ip netns` wants /run/netns; a user who is not root has to cover all of /run to get it.
    where = NAMESPACES if NAMESPACES.is_dir() else NAMESPACES.parent
    subprocess.run([program("mount"), "-t", "tmpfs", "tmpfs", str(where)], check=True)
    NAMESPACES.mkdir(exist_ok=True)


def attach(name: str, address: str) -> None:
    """Makes the network namespace `name`, reachable at `address`."""
    link = _link(address)
    _ip(f"netns add {name}\nlink add {link} type veth peer name eth0 netns {name}\n")
    _ip(
        f"link set lo up\nlink set eth0 up\naddr add {address}/32 dev eth0\n"
        f"route add {NODE} dev eth0 scope link\nroute add default via {NODE} dev eth0\n",
        name,
    )
    _ip(f"link set {link} up\nroute add {address}/32 dev {link}\n")
    # Containers may listen on any port, as container runtimes let them.
    low_ports = "echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start"
    subprocess.run([*enter(name), "/bin/sh", "-c", low_ports], check=True)


def detach(name: str, address: str) -> None:
    """Removes what `attach` made; what is already gone is not missed."""
    subprocess.run([program("ip"), "link", "delete", _link(address)], check=False, capture_output=True)
    subprocess.run([program("ip"), "netns", "delete", name], check=False, capture_output=True)


def enter(name: str) -> list[str]:
    """What to put before a command so that it runs in the network namespace `name`."""
    return [program("nsenter"), f"--net={NAMESPACES / name}", "--"]


def add_host(name: str, address: str) -> list[str]:
    """A host outside the cluster, such as a phone or a PBX; returns what to put before commands that run on it.

    The same name and address again are the same host.
    """
    if ipaddress.ip_address(address) not in HOSTS or ipaddress.ip_address(address) == NODE:
        raise EmbeddedError(
            f"host {name}: {address} is not in {HOSTS}, where hosts outside the cluster have their addresses"
        )
    if not (NAMESPACES / name).exists():
        attach(name, address)
    elif _address(name) != address:
        raise EmbeddedError(f"host {name} exists with another address: choose another name, or remove_host first")
    return enter(name)


def remove_host(name: str) -> None:
    """The host's namespace goes; processes still in it keep running without a network."""
    if (NAMESPACES / name).exists():
        detach(name, _address(name))


def _address(name: str) -> str:
    """Of a host that exists."""
    command = [program("ip"), "-n", name, "-json", "-4", "address", "show", "dev", "eth0"]
    shown = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return str(shown[0]["addr_info"][0]["local"])


def _link(address: str) -> str:
    """Interface names are short: v and the address in hex."""
    return f"v{int(ipaddress.ip_address(address)):08x}"


def _ip(batch: str, namespace: str | None = None) -> None:
    where = ["-n", namespace] if namespace else []
    command = [program("ip"), *where, "-batch", "-"]
    ran = subprocess.run(command, input=batch, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        raise EmbeddedError(f"`{' '.join(command)}` refused: {ran.stderr.strip()}")
