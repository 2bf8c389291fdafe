"""What the nodes run besides the control plane's programs, and kind itself: built once from Go modules.

Kubernetes is pinned at the embedded cluster's version, whose programs are used here too.
"""

from pathlib import Path

from e2e.embedded import binaries
from e2e.programs import Module, Toolset

MODULES = Path(__file__).parent / "tools"
CNI_PLUGINS = "github.com/containernetworking/plugins/plugins"

KUBELET = Module(MODULES / "kubelet", binaries.KUBERNETES.source, binaries.KUBERNETES.stamps)
KIND = Module(MODULES / "kind", "sigs.k8s.io/kind")
COREDNS = Module(MODULES / "coredns", "github.com/coredns/coredns")
CNI = Module(MODULES / "cni", "github.com/containernetworking/plugins")

TOOLSET = Toolset(
    "kind",
    {
        "kubelet": (KUBELET, "k8s.io/kubernetes/cmd/kubelet"),
        "kubeadm": (KUBELET, "k8s.io/kubernetes/cmd/kubeadm"),
        "kind": (KIND, "sigs.k8s.io/kind"),
        "ptp": (CNI, f"{CNI_PLUGINS}/main/ptp"),
        "loopback": (CNI, f"{CNI_PLUGINS}/main/loopback"),
        "host-local": (CNI, f"{CNI_PLUGINS}/ipam/host-local"),
        "portmap": (CNI, f"{CNI_PLUGINS}/meta/portmap"),
        "coredns": (COREDNS, "github.com/coredns/coredns"),
    },
)
