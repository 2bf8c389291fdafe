"""The life of a pool's proxies in the embedded cluster: scaled, rolled, drained, killed, handed over, with calls up."""

from tests.cluster.conftest import installed, kube, make_pool, pool

__all__ = ["installed", "kube", "make_pool", "pool"]
