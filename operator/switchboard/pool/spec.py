"""What a VoipProxyPool asks for, as frozen types; `pool.parse` makes them from the resource."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Policy = Literal["first", "least", "weighted"]
Mode = Literal["forward", "redirect"]
GatewayKind = Literal["voip", "pstn", "media", "router", "h323"]
Plus = Literal["keep", "add", "remove"]
Transport = Literal["UDP", "TCP", "TLS", "WS", "WSS"]
ClientCertificates = Literal["none", "optional", "required"]
DigestAlgorithm = Literal["SHA-256", "MD5"]
ServiceType = Literal["ClusterIP", "NodePort", "LoadBalancer"]
Family = Literal["IPv4", "IPv6"]
FamilyPolicy = Literal["SingleStack", "PreferDualStack", "RequireDualStack"]


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """What 100 % workload means for one proxy; workload is the highest of the shares."""

    calls: int
    cpu_cores: float | None = None
    bandwidth_bits_per_second: int | None = None


class Sharing(msgspec.Struct, frozen=True, kw_only=True):
    """How workload data goes round: periodically, and at once when a share moved by `change`."""

    period_seconds: float = 0.5
    change: float = 0.02  # share of capacity, 0..1
    stale_after_seconds: float = 3.0


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """How the primary assigns, and what a client is told when every proxy is at the threshold."""

    policy: Policy = "first"
    mode: Mode = "forward"
    max_hops: int = 5
    saturated_status: int = 503
    saturated_retry_after_seconds: int = 2


class ClientMode(msgspec.Struct, frozen=True, kw_only=True):
    """By which mode clients of `networks` are served (CIDR; none: of any) that have one of `user_agents` in their
    User-Agent header, whatever its case (none: with any).
    """

    mode: Mode
    networks: tuple[str, ...] = ()
    user_agents: tuple[str, ...] = ()


ENTRY_OFFSET = 10000  # as in proxy/bin/kamailio


class Listener(msgspec.Struct, frozen=True, kw_only=True):
    """A port for SIP. Where its transport is encrypted, `secret_name` is the Secret with certificate and key.

    `advertise`: the host by which clients of another network know the proxies; it may have `{pod}` and `{node}` in it.
    """

    transport: Transport
    port: int
    secret_name: str = ""
    client_certificates: ClientCertificates = "none"
    advertise: str = ""

    @property
    def encrypted(self) -> bool:
        return self.transport in ("TLS", "WSS")

    @property
    def protocol(self) -> Literal["UDP", "TCP"]:
        """What carries it: the protocol of its port in Kubernetes."""
        return "UDP" if self.transport == "UDP" else "TCP"

    @property
    def entry_port(self) -> int:
        """Where the Service sends what it gets for this listener: for UDP, a port of its own.

        A client speaks to its primary through the Service, and inside dialogs directly. Were both at one port, the node
        could tell them apart only by giving the client another port in one of them, which no answer reaches any more
        once the Service has moved on.
        """
        if self.protocol == "TCP":  # each connection has a port of its own
            return self.port
        return self.port + ENTRY_OFFSET if self.port <= 65535 - ENTRY_OFFSET else self.port - ENTRY_OFFSET

    @property
    def ports(self) -> tuple[int, ...]:
        """All that a proxy listens on for it."""
        return (self.port,) if self.entry_port == self.port else (self.port, self.entry_port)


class Autoscaling(msgspec.Struct, frozen=True, kw_only=True):
    """How many proxies there are is decided by their workload; `headroom` is the share of their places kept free."""

    min: int
    max: int
    headroom: float = 0.25  # 0..1
    scale_down_after_seconds: int = 300


class Expose(msgspec.Struct, frozen=True, kw_only=True):
    """How clients reach the Service, and which host a proxy gives as its own.

    `advertise`: PodIP; NodeIP, for which the proxies use their node's network; or a host name with `{pod}` in it.
    """

    type: ServiceType = "ClusterIP"
    annotations: dict[str, str] = {}
    advertise: str = "PodIP"
    families: tuple[Family, ...] = ("IPv4",)
    family_policy: FamilyPolicy = "SingleStack"

    @property
    def host_network(self) -> bool:
        return self.advertise == "NodeIP"

    def host_name(self, pod: str) -> str:
        """What this pod advertises instead of its address; "" where it is the address."""
        return "" if self.advertise in ("PodIP", "NodeIP") else self.advertise.replace("{pod}", pod)


class Media(msgspec.Struct, frozen=True, kw_only=True):
    enabled: bool = True
    port_min: int = 20000
    port_max: int = 24999
    timeout_seconds: int = 60


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Where calls to `domain` (empty: any) whose user part starts with `prefix` go: to SIP URIs, tried in order, or to
    a gateway's targets. Routes that fit equally well are alternatives, by priority and weight as in RFC 2782.
    """

    name: str
    prefix: str = ""
    domain: str = ""
    priority: int = 1
    weight: int = 1
    targets: tuple[str, ...] = ()
    gateway: str = ""  # its name, instead of targets


class HealthChecks(msgspec.Struct, frozen=True, kw_only=True):
    """OPTIONS to each target of a route, from every proxy, once in a period; 0: none.

    A target that has failed `threshold` checks in a row is asked for a call only when no other is left.
    """

    period_seconds: int = 10
    threshold: int = 2


