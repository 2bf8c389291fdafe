"""The node program's pure parts, without a cluster."""

import asyncio
from pathlib import Path
from typing import cast

import pytest

from e2e.embedded.errors import DeadlineError, ImageError, PodSetupError
from e2e.embedded.node import environment, images, status, volumes
from e2e.embedded.node.deadline import Deadline
from e2e.embedded.node.model import Pod, Probe, Sleep, parse
from e2e.embedded.node.probes import Asker, repeat
from e2e.embedded.node.process import Process
from e2e.embedded.node.sandbox import Addresses, inside
from e2e.embedded.node.status import ContainerRecord, PodRecord
from e2e.embedded.state import State
from e2e.embedded.waiting import wait_for


def _pod() -> Pod:
    metadata = {"name": "edge-1", "namespace": "voice", "uid": "u", "labels": {"pool": "edge", "a": "b"}}
    containers = [{"name": "main", "image": "i"}]
    inits = [{"name": "init", "image": "i"}, {"name": "side", "image": "i", "restartPolicy": "Always"}]
    return parse({"metadata": metadata, "spec": {"containers": containers, "initContainers": inits}})


@pytest.mark.parametrize(
    ("text", "expanded"),
    [("$(A)", "1"), ("x$(A)$(B)", "x1$(B)"), ("$$(A)", "$(A)"), ("$A", "$A"), ("$(A", "$(A"), ("$$$(A)", "$1")],
)
def test_references_are_expanded_as_kubernetes_does(text: str, expanded: str) -> None:
    """$(NAME) is replaced when it is known and left alone when not; $$ is one dollar."""
    assert environment.expand(text, {"A": "1"}) == expanded


def test_field_paths() -> None:
    """Fields of a Pod by their paths; an unknown one is refused by name."""
    pod = _pod()
    assert environment.field(pod, "metadata.labels['pool']", "198.18.0.1") == "edge"
    assert environment.field(pod, "metadata.labels", "198.18.0.1") == 'a="b"\npool="edge"\n'
    assert environment.field(pod, "status.podIP", "198.18.0.1") == "198.18.0.1"
    with pytest.raises(PodSetupError, match=r"spec\.nonsense"):
        environment.field(pod, "spec.nonsense", "198.18.0.1")


def test_status_follows_the_containers() -> None:
    """Pending until a main container runs, initialized once the sidecar has started, Ready when every one is ready."""
    pod = _pod()
    init, side, main = (ContainerRecord(one) for one in (*pod.spec.init_containers, *pod.spec.containers))

    def conditions(*, over: bool = False) -> tuple[str, str, str]:
        record = PodRecord(pod, "198.18.0.1", status.now(), sandbox=True, inits=[init, side], mains=[main], over=over)
        built = status.build(record, {})
        by_type = {one["type"]: one["status"] for one in built["conditions"]}
        return built["phase"], by_type["Initialized"], by_type["Ready"]

    assert conditions() == ("Pending", "False", "False")
    init.state = status.terminated(0, status.now(), "p")
    assert conditions() == ("Pending", "False", "False")
    side.started = side.ready = True
    assert conditions() == ("Pending", "True", "False")
    main.process, main.ready = "p", True
    assert conditions() == ("Running", "True", "True")
    side.started = side.ready = False
    assert conditions() == ("Running", "True", "False")
    main.state, main.ready = status.terminated(0, status.now(), "p"), False
    assert conditions(over=True) == ("Succeeded", "True", "False")
    main.state = status.terminated(143, status.now(), "p")
    assert conditions(over=True) == ("Failed", "True", "False")
    assert main.state["terminated"]["signal"] == 15


def test_transition_times_stay_while_nothing_changes() -> None:
    """The time of a condition's last transition moves only with the condition."""
    pod = _pod()
    records = [ContainerRecord(one) for one in pod.spec.containers]
    record = PodRecord(pod, "", status.now(), sandbox=False, inits=[], mains=records)
    before = status.build(record, {})
    for condition in before["conditions"]:
        condition["lastTransitionTime"] = "then"
    after = status.build(record, before)
    assert {one["lastTransitionTime"] for one in after["conditions"]} == {"then"}


