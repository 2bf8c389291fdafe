"""What fails beside the agent, and what it makes of it."""

import asyncio
import signal
import subprocess
import sys
from datetime import timedelta

import pytest

from switchboard.link.client import next_id
from switchboard.link.messages import Tick
from switchboard.resources.names import PoolRef
from tests.agent.pod import Operator, Pod, in_kamailio, pods, settings, thaw
from tests.agent.test_commands import table_in_kamailio
from tests.tools.addresses import NETWORK
from tests.tools.proxies import RUN_DIR, Program, rootfs
from tests.tools.wait import until


async def test_kamailio_restarts(pod: Pod, operator: Operator) -> None:
    """A restarted Kamailio gets everything again by itself, opens last, and the new run is reported."""
    await operator.configure(settings(calls=30), peers=(pod.peer,))
    await operator.tick(17)
    await operator.table(pod.row(), pod.row())
    await operator.role("primary")
    await operator.drain()
    before = await operator.hears(lambda report: report.boot and report.room == 30 and report.draining)
    assert pod.proxy.kamailio is not None
    pod.proxy.kamailio.kill()
    gone = await operator.hears(lambda report: report.room == 0)
    assert gone.boot == before.boot
    await until(lambda: _is_unready(pod), "the pod to be unready")
    ack = await operator.link.send(Tick(id=next_id(), term=1, tick=18))
    assert ack.error is not None
    assert "Kamailio is not up" in ack.error

    pod.proxy.control.close()
    pod.proxy.start_kamailio()
    after = await operator.hears(lambda report: report.boot != before.boot and report.room == 30)
    assert after.tick == 18
    assert (after.role, after.draining, after.table) == ("primary", True, before.table)
    await in_kamailio(
        pod,
        {
            ("ctl", "role"): "primary",
            ("ctl", "tick"): 18,
            ("ctl", "drain"): 1,
            ("ctl", "ceiling"): 30,
            ("ctl", "key"): "5a" * 32,
            ("ctl", "ready"): 1,
            ("peer", pod.address): pod.name,
            ("rt", "ver"): 1,
        },
    )
    assert {line.partition("|")[0] for line in table_in_kamailio(pod)} == {f"{pod.name}~{after.boot}"}
    assert await pod.ready()


async def _is_unready(pod: Pod) -> bool:
    return not await pod.ready()


async def test_kamailio_hangs(pod: Pod, operator: Operator) -> None:
    """A Kamailio that is there and does not answer makes the pod unready; when it goes on, so does all else."""
    await operator.configure(settings())
    assert pod.proxy.kamailio is not None
    pod.proxy.kamailio.freeze()
    await until(lambda: _is_unready(pod), "the pod to be unready")
    thaw(pod.proxy.kamailio)
    await until(pod.ready, "the pod to be ready")
    await operator.tick(5)


async def test_rtpengine_dies_and_comes_back(pod: Pod, operator: Operator) -> None:
    """Without rtpengine the proxy admits nothing and says so at once; it stays up, and is back with it."""
    await operator.configure(settings())
    await operator.hears(lambda report: report.media_ok and report.room == 10)
    assert pod.proxy.control.number("ctl", "media") == 1
    assert pod.proxy.media is not None
    pod.proxy.media.kill()
    report = await operator.hears(lambda report: not report.media_ok, within=1)
    assert report.room == 0
    await in_kamailio(pod, {("ctl", "media"): 0})
    assert await pod.ready()
    pod.proxy.start_media()
    await operator.hears(lambda report: report.media_ok and report.room == 10)
    await in_kamailio(pod, {("ctl", "media"): 1})


async def test_rtpengine_hangs(pod: Pod, operator: Operator) -> None:
    """An rtpengine that does not answer is as bad as none."""
    await operator.configure(settings())
    await operator.hears(lambda report: report.media_ok)
    assert pod.proxy.media is not None
    pod.proxy.media.freeze()
    await operator.hears(lambda report: not report.media_ok)
    thaw(pod.proxy.media)
    await operator.hears(lambda report: report.media_ok)


async def test_the_agent_restarts(pod: Pod, operator: Operator) -> None:
    """A restarted agent leaves Kamailio as it was told to be, and its table numbers never repeat within a run."""
    await operator.configure(settings())
    await operator.tick(9)
    await operator.role("primary")
    await operator.table(pod.row())
    version = pod.proxy.control.number("rt", "ver")
    pod.stop_agent(signal.SIGKILL)
    await operator.until(lambda: operator.errors)
    pod.start_agent()
    await operator.until(lambda: len(operator.hellos) == 2)
    report = await operator.hears(lambda report: report.role == "primary" and report.tick == 9)
    assert report.boot == pod.proxy.control.get("ctl", "boot")
    control = pod.proxy.control
    assert [control.get("ctl", key) for key in ("role", "tick", "ready")] == ["primary", "9", "1"]
    await operator.configure(settings())
    await operator.table(pod.row())
    assert control.number("rt", "ver") == version + 1


