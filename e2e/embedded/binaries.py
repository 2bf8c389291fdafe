"""The control plane's programs, built once from their Go modules."""

from pathlib import Path

from e2e.programs import Module, Toolset

MODULES = Path(__file__).parent / "tools"

KUBERNETES = Module(
    MODULES / "kubernetes",
    "k8s.io/kubernetes",
    tuple(
        f"{owner}.{stamp}"
        for owner in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
        for stamp in ("gitVersion={version}", "gitMajor=1", "gitMinor={minor}")
    ),
)
ETCD = Module(MODULES / "etcd", "go.etcd.io/etcd/server/v3")

CONTROL_PLANE = Toolset(
    "kubernetes",
    {
        "kube-apiserver": (KUBERNETES, "k8s.io/kubernetes/cmd/kube-apiserver"),
        "kube-controller-manager": (KUBERNETES, "k8s.io/kubernetes/cmd/kube-controller-manager"),
        "kube-scheduler": (KUBERNETES, "k8s.io/kubernetes/cmd/kube-scheduler"),
        "kube-proxy": (KUBERNETES, "k8s.io/kubernetes/cmd/kube-proxy"),
        "kubectl": (KUBERNETES, "k8s.io/kubernetes/cmd/kubectl"),
        "etcd": (ETCD, "go.etcd.io/etcd/server/v3"),
    },
)
