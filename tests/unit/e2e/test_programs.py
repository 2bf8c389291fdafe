"""Programs from pinned Go modules: a small module of the test's own, the real compiler."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from e2e.errors import BuildError
from e2e.programs import Module, Toolset

GO_MOD = """\
module example.com/tools

go 1.21

require example.com/greeter v1.2.3

replace example.com/greeter => ./greeter
"""
GREETER = 'package main\n\nvar version = "unknown"\n\nfunc main() { print(version) }\n'


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Module:
    monkeypatch.setenv("SWITCHBOARD_CACHE", str(tmp_path / "cache"))
    directory = tmp_path / "tools"
    (directory / "greeter").mkdir(parents=True)
    (directory / "go.mod").write_text(GO_MOD)
    (directory / "greeter/go.mod").write_text("module example.com/greeter\n\ngo 1.21\n")
    (directory / "greeter/main.go").write_text(GREETER)
    return Module(directory, "example.com/greeter", ("main.version={version}+{minor}",))


def test_a_program_is_built_once_and_knows_its_version(module: Module) -> None:
    """What is built lies in the cache, says the version that go.mod pins, and is not built again."""
    toolset = Toolset("tools", {"greeter": (module, "example.com/greeter")})
    built = toolset.ensure() / "greeter"
    assert subprocess.run([built], capture_output=True, text=True, check=True).stderr == "v1.2.3+2"
    when = built.stat().st_mtime_ns
    assert toolset.ensure() / "greeter" == built
    assert built.stat().st_mtime_ns == when


def test_another_pin_is_another_directory(module: Module) -> None:
    """A set of programs that was built from other versions is left alone."""
    toolset = Toolset("tools", {"greeter": (module, "example.com/greeter")})
    before = toolset.directory()
    (module.directory / "go.mod").write_text(GO_MOD.replace("v1.2.3", "v1.2.4"))
    assert toolset.directory() != before


def test_a_failed_build_leaves_no_set_but_what_was_built(module: Module) -> None:
    """One program that does not compile: no directory that looks finished; the next try goes on from there."""
    broken = Toolset("tools", {"greeter": (module, "example.com/greeter"), "missing": (module, "example.com/missing")})
    with pytest.raises(BuildError, match=r"example\.com/missing` failed in"):
        broken.ensure()
    assert not broken.directory().exists()
    partial = broken.directory().with_suffix(".partial") / "greeter"
    when = partial.stat().st_mtime_ns
    again = Toolset("tools", {"greeter": (module, "example.com/greeter")}).ensure() / "greeter"
    assert again.stat().st_mtime_ns == when
