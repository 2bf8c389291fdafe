"""A Pod's life: start, order, restarts, end."""

import asyncio
import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from e2e.embedded import faults
from e2e.embedded.node.process import Process
from e2e.embedded.requirements import program
from e2e.embedded.waiting import wait_for
from tests.embedded.conftest import IMAGE, SECONDS, Namespace

Shell = Callable[..., dict[str, Any]]
MARK = "/run/mark"
FOREVER = "while :; do sleep 0.1; done"


def _moments(log: str) -> dict[str, float]:
    """Lines `word seconds`."""
    return {word: float(seconds) for word, seconds in (line.split() for line in log.splitlines())}


def _say(word: str) -> str:
    return f"echo {word} $(date +%s.%N)"


def test_sidecars_start_first_and_end_last(namespace: Namespace, shell: Shell) -> None:
    """Init containers run in turn; a sidecar is awaited until its startup probe succeeds, and outlives main."""
    script = "trap '{end}; exit 0' TERM; {begin}; {rest}" + FOREVER
    slow_start = f"sleep 0.5; {_say('up')}; touch {MARK}; "
    sidecar = script.format(end=_say("end"), begin=_say("begin"), rest=slow_start)
    probe = {"exec": {"command": ["test", "-e", MARK]}, "periodSeconds": 1, "failureThreshold": 20}
    namespace.pod(
        "order",
        shell(script.format(end=f"sleep 0.3; {_say('end')}", begin=_say("begin"), rest="")),
        initContainers=[
            shell(_say("done"), "init"),
            shell(sidecar, "one", restartPolicy="Always", startupProbe=probe),
            shell(script.format(end=_say("end"), begin=_say("begin"), rest=""), "two", restartPolicy="Always"),
        ],
    )
    pod = namespace.ready("order")
    assert [one["started"] for one in pod["status"]["initContainerStatuses"]] == [False, True, True]
    assert pod["status"]["initContainerStatuses"][0]["state"]["terminated"]["reason"] == "Completed"
    namespace.kubectl("delete", "pod", "order")
    init, one, two, main = (_moments(namespace.log("order", name)) for name in ("init", "one", "two", "main"))
    assert init["done"] < one["begin"] < one["up"] < two["begin"]
    assert one["up"] < main["begin"]
    assert main["end"] < two["end"] < one["end"]


