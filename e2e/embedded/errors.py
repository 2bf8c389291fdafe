"""Every error that the embedded cluster raises on purpose.

EmbeddedError
├── ComponentError       a program of the control plane did not start, or ended
├── DeadlineError        something that was waited for did not happen in time
├── ImageError           a Pod names an image that the cluster has not been given
├── ApiError             the API server refused a request or did not answer
└── PodSetupError        a Pod's network, volume or environment cannot be made yet; it is tried again

Each message says what was wrong and what to do about it, in one line.
"""

from e2e.errors import E2eError


class EmbeddedError(E2eError):
    """Base of the embedded cluster's own errors."""


class ComponentError(EmbeddedError):
    """A program of the control plane did not start, or ended."""


class DeadlineError(EmbeddedError, TimeoutError):
    """Something that was waited for did not happen in time."""


class ImageError(EmbeddedError):
    """A Pod names an image that the cluster has not been given."""


class ApiError(EmbeddedError):
    """The API server refused a request; `status` is the HTTP status, 0 when it did not answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    @property
    def passing(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status == 0 or self.status == 429 or self.status >= 500  # noqa: PLR1714 - three different cases


class PodSetupError(EmbeddedError):
    """A Pod's network, volume or environment cannot be made yet; `reason` is the Event's."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
