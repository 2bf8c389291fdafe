"""A container's environment variables and command, expanded as a kubelet expands them. Pure."""

import base64
import re
from collections.abc import Callable, Mapping

from e2e.embedded.errors import PodSetupError
from e2e.embedded.network import API_SERVICE, NODE
from e2e.embedded.node.images import Image
from e2e.embedded.node.model import Container, KeyRef, Pod

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
REFERENCE = re.compile(r"\$(\$|\(([-._a-zA-Z0-9]+)\))")
SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['(.+)'\]")

KeyReader = Callable[[str, KeyRef], str | None]  # ("configmaps" or "secrets", reference) to the value


def build(container: Container, pod: Pod, address: str, image: Image, read_key: KeyReader) -> dict[str, str]:
    """The whole environment: the image's, where the API server is, then the container's own."""
    environment = {"PATH": PATH, "HOME": "/", "HOSTNAME": pod.spec.hostname or pod.metadata.name, **image.env}
    environment |= {"KUBERNETES_SERVICE_HOST": str(API_SERVICE), "KUBERNETES_SERVICE_PORT": "443"}
    environment |= {"KUBERNETES_SERVICE_PORT_HTTPS": "443", "KUBERNETES_PORT": f"tcp://{API_SERVICE}:443"}
    for variable in container.env:
        source = variable.value_from
        if source is None:
            environment[variable.name] = expand(variable.value, environment)
            continue
        value: str | None = None
        if source.field_ref:
            value = field(pod, source.field_ref.field_path, address)
        elif source.config_map_key_ref:
            value = read_key("configmaps", source.config_map_key_ref)
        elif source.secret_key_ref:
            value = read_key("secrets", source.secret_key_ref)
        if value is not None:
            environment[variable.name] = value
    return environment


def command(container: Container, image: Image, environment: Mapping[str, str]) -> list[str]:
    """The container's command, or the image's, with its arguments."""
    words = [*(container.command or image.entrypoint), *container.args]
    if not words:
        raise PodSetupError(
            "Failed", f"container {container.name} has no command, and image {container.image} has none"
        )
    return [expand(word, environment) for word in words]


def expand(text: str, environment: Mapping[str, str]) -> str:
    """`$(NAME)` becomes the variable's value where there is one; `$$` is a dollar."""

    def value(match: re.Match[str]) -> str:
        if match[1] == "$":
            return "$"
        return environment.get(match[2], match[0])

    return REFERENCE.sub(value, text)


def field(pod: Pod, path: str, address: str) -> str:
    """The value of a fieldRef, in an environment variable or a downwardAPI file."""
    metadata = pod.metadata
    simple = {
        "metadata.name": metadata.name,
        "metadata.namespace": metadata.namespace,
        "metadata.uid": metadata.uid,
        "spec.nodeName": pod.spec.node_name,
        "spec.serviceAccountName": pod.spec.service_account_name,
        "status.podIP": address,
        "status.podIPs": address,
        "status.hostIP": str(NODE),
    }
    if path in simple:
        return simple[path]
    whole = {"metadata.labels": metadata.labels, "metadata.annotations": metadata.annotations}
    if path in whole:
        return "".join(f'{key}="{value}"\n' for key, value in sorted(whole[path].items()))
    if match := SUBSCRIPT.fullmatch(path):
        return (metadata.labels if match[1] == "labels" else metadata.annotations).get(match[2], "")
    raise PodSetupError("Failed", f"fieldRef {path} is not known to the embedded node; known: {', '.join(simple)}")


def decoded(value: str) -> str:
    """A Secret's value as text."""
    return base64.b64decode(value).decode()