def test_ended_container_is_restarted_with_back_off(namespace: Namespace, shell: Shell) -> None:
    """A container that ends is started again, at once the first time and later and later after that."""
    namespace.pod("crash", shell(f"{_say('run$(date +%N)')}; exit 3"))
    status = wait_for(
        lambda: one if (one := namespace.container("crash", "main")).get("restartCount", 0) >= 4 else {},
        SECONDS,
        "four restarts",
    )
    assert status["lastState"]["terminated"]["exitCode"] == 3
    wait_for(
        lambda: namespace.container("crash", "main")["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff",
        SECONDS,
        "CrashLoopBackOff",
    )
    runs = sorted(_moments(namespace.log("crash")).values())
    gaps = [later - earlier for earlier, later in itertools.pairwise(runs)]
    assert gaps[0] < gaps[1] < gaps[2] < gaps[3]


def test_completed_pod_succeeds(namespace: Namespace, shell: Shell) -> None:
    """With restartPolicy Never, exit status 0 makes a Pod Succeeded and ends its sidecar; another makes it Failed."""
    namespace.pod(
        "good", shell("true"), restartPolicy="Never", initContainers=[shell(FOREVER, "side", restartPolicy="Always")]
    )
    namespace.pod("bad", shell("exit 7"), restartPolicy="Never")
    wait_for(lambda: namespace.get("good")["status"].get("phase") == "Succeeded", SECONDS, "phase Succeeded")
    wait_for(lambda: namespace.get("bad")["status"].get("phase") == "Failed", SECONDS, "phase Failed")
    assert "terminated" in namespace.container("good", "side")["state"]
    namespace.kubectl("delete", "pod", "good", "bad", "--timeout=30s")


def test_failed_init_container_keeps_main_from_starting(namespace: Namespace, shell: Shell) -> None:
    """An init container is tried until it succeeds; until then the Pod is Pending and not initialized."""
    tries = "n=$(cat /shared/n 2>/dev/null || echo 0); echo $((n + 1)) > /shared/n; echo try; test $n -ge 2"
    mounts = [{"name": "shared", "mountPath": "/shared"}]
    namespace.pod(
        "init",
        shell("echo main; " + FOREVER, volumeMounts=mounts),
        initContainers=[shell(tries, "init", volumeMounts=mounts)],
        volumes=[{"name": "shared", "emptyDir": {}}],
    )
    namespace.ready("init")
    assert namespace.log("init", "init").count("try") == 3
    assert namespace.log("init") == "main\n"


def test_pre_stop_and_grace(namespace: Namespace, shell: Shell) -> None:
    """The preStop hook runs first, SIGTERM follows when it has ended, and a container that heeds it ends the wait."""
    hook = {"preStop": {"exec": {"command": ["/bin/sh", "-c", f"sleep 0.5; {_say('hook')} > /proc/1/fd/1"]}}}
    script = f"trap '{_say('term')}; exit 0' TERM; {FOREVER}"
    namespace.pod("polite", shell(script, lifecycle=hook), terminationGracePeriodSeconds=30)
    namespace.ready("polite")
    began = time.time()
    namespace.kubectl("delete", "pod", "polite")
    moments = _moments(namespace.log("polite"))
    assert began + 0.5 < moments["hook"] < moments["term"]
    assert time.time() - began < 5


def test_stubborn_container_is_killed_at_the_deadline(namespace: Namespace, shell: Shell) -> None:
    """Whoever ignores SIGTERM is killed when the grace period is over, no earlier."""
    namespace.pod("stubborn", shell(f"trap '' TERM; echo up; {FOREVER}"), terminationGracePeriodSeconds=2)
    namespace.until_log("stubborn", "up")
    began = time.monotonic()
    namespace.kubectl("delete", "pod", "stubborn")
    assert 1.5 < time.monotonic() - began < 4


def test_shorter_grace_overrides(namespace: Namespace, shell: Shell) -> None:
    """A second deletion with less grace brings the end forward; a forced one kills at once."""
    for name in ("shorter", "forced"):
        namespace.pod(name, shell(f"trap '' TERM; echo up; {FOREVER}"), terminationGracePeriodSeconds=60)
    for name in ("shorter", "forced"):
        namespace.until_log(name, "up")
    pids = [namespace.cluster.process(namespace.name, name, "main") for name in ("shorter", "forced")]
    began = time.monotonic()
    namespace.kubectl("delete", "pod", "shorter", "--wait=false")
    namespace.kubectl("delete", "pod", "shorter", "--grace-period=1")
    namespace.kubectl("delete", "pod", "forced", "--grace-period=0", "--force")
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), SECONDS, "both processes to go")
    assert time.monotonic() - began < 10


def test_unknown_image_is_waited_for(namespace: Namespace, shell: Shell) -> None:
    """A Pod with an image that nobody has given the cluster waits, says so, and runs once it is there."""
    late = f"late-{namespace.name}"
    namespace.pod("late", shell(FOREVER, image=late))
    waiting = wait_for(
        lambda: namespace.container("late", "main").get("state", {}).get("waiting", {}).get("message"), SECONDS, "why"
    )
    assert late in waiting
    reason = namespace.container("late", "main")["state"]["waiting"]["reason"]
    assert reason in {"ErrImagePull", "ImagePullBackOff"}
    assert namespace.get("late")["status"]["phase"] == "Pending"
    images = namespace.cluster.state.images.read_text()
    root = images.split(f'"{IMAGE}"')[1].split('"root": "')[1].split('"')[0]
    namespace.cluster.add_image(late, Path(root))
    namespace.ready("late")


