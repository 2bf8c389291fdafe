"""The command line: `python -m e2e.embedded --help`."""

import argparse
import dataclasses
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

import msgspec

from e2e.embedded import namespace, network, requirements
from e2e.embedded.binaries import CONTROL_PLANE
from e2e.embedded.errors import EmbeddedError, ImageError
from e2e.embedded.node import images
from e2e.embedded.settings import Settings
from e2e.embedded.state import VARIABLE, State, write_json
from e2e.errors import E2eError
from e2e.programs import cache

VERBS = ("run", "up", "down", "enter", "host", "build")
USAGE = """\
python -m e2e.embedded [OPTIONS] -- COMMAND...       a cluster for as long as COMMAND runs inside it
python -m e2e.embedded up [OPTIONS]                  a cluster left running
python -m e2e.embedded enter -- COMMAND...           runs COMMAND inside that one
python -m e2e.embedded down                          ends it
python -m e2e.embedded host NAME ADDRESS -- COMMAND  runs COMMAND on a host outside the cluster, such as a phone
python -m e2e.embedded build                         builds the control plane's programs and no more
"""


def main() -> int:
    """Exit status: COMMAND's, or 1 after one line on standard error."""
    words, command = sys.argv[1:], []
    if "--" in words:
        split = words.index("--")
        words, command = words[:split], words[split + 1 :]
    if not words or words[0] not in (*VERBS, "-h", "--help"):
        words.insert(0, "run")
    arguments = _parser().parse_args(words)
    if arguments.verb in ("run", "enter", "host") and not command:
        print(USAGE, end="", file=sys.stderr)
        return 2
    try:
        return _act(arguments, command)
    except E2eError as error:
        print(f"embedded: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _act(arguments: argparse.Namespace, command: list[str]) -> int:
    match arguments.verb:
        case "build":
            print(CONTROL_PLANE.ensure())
            return 0
        case "run":
            return _run(arguments, command)
        case "up":
            return _up(arguments)
        case "down":
            state = _state(arguments)
            print(f"{state.root}: ended" if namespace.stop(state) else f"{state.root}: no cluster was running")
            return 0
        case "enter":
            return _enter(_state(arguments), command)
        case _:
            return _host(arguments, command)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m e2e.embedded", usage=USAGE)
    verbs = parser.add_subparsers(dest="verb", required=True)
    by_name = {verb: verbs.add_parser(verb) for verb in VERBS}
    for verb in ("run", "up", "down", "enter", "host"):
        by_name[verb].add_argument("--state", type=Path, help="the cluster's directory: logs, kubeconfig, volumes")
    by_name["host"].add_argument("name")
    by_name["host"].add_argument("address", help=f"in {network.HOSTS}")
    for verb in ("run", "up"):
        by_name[verb].add_argument("--images", type=Path, help="JSON: {image: {root: DIR, binds: {FROM: TO}, env: {}}}")
        image_help = "an image that is nothing but a root file system; may be repeated"
        by_name[verb].add_argument("--image", action="append", default=[], metavar="NAME=DIR", help=image_help)
        for field in dataclasses.fields(Settings):
            option = "--" + field.name.replace("_", "-")
            kind = type(field.default)
            by_name[verb].add_argument(option, type=kind, default=field.default, help=f"default {field.default}")
    return parser


def _state(arguments: argparse.Namespace) -> State:
    """The cluster named, or the one this runs in, or the one that `up` uses."""
    if arguments.state is not None:
        return State(arguments.state.absolute())
    if arguments.verb in ("enter", "host") and (inside := os.environ.get(VARIABLE)):
        return State(Path(inside))
    return State(cache() / "cluster")


def _prepare(state: State, arguments: argparse.Namespace) -> Path:
    chosen = _images(arguments)
    requirements.check()
    programs = CONTROL_PLANE.ensure()
    if state.root.exists() and any(state.root.iterdir()) and not state.settings.exists():
        raise EmbeddedError(f"{state.root} holds things that are not a cluster's: name an empty directory")
    if namespace.running(state) is not None:
        raise EmbeddedError(f"a cluster is running in {state.root}: end it, or name another directory")
    shutil.rmtree(state.root, ignore_errors=True)
    state.make()
    fields = dataclasses.fields(Settings)
    Settings(**{field.name: getattr(arguments, field.name) for field in fields}).save(state)
    write_json(state.images, chosen)
    return programs


def _images(arguments: argparse.Namespace) -> dict[str, object]:
    """What `--images` and `--image` name, checked before anything is started."""
    chosen: dict[str, images.Image] = {}
    if arguments.images is not None:
        try:
            chosen |= images.parse(arguments.images.read_bytes())
        except (OSError, ImageError) as error:
            raise ImageError(f"--images {arguments.images}: {getattr(error, 'strerror', None) or error}") from None
    for pair in arguments.image:
        name, equals, root = pair.rpartition("=")
        if not equals:
            raise ImageError(f"--image {pair}: write it as NAME=DIR")
        chosen[name] = images.Image(str(Path(root).absolute()))
    for name, image in chosen.items():
        if not Path(image.root).is_dir():
            raise ImageError(f"image {name}: its root file system {image.root} is not a directory")
    return {name: msgspec.to_builtins(image) for name, image in chosen.items()}


def _run(arguments: argparse.Namespace, command: list[str]) -> int:
    if arguments.state is not None:
        state = _state(arguments)
        return namespace.run(state, _prepare(state, arguments), command)
    state = State(Path(tempfile.mkdtemp(prefix="switchboard-")))
    try:
        programs = _prepare(state, arguments)
    except E2eError:
        shutil.rmtree(state.root)
        raise
    status = namespace.run(state, programs, command)
    if status == 0:
        shutil.rmtree(state.root, ignore_errors=True)
    else:
        print(f"embedded: the cluster's logs are kept in {state.root}", file=sys.stderr)
    return status


def _up(arguments: argparse.Namespace) -> int:
    state = _state(arguments)
    if namespace.running(state) is not None:
        print(f"{state.root}: already up")
        return 0
    namespace.start(state, _prepare(state, arguments))
    own = f" --state {state.root}" if arguments.state else ""
    print(f"The cluster is up; its logs are in {state.root / 'logs'}, its pods' in {state.root / 'pods'}.")
    print(f"Reach it with:  {sys.executable} -m e2e.embedded enter{own} -- kubectl get pods -A")
    print(f"End it with:    {sys.executable} -m e2e.embedded down{own}")
    return 0


def _enter(state: State, command: list[str]) -> NoReturn:
    _become([*namespace.enter(state, CONTROL_PLANE.directory()), *command])


def _host(arguments: argparse.Namespace, command: list[str]) -> NoReturn:
    state = _state(arguments)
    if os.environ.get(VARIABLE) != str(state.root):
        again = [sys.executable, "-m", "e2e.embedded", "host", arguments.name, arguments.address, "--", *command]
        _enter(state, again)
    _become([*network.add_host(arguments.name, arguments.address), *command])


def _become(words: list[str]) -> NoReturn:
    try:
        os.execvp(words[0], words)  # noqa: S606 - becoming the command is the point
    except OSError as error:
        raise EmbeddedError(f"cannot run {words[0]}: {error.strerror}") from None


if __name__ == "__main__":
    sys.exit(main())
