"""The command itself: several clusters at once, exit status, signals, `up` and `down`."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.embedded.waiting import wait_for

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "e2e.embedded"]


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key not in ("SWITCHBOARD_CLUSTER", "KUBECONFIG")}


def _start(*words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*COMMAND, *words], cwd=ROOT, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _processes(mark: Path) -> list[str]:
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = line.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if str(mark).encode() in words:
            found.append(words.replace(b"\0", b" ").decode())
    return found


def test_clusters_side_by_side_end_with_their_commands(tmp_path: Path) -> None:
    """Two clusters at once know nothing of each other; one ends with its command, one with a signal; both entirely."""
    mine, other = tmp_path / "mine", tmp_path / "other"
    script = "kubectl create namespace mine >/dev/null; kubectl get namespaces -o name; exit 3"
    first = _start("--state", str(mine), "--", "sh", "-c", script)
    second = _start("--state", str(other), "--", "sh", "-c", f"kubectl get ns -o name; touch {other}/seen; sleep 1000")
    try:
        output, _ = first.communicate(timeout=120)
        assert first.returncode == 3
        assert "namespace/mine" in output
        wait_for((other / "seen").exists, 60, "the second cluster's command")
        assert _processes(other)
        second.send_signal(signal.SIGTERM)
        output, _ = second.communicate(timeout=30)
        assert second.returncode == 128 + signal.SIGTERM
        assert "namespace/mine" not in output
    finally:
        for process in (first, second):
            if process.poll() is None:
                process.kill()
                process.communicate()
    wait_for(lambda: not _processes(tmp_path), 10, "every process of both clusters to end")


def test_killed_outright_it_leaves_nothing(tmp_path: Path) -> None:
    """Even SIGKILL to the command ends everything that it has started."""
    process = _start("--state", str(tmp_path / "state"), "--", "sleep", "1000")
    wait_for(lambda: any("kube-apiserver" in one for one in _processes(tmp_path)), 60, "the API server")
    process.kill()
    process.communicate()
    wait_for(lambda: not _processes(tmp_path), 20, "every process to end")


def test_a_component_that_ends_is_told(tmp_path: Path) -> None:
    """A part of the control plane that ends by itself is told in one line, also one that was started anew."""
    script = (
        "import json, os, signal\nfrom pathlib import Path\nfrom e2e.embedded import faults\n"
        "from e2e.embedded.state import State\nfrom e2e.embedded.waiting import wait_for\n"
        "faults.stop('kube-scheduler')\nfaults.start('kube-scheduler')\n"
        "pid = json.loads(State.current().run('kube-scheduler').read_text())['pid']\n"
        "os.kill(pid, signal.SIGTERM)\n"
        "wait_for(lambda: not Path(f'/proc/{pid}').exists(), 30, 'the scheduler to end')\n"
    )
    process = _start("--state", str(tmp_path / "state"), "--", sys.executable, "-c", script)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    (line,) = [line for line in said.splitlines() if line.startswith("embedded: ")]
    assert line.startswith("embedded: kube-scheduler ended with status "), said


def test_up_enter_down(tmp_path: Path) -> None:
    """`up` leaves a cluster running and says how to reach it, `enter` reaches it, `down` ends it."""
    state = ["--state", str(tmp_path / "state")]

    def run(*words: str) -> str:
        ran = subprocess.run(
            [*COMMAND, *words], cwd=ROOT, env=_environment(), capture_output=True, text=True, timeout=120, check=False
        )
        return ran.stdout + ran.stderr

    try:
        said = run("up", *state)
        assert f"enter {' '.join(state)} -- kubectl get pods -A" in said
        assert "already up" in run("up", *state)
        assert "a cluster is running" in run(*state, "--", "true")
        assert "node/local" in run("enter", *state, "--", "kubectl", "get", "nodes", "-o", "name")
        assert "198.18.128.3" in run("host", *state, "phone", "198.18.128.3", "--", "ip", "-4", "addr")
    finally:
        said = run("down", *state)
    assert "ended" in said
    assert not _processes(tmp_path / "state")
    assert "no cluster was running" in run("down", *state)
    assert "no cluster is running" in run("enter", *state, "--", "true")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--", "/no/such/command"], "cannot run /no/such/command: No such file or directory"),
        (["--state", str(ROOT), "--", "true"], "holds things that are not a cluster's"),
        (["--images", "/no/such.json", "--", "true"], "--images /no/such.json: No such file or directory"),
        (
            ["--image", "app=/no/such/root", "--", "true"],
            "image app: its root file system /no/such/root is not a directory",
        ),
        (["host", "phone", "10.0.0.1", "--", "true"], "no cluster is running"),
    ],
)
def test_mistakes_are_one_line(words: list[str], said: str, tmp_path: Path) -> None:
    """A mistake is answered with one line that says what is wrong."""
    environment = {**_environment(), "TMPDIR": str(tmp_path)}
    ran = subprocess.run(
        [*COMMAND, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode != 0
    assert said in ran.stderr.splitlines()[0]


def test_missing_program_is_named(tmp_path: Path) -> None:
    """Without bubblewrap, the one line names the package to install."""
    code = (
        "from e2e.embedded import requirements as r; r.SYSTEM_PATH = ''\n"
        "from e2e.embedded.__main__ import main; import sys; sys.argv[1:] = ['--', 'true']; sys.exit(main())"
    )
    for name in ("unshare", "nsenter", "mount", "ip", "nft", "conntrack"):
        (tmp_path / name).symlink_to("/bin/true")
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert ran.stderr == "embedded: the program `bwrap` is missing: apt-get install bubblewrap\n"