async def test_certificates_rotate(pod: Pod, operator: Operator) -> None:
    """A certificate that changes on disk is in use for the next session, and its fingerprint is reported."""
    await operator.configure(settings())
    fresh = pod.pki.agent()
    pod.give(fresh)
    await operator.hears(lambda report: report.fingerprint == fresh.fingerprint)
    async with pod.linked() as later:
        assert later.hellos[0].fingerprint == fresh.fingerprint


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"POD_NAME": ""}, "switchboard-agent: environment variable POD_NAME is not set; the operator sets it"),
        ({"ETC_DIR": "/nowhere"}, "switchboard-agent: /nowhere/token/key: No such file or directory"),
        ({"POD_IP": "192.0.2.1"}, "switchboard-agent: cannot listen on 192.0.2.1:7443"),
    ],
)
async def test_a_wrong_start_is_one_line(change: dict[str, str], says: str) -> None:
    """An agent that cannot start says why in one line, and ends with status 1."""
    async with pods(f"{NETWORK}.12", started=False) as made:
        made[0].start_agent(**change)
        agent = made[0].agent
        assert agent is not None
        assert await asyncio.to_thread(agent.wait, 10) == 1
        last = made[0].log.read_text().splitlines()[-1]
        assert says in last
        assert "Traceback" not in made[0].log.read_text()


async def test_an_expired_certificate_is_one_line(pod: Pod) -> None:
    """An agent whose certificate expired says so, and so does the operator that dials it."""
    pod.stop_agent()
    pod.give(pod.pki.agent(lifetime=timedelta(minutes=1)))  # from an hour ago
    pod.start_agent()
    async with pod.linked(stands=False) as operator:
        await operator.until(lambda: any("certificate" in str(error) for error in operator.errors))
        assert operator.hellos == []
    said = str(operator.errors[-1])
    assert said.startswith(f"proxy {pod.name} at {pod.link}: its agent's certificate expired; the operator issues")
    assert "the certificate expired at" in pod.log.read_text()


async def test_another_pools_operator_is_not_let_in(pod: Pod) -> None:
    """The operator's certificate of another pool opens nothing here."""
    other = pod.pki.operator(PoolRef(name="other", namespace="voice", uid=""))
    async with pod.linked(other, stands=False) as operator:
        await operator.until(lambda: any("403" in str(error) for error in operator.errors))
        assert operator.hellos == []


async def test_the_agent_needs_no_kamailio_to_start() -> None:
    """The agent is there before Kamailio: it takes commands, and they come into effect with Kamailio."""
    async with pods(f"{NETWORK}.12", started=False) as made:
        (pod,) = made
        pod.start_agent()
        async with pod.linked() as operator:
            assert operator.hellos[0].boot == ""
            with pytest.raises(AssertionError, match="Kamailio is not up"):
                await operator.configure(settings(calls=3))
            with pytest.raises(AssertionError, match="Kamailio is not up"):
                await operator.tick(4)
            pod.proxy.start()
            await operator.hears(lambda report: report.boot and report.room == 3)
            await in_kamailio(pod, {("ctl", "tick"): 4, ("ctl", "ready"): 1})


async def test_the_image_runs_it() -> None:
    """The agent of the image, with the image's own Python and libraries, does the same."""
    async with pods(f"{NETWORK}.12", started=False) as (pod,):
        pod.proxy.start()
        inside = {**pod.environment, "RUN_DIR": RUN_DIR, "ETC_DIR": f"{RUN_DIR}/etc"}
        agent = Program("/usr/local/bin/switchboard-agent", inside, pod.run, rootfs())
        try:
            async with pod.linked() as operator:
                await operator.hears(lambda report: report.boot)
                await operator.configure(settings(calls=3))
                assert pod.proxy.control.number("ctl", "ceiling") == 3
        finally:
            agent.kill()


def test_help_is_there() -> None:
    """`switchboard-agent --help` names the helper."""
    done = subprocess.run(
        [sys.executable, "-c", "from switchboard.agent.app import main; main(['--help'])"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert "drain" in done.stdout