class Rights(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway may do; calls are those that come from it."""

    prefixes: tuple[str, ...] = ()  # of the numbers it may call, as the pool writes them; none: any
    register: bool = True
    priority: bool = False  # its Resource-Priority counts
    video: bool = True  # in both directions
    max_calls: int | None = None  # at a time, in the whole pool
    max_calls_per_second: int | None = None


class Urgent(msgspec.Struct, frozen=True, kw_only=True):
    """Calls that may use the room above the threshold, up to full capacity: to these users (and to `urn:service:sos`),
    and with these values of Resource-Priority (RFC 4412), where a gateway has the right to give one.
    """

    numbers: tuple[str, ...] = ()
    priorities: tuple[str, ...] = ()  # namespaces, such as esnet, or single values, such as wps.0


class Rewriting(msgspec.Struct, frozen=True, kw_only=True):
    """How a called number is written anew: plus removed, digits stripped, prefix put before, plus added."""

    plus: Plus = "keep"
    strip: int = 0  # digits
    prefix: str = ""


class Gateway(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway: it may enter the network from `networks` (CIDR), with a TLS certificate for one of
    `certificate_names`, with the password of user `username`, or, where it has several of these, with all of them;
    routes may lead to its `targets` (SIP URIs).
    """

    name: str
    kind: GatewayKind
    networks: tuple[str, ...] = ()
    certificate_names: tuple[str, ...] = ()
    username: str = ""
    credentials_secret: str = ""  # with our username and password at its targets; "": they ask for none
    mode: Mode | None = None  # overrides the pool's
    targets: tuple[str, ...] = ()
    rights: Rights = Rights()
    incoming: Rewriting | None = None  # numbers that it calls
    outgoing: Rewriting | None = None  # numbers that are called through it
    codecs: tuple[str, ...] = ()  # those that calls through it may use, by their names in SDP; none: any
    hide_topology: bool = False  # it is not shown what is behind the proxy


class Authentication(msgspec.Struct, frozen=True, kw_only=True):
    """Clients prove who they are by digest (RFC 8760); the Secret has their passwords (`resources.users`). Or, without
    a Secret, to the registrar where the routes lead: who has registered there may call, from where it has registered.
    """

    secret_name: str = ""
    realm: str = ""  # the domain of the users' addresses
    algorithms: tuple[DigestAlgorithm, ...] = ("SHA-256", "MD5")  # offered in this order
    certificates: bool = False  # one that names the user is as good as its password

    @property
    def delegated(self) -> bool:
        return not self.secret_name


SCANNERS = ("friendly-scanner", "sipvicious", "sip-scan", "sipcli", "sundayddr", "sipptk", "vaxsipuseragent")


class Protection(msgspec.Struct, frozen=True, kw_only=True):
    """Against clients that send too much, or are no phones."""

    requests_per_second: int | None = None  # from one address, at each proxy
    user_agents: tuple[str, ...] = SCANNERS  # parts of a scanner's User-Agent, whatever their case


class Registrar(msgspec.Struct, frozen=True, kw_only=True):
    """The pool's own: every proxy knows all locations. Without it, REGISTER goes where the routes lead."""

    enabled: bool = False
    max_expires_seconds: int = 3600  # a client that asks for more gets this
    database_secret: str = ""  # of the database that keeps locations beyond all proxies


class ProxyTemplate(msgspec.Struct, frozen=True, kw_only=True):
    """`resources` and `pod_template` are Kubernetes objects as given; the template is merged last."""

    image: str
    resources: dict[str, Any] = {}
    pod_template: dict[str, Any] = {}


DEFAULT_LISTEN = (Listener(transport="UDP", port=5060), Listener(transport="TCP", port=5060))


class PoolSpec(msgspec.Struct, frozen=True, kw_only=True):
    replicas: int  # without autoscaling
    threshold: float  # share of capacity, 0..1 (80% is 0.8)
    capacity: Capacity
    client_networks: tuple[str, ...]
    proxy: ProxyTemplate
    listen: tuple[Listener, ...]
    client_origins: tuple[str, ...] = ()  # of web pages that may connect; none: any
    client_modes: tuple[ClientMode, ...] = ()  # the first that fits counts, before `assignment.mode`
    authentication: Authentication | None = None  # of clients; None: their address is enough
    autoscaling: Autoscaling | None = None
    expose: Expose = Expose()
    sharing: Sharing = Sharing()
    assignment: Assignment = Assignment()
    media: Media = Media()
    registrar: Registrar = Registrar()
    routes: tuple[Route, ...] = ()
    gateways: tuple[Gateway, ...] = ()
    health_checks: HealthChecks = HealthChecks()
    urgent: Urgent = Urgent()
    protection: Protection = Protection()
    target_tls_secret: str = ""  # with the CA of targets' certificates and what proxies show; "": none over TLS
    hep_collector: str = ""  # host:port that gets a copy of every SIP message; "": none
    drain_timeout_seconds: int = 3600
    suspend: bool = False

    @property
    def peer_port(self) -> int:
        """Where proxies speak to each other: over UDP, or else TCP, in their own network."""
        own = [one for one in self.listen if one.transport in ("UDP", "TCP") and not one.advertise]
        return next((one.port for one in own if one.transport == "UDP"), own[0].port)

    @property
    def secret_names(self) -> tuple[str, ...]:
        """The Secrets with certificates that proxies show, to clients and to targets."""
        return tuple(sorted({*(listener.secret_name for listener in self.listen), self.target_tls_secret} - {""}))

    @property
    def credentials_secrets(self) -> tuple[str, ...]:
        """The Secrets with our passwords at gateways."""
        return tuple(sorted({one.credentials_secret for one in self.gateways} - {""}))

    @property
    def hides_topology(self) -> bool:
        """Whether proxies have anything to hide, from any gateway."""
        return any(one.hide_topology for one in self.gateways)

    def verifies(self, secret_name: str) -> bool:
        """Whether certificates of others, clients or targets, are verified by the Secret's CA."""
        return secret_name == self.target_tls_secret or any(
            one.secret_name == secret_name and one.client_certificates != "none" for one in self.listen
        )
