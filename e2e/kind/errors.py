"""What can go wrong with a kind cluster, besides e2e.errors."""

from e2e.errors import E2eError


class KindError(E2eError):
    """The engine, an image or the cluster is not as it should be; the message says which, and where to look."""
