"""Every error that Switchboard raises on purpose.

SwitchboardError
├── SpecError            a VoipProxyPool asks for something that cannot be done
├── ConfigurationError   a process was started wrongly: environment, file, certificate
├── LinkError            the other end of a link did not keep to the protocol
│   ├── ProtocolMismatchError  it speaks another protocol version
│   ├── MessageError           a message is malformed, too large, or for another pool
│   ├── StaleTermError         its sender no longer holds the Lease, or its table is older than the one in effect
│   └── LinkLostError          the connection ended
├── KamailioError        Kamailio's control socket refused a command or did not answer
└── RtpengineError       rtpengine refused a command or did not answer

Each message says what was wrong, where, and what to do about it; conditions and Events carry the same words.
"""


class SwitchboardError(Exception):
    """Base of all errors raised on purpose."""


class SpecError(SwitchboardError):
    """A VoipProxyPool that the API server accepted asks for something that cannot be done.

    `reason` is CamelCase, for the Stalled condition and its Event (Kubernetes API conventions).
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ConfigurationError(SwitchboardError):
    """A process was started with an environment, file or certificate that it cannot work with."""


class LinkError(SwitchboardError):
    """The other end of a link did not keep to the protocol, or went away."""


class ProtocolMismatchError(LinkError):
    """The other end speaks another version of the link protocol."""


class MessageError(LinkError):
    """A message is malformed, too large, or meant for another pool."""


class StaleTermError(LinkError):
    """The sender's term is lower than one already seen, or its table older than the one in effect."""


class LinkLostError(LinkError):
    """The connection ended or stayed silent for too long."""


class KamailioError(SwitchboardError):
    """Kamailio's control socket refused a command or did not answer."""


class RtpengineError(SwitchboardError):
    """rtpengine refused a command or did not answer."""
