"""The fields of a Pod that the node program honours, parsed once. Defaults are the API's own."""

from typing import Any

import msgspec


class Model(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Fields that are not named in a subclass are ignored."""


class FieldRef(Model, frozen=True):
    field_path: str


class KeyRef(Model, frozen=True):
    name: str = ""
    key: str = ""
    optional: bool = False


class EnvSource(Model, frozen=True):
    field_ref: FieldRef | None = None
    config_map_key_ref: KeyRef | None = None
    secret_key_ref: KeyRef | None = None


class EnvVar(Model, frozen=True):
    name: str
    value: str = ""
    value_from: EnvSource | None = None


class Exec(Model, frozen=True):
    command: list[str]


class Header(Model, frozen=True):
    name: str
    value: str


class HttpGet(Model, frozen=True):
    port: int | str
    path: str = "/"
    scheme: str = "HTTP"
    host: str = ""
    http_headers: list[Header] = []


class TcpSocket(Model, frozen=True):
    port: int | str
    host: str = ""


class Sleep(Model, frozen=True):
    seconds: int


class Handler(Model, frozen=True):
    exec: Exec | None = None
    http_get: HttpGet | None = None
    tcp_socket: TcpSocket | None = None
    sleep: Sleep | None = None


class Probe(Handler, frozen=True):
    initial_delay_seconds: int = 0
    period_seconds: int = 10
    timeout_seconds: int = 1
    success_threshold: int = 1
    failure_threshold: int = 3
    termination_grace_period_seconds: int | None = None


class Lifecycle(Model, frozen=True):
    pre_stop: Handler | None = None


class Port(Model, frozen=True):
    container_port: int
    name: str = ""


class VolumeMount(Model, frozen=True):
    name: str
    mount_path: str
    read_only: bool = False
    sub_path: str = ""


class SecurityContext(Model, frozen=True):
    run_as_user: int | None = None
    run_as_group: int | None = None
    read_only_root_filesystem: bool = False


class Container(Model, frozen=True):
    name: str
    image: str = ""
    command: list[str] = []
    args: list[str] = []
    working_dir: str = ""
    env: list[EnvVar] = []
    ports: list[Port] = []
    volume_mounts: list[VolumeMount] = []
    startup_probe: Probe | None = None
    readiness_probe: Probe | None = None
    liveness_probe: Probe | None = None
    lifecycle: Lifecycle | None = None
    security_context: SecurityContext = SecurityContext()
    restart_policy: str | None = None

    @property
    def sidecar(self) -> bool:
        """An init container that goes on beside the main ones."""
        return self.restart_policy == "Always"


class KeyToPath(Model, frozen=True):
    key: str
    path: str
    mode: int | None = None


class ConfigMapSource(Model, frozen=True):
    name: str = ""
    items: list[KeyToPath] | None = None
    optional: bool = False
    default_mode: int = 0o644


class SecretSource(Model, frozen=True):
    secret_name: str = ""  # in a volume
    name: str = ""  # in a projection
    items: list[KeyToPath] | None = None
    optional: bool = False
    default_mode: int = 0o644


class DownwardFile(Model, frozen=True):
    path: str
    field_ref: FieldRef | None = None
    mode: int | None = None


class DownwardSource(Model, frozen=True):
    items: list[DownwardFile] = []
    default_mode: int = 0o644


class TokenSource(Model, frozen=True):
    path: str
    audience: str = ""
    expiration_seconds: int = 3600


class Projection(Model, frozen=True):
    config_map: ConfigMapSource | None = None
    secret: SecretSource | None = None
    downward_api: DownwardSource | None = msgspec.field(default=None, name="downwardAPI")
    service_account_token: TokenSource | None = None


class ProjectedSource(Model, frozen=True):
    sources: list[Projection] = []
    default_mode: int = 0o644


class EmptyDir(Model, frozen=True):
    medium: str = ""


class Volume(Model, frozen=True):
    name: str
    empty_dir: EmptyDir | None = None
    config_map: ConfigMapSource | None = None
    secret: SecretSource | None = None
    projected: ProjectedSource | None = None
    downward_api: DownwardSource | None = msgspec.field(default=None, name="downwardAPI")


class HostAlias(Model, frozen=True):
    ip: str
    hostnames: list[str] = []


class DnsConfig(Model, frozen=True):
    nameservers: list[str] = []


class PodSpec(Model, frozen=True):
    containers: list[Container]
    init_containers: list[Container] = []
    volumes: list[Volume] = []
    restart_policy: str = "Always"
    termination_grace_period_seconds: int = 30
    service_account_name: str = "default"
    share_process_namespace: bool = False
    security_context: SecurityContext = SecurityContext()
    hostname: str = ""
    host_aliases: list[HostAlias] = []
    dns_config: DnsConfig = DnsConfig()
    node_name: str = ""


class Metadata(Model, frozen=True):
    name: str
    namespace: str
    uid: str
    generation: int = 0
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None


class Pod(Model, frozen=True):
    metadata: Metadata
    spec: PodSpec
    status: dict[str, Any] = {}

    @property
    def full_name(self) -> str:
        """For people."""
        return f"{self.metadata.namespace}/{self.metadata.name}"


def parse(pod: dict[str, Any]) -> Pod:
    """A Pod as the API server gives it."""
    return msgspec.convert(pod, Pod)