async def test_a_container_that_has_ended_takes_no_other_along(tmp_path: Path) -> None:
    """What a container has left behind is killed at its end, and nobody who has its namespace's number by then."""
    command = [program("bwrap"), "--dev-bind", "/", "/", "--unshare-pid", "--as-pid-1", "--die-with-parent"]
    command += ["--json-status-fd", "{status}", "--", program("sleep"), "1000"]

    async def start() -> Process:
        return await Process.start(command, os.environ, tmp_path / "log", depth=1)

    def number(process: Process) -> int:
        return Path(f"/proc/{process.pid}/ns/mnt").stat().st_ino

    ended, its_number, later = None, 0, list[Process]()
    while its_number not in map(number, later):  # somebody else on this machine may be quicker
        ended = await start()
        its_number = number(ended)
        ended.kill()
        await ended.exited
        later.append(await start())
    assert ended is not None
    ended.kill()
    killed, _ = await asyncio.wait({one.exited for one in later}, timeout=0.5)
    assert not killed
    for one in later:
        one.kill()
        await one.exited


def test_killed_pod_is_restarted_in_place(namespace: Namespace, shell: Shell) -> None:
    """All processes of a Pod killed at once: its containers start again, in the same Pod with the same address."""
    child = f"sleep 1000 & echo up; {FOREVER}"
    namespace.pod("killed", shell(child), shell(child, "other"), shareProcessNamespace=True)
    before = namespace.ready("killed")
    faults.kill_pod(namespace.name, "killed")

    def back() -> bool:
        every = namespace.get("killed")["status"]["containerStatuses"]
        return all(one["restartCount"] == 1 and one["ready"] for one in every)

    wait_for(back, SECONDS, "both containers to be back")
    after = namespace.get("killed")
    assert after["status"]["podIP"] == before["status"]["podIP"]
    assert namespace.container("killed", "main")["lastState"]["terminated"]["exitCode"] == 137


SLOW_SERVER = """
import http.server, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep(0.5); self.send_response(204); self.end_headers()
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""


def test_killed_while_it_is_probed(namespace: Namespace, shell: Shell) -> None:
    """Killed with probes under way, again and again, a Pod with sidecars comes back every time."""
    probe = {"httpGet": {"port": 8000}, "periodSeconds": 1, "failureThreshold": 60}
    server = {"name": "side", "command": ["python3", "-c", SLOW_SERVER], "restartPolicy": "Always"}
    namespace.pod(
        "probed",
        shell(FOREVER, readinessProbe=probe, livenessProbe=probe),
        initContainers=[{**server, "startupProbe": probe, "livenessProbe": probe}],
        shareProcessNamespace=True,
    )
    namespace.cluster.choose(restart_most_seconds=0.2)
    try:
        for restarts in range(1, 5):
            namespace.ready("probed")
            faults.kill_pod(namespace.name, "probed")
            wait_for(
                lambda restarts=restarts: namespace.container("probed", "main")["restartCount"] == restarts,  # type: ignore[misc]  # mypy cannot infer a lambda with a default
                SECONDS,
                f"restart {restarts}",
            )
    finally:
        namespace.cluster.choose(restart_most_seconds=300.0)


def test_deletion_leaves_nothing(namespace: Namespace, shell: Shell) -> None:
    """After a Pod is deleted there is no process, network, link, layer or volume of it."""
    script = f"setsid sleep 4321 & echo up; {FOREVER}"
    mounts = [{"name": "data", "mountPath": "/data"}]
    namespace.pod(
        "gone",
        shell(script, volumeMounts=mounts),
        shell(script, "other"),
        shareProcessNamespace=True,
        volumes=[{"name": "data", "emptyDir": {}}],
    )
    pod = namespace.ready("gone")
    namespace.until_log("gone", "up")
    namespace.until_log("gone", "up", "other")
    uid, root = pod["metadata"]["uid"], namespace.cluster.state.root
    networks = Path("/run/netns")
    assert list(networks.glob(f"*{uid[:8]}")), "the test looks in the wrong place"
    assert _count("4321") == 2
    namespace.kubectl("delete", "pod", "gone")
    assert not list(networks.glob(f"*{uid[:8]}"))
    assert not [path for kind in ("layers", "files", "volumes") for path in (root / kind).glob(uid)]
    assert _count("4321") == 0
    assert uid not in Path("/proc/self/mountinfo").read_text()


def _count(argument: str) -> int:
    """Processes with an argument of that name."""
    found = 0
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += argument.encode() in line.read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found
