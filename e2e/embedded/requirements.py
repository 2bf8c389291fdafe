"""What the machine must have before a cluster is tried, each lack told in one line that says what to do."""

import shutil
import subprocess
from pathlib import Path

from e2e.errors import RequirementError

PROGRAMS = {
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "mount": "mount",
    "ip": "iproute2",
    "nft": "nftables",
    "conntrack": "conntrack",
    "bwrap": "bubblewrap",
}

# Debian keeps ip and nft in /usr/sbin, which is not on every user's PATH.
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def program(name: str) -> str:
    """The full path of a program that the machine must have."""
    found = shutil.which(name) or shutil.which(name, path=SYSTEM_PATH)
    if found is None:
        package = PROGRAMS.get(name, name)
        raise RequirementError(f"the program `{name}` is missing: apt-get install {package}")
    return found


def check() -> None:
    """Raises RequirementError for the first thing that is missing."""
    for name in PROGRAMS:
        program(name)
    for clone, hint in (
        (Path("/proc/sys/kernel/unprivileged_userns_clone"), "sysctl -w kernel.unprivileged_userns_clone=1"),
        (Path("/proc/sys/user/max_user_namespaces"), "sysctl -w user.max_user_namespaces=10000"),
    ):
        if clone.exists() and clone.read_text().strip() == "0":
            raise RequirementError(f"user namespaces are switched off on this machine; as root: {hint}")
    probe = [program("unshare"), "--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--mount-proc"]
    tried = subprocess.run([*probe, "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        raise RequirementError(
            f"this user may not make namespaces ({tried.stderr.strip()}); in a container, start it with "
            "--privileged; with AppArmor: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
        )