def test_volume_contents_change_in_one_step(tmp_path: Path) -> None:
    """Files are links into ..data, which changes as one; what is gone is gone; the same contents touch nothing."""
    volumes.publish(tmp_path, {"a": (b"1", 0o644), "deep/b": (b"2", 0o600)})
    first = (tmp_path / "..data").readlink()
    assert (tmp_path / "deep/b").read_bytes() == b"2"
    assert (tmp_path / "deep/b").stat().st_mode & 0o777 == 0o600
    volumes.publish(tmp_path, {"a": (b"1", 0o644), "deep/b": (b"2", 0o600)})
    assert (tmp_path / "..data").readlink() == first
    volumes.publish(tmp_path, {"a": (b"3", 0o644)})
    assert (tmp_path / "a").read_bytes() == b"3"
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("..")) == ["a"]
    assert not (tmp_path / first).exists()


def test_links_in_an_image_stay_inside(tmp_path: Path) -> None:
    """/var/run in an image leads to the image's /run, never to the machine's."""
    (tmp_path / "var").mkdir()
    (tmp_path / "var/run").symlink_to("/run")
    (tmp_path / "var/up").symlink_to("../../../etc")
    assert inside(tmp_path, "/var/run/secrets/token") == "/run/secrets/token"
    assert inside(tmp_path, "/var/up/x") == "/etc/x"
    assert inside(tmp_path, "/opt/new/dir") == "/opt/new/dir"


def test_addresses_are_not_used_again_at_once() -> None:
    """An address given back is handed out again only when the others have had their turn."""
    addresses = Addresses()
    first = addresses.take()
    addresses.give_back(first)
    assert addresses.take() != first


def test_unknown_image_names_the_known_ones(tmp_path: Path) -> None:
    """The message says which images there are; a malformed list says where it is."""
    state = State(tmp_path)
    state.images.write_text('{"one": {"root": "/"}}')
    with pytest.raises(ImageError, match="'two' is not one of this cluster's: one"):
        images.find(state, "two")
    state.images.write_text('{"one": {"rot": "/"}}')
    with pytest.raises(ImageError, match=r"images\.json: not a list of images: .*rot"):
        images.find(state, "one")


async def test_deadline_can_be_brought_forward_but_not_put_off() -> None:
    """Whoever waits is woken when the end comes nearer."""
    deadline = Deadline(60)
    waiting = asyncio.ensure_future(deadline.wait(asyncio.get_running_loop().create_future()))
    await asyncio.sleep(0)
    deadline.bring_forward(100)
    assert deadline.remaining() < 61
    deadline.bring_forward(0)
    assert await asyncio.wait_for(waiting, 5) is False


def test_waiting_in_vain_says_for_what() -> None:
    """The message names what was waited for and what was seen last."""
    with pytest.raises(DeadlineError, match=r"waited 0 s for rain, in vain \(last seen: ''\)"):
        wait_for(lambda: "", 0, "rain")


@pytest.mark.parametrize("steps", range(12))
async def test_probing_ends_whenever_it_is_cancelled(steps: int) -> None:
    """A probe whose answer comes in the very moment its container ends does not go on probing."""
    asker = Asker(_pod().spec.containers[0], "127.0.0.1")
    probe = Probe(sleep=Sleep(seconds=0), period_seconds=1)
    process = cast("Process", None)  # this kind of handler asks nothing of it
    asking = asyncio.ensure_future(repeat(probe, lambda: asker.ask(probe, process, {}, 1.0), lambda _good, _why: None))
    for _ in range(steps):
        await asyncio.sleep(0)
    asking.cancel()
    done, _ = await asyncio.wait({asking}, timeout=0.2)
    asking.cancel()
    assert done
