"""Leaving without losing a call."""

import asyncio
import sys

import pytest

from tests.agent.pod import Operator, Pod, in_kamailio, settings
from tests.tools import answers
from tests.tools.addresses import CLIENTS, TARGETS
from tests.tools.dialog import T1_SECONDS
from tests.tools.sip import Phone

PBX = f"{TARGETS}.1"
ALICE = f"{CLIENTS}.1"


async def prestop(pod: Pod, *arguments: str) -> asyncio.subprocess.Process:
    """The pod's preStop."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import sys; from switchboard.agent.app import main; sys.exit(main(sys.argv[1:]))",
        "drain",
        *arguments,
        env=pod.environment,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_drain_by_command_and_back(pod: Pod, operator: Operator) -> None:
    """A draining proxy says so at once, and is taken back by the same command."""
    await operator.configure(settings())
    await operator.drain()
    assert pod.proxy.control.number("ctl", "drain") == 1
    await operator.hears(lambda report: report.draining, within=0.5)
    assert await pod.ready()
    await operator.drain(draining=False)
    assert pod.proxy.control.number("ctl", "drain") == 0
    await operator.hears(lambda report: not report.draining, within=0.5)


async def test_prestop_waits_for_the_last_call(pod: Pod, operator: Operator) -> None:
    """PreStop drains, whatever the operator says, and ends when the last call has."""
    await operator.configure(settings(target=f"sip:{PBX}:5060"))
    async with Phone.at(ALICE) as alice, Phone.at(PBX, 5060):
        call = await alice.call(f"sip:bob@{pod.address}:5060")
        assert call.status == 200
        helper = await prestop(pod, "--wait")
        await operator.hears(lambda report: report.draining)
        await operator.drain(draining=False)
        assert pod.proxy.control.number("ctl", "drain") == 1
        assert helper.returncode is None
        assert await call.bye() == 200
        assert await asyncio.wait_for(helper.wait(), 10) == 0


async def test_prestop_waits_for_a_bye_that_comes_again(pod: Pod, operator: Operator) -> None:
    """A client that lost the answer to the last call's BYE asks again, and is answered: preStop has not ended yet."""
    await operator.configure(settings(target=f"sip:{PBX}:5060"))
    async with Phone.at(ALICE) as alice, Phone.at(PBX, 5060):
        call = await alice.call(f"sip:bob@{pod.address}:5060")
        helper = await prestop(pod, "--wait")
        await operator.hears(lambda report: report.draining)
        assert await call.bye() == 200
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(helper.wait(), T1_SECONDS)
        answers = len(alice.log)
        proxy, bye = alice.endpoint.sent[-1]
        await alice.endpoint.send(bye, proxy)
        assert (await alice.endpoint.until(lambda _: True, since=answers)).message.status == 200
        assert await asyncio.wait_for(helper.wait(), 10) == 0


async def test_prestop_waits_for_ringing_calls_that_were_forwarded(pod: Pod, operator: Operator) -> None:
    """A call that still rings counts, though nobody has answered it."""
    await operator.configure(settings(target=f"sip:{PBX}:5060"))
    answer = asyncio.Event()
    async with Phone.at(ALICE) as alice, Phone.at(PBX, 5060) as pbx:
        pbx.script = answers.answer_when(answer)
        call = await alice.dial(f"sip:bob@{pod.address}:5060")
        await call.ringing()
        helper = await prestop(pod, "--wait")
        await operator.hears(lambda report: report.draining)
        answer.set()
        assert await call.result() == 200
        assert helper.returncode is None
        await call.bye()
        assert await asyncio.wait_for(helper.wait(), 10) == 0


async def test_prestop_of_the_primary_waits_for_the_hand_over(pod: Pod, operator: Operator) -> None:
    """While an operator is there to make another primary, the draining one stays until it has."""
    await operator.configure(settings())
    await operator.role("primary")
    helper = await prestop(pod, "--wait")
    await operator.hears(lambda report: report.draining)
    assert helper.returncode is None
    await operator.role("member", primary="sip:127.0.0.9:5060")
    assert await asyncio.wait_for(helper.wait(), 10) == 0


async def test_prestop_without_waiting(pod: Pod, operator: Operator) -> None:
    """`drain` alone begins it and returns."""
    await operator.configure(settings())
    helper = await prestop(pod)
    assert await asyncio.wait_for(helper.wait(), 10) == 0
    await in_kamailio(pod, {("ctl", "drain"): 1})


async def test_prestop_without_an_agent(pod: Pod) -> None:
    """An agent that is gone for good does not keep the pod; the helper says why it does not wait."""
    pod.stop_agent()
    helper = await prestop(pod, "--wait")
    _, said = await asyncio.wait_for(helper.communicate(), 20)
    assert helper.returncode == 1
    assert b"the agent does not answer" in said
