"""The agent brings the users of the mounted Secret into effect, at its start and when they have changed."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from switchboard.agent.memory import Memory
from switchboard.pool.spec import Authentication, Gateway
from tests.agent.pod import Pod, in_kamailio, pods, settings
from tests.tools.addresses import NETWORK
from tests.tools.digest import REALM, challenges, credentials, ha1
from tests.tools.sip import Phone
from tests.tools.wait import until

WANTED = Authentication(secret_name="edge-users", realm=REALM)  # a Secret's name
TARGET, CLIENT = f"{NETWORK}.15.40", f"{NETWORK}.15.50"


@pytest.fixture
async def pod() -> AsyncIterator[Pod]:
    async with pods(f"{NETWORK}.15", started=False) as (one,):
        one.users("alice:first\n")
        one.start()
        yield one


@pytest.fixture
async def pbx() -> AsyncIterator[Phone]:
    async with Phone.at(TARGET, 5060, user="pbx") as phone:
        yield phone


async def status(pod: Pod, password: str) -> int:
    """What becomes of a REGISTER with that password."""
    async with Phone.at(CLIENT) as alice:
        where = f"sip:{pod.address}:5060"
        own = f"sip:alice@{REALM}"
        asked = (await (await alice.request("REGISTER", where, from_uri=own, to_uri=own)).final()).message
        if asked.status != 401:
            return asked.status
        answer = credentials(challenges(asked)[0], "REGISTER", where, password)
        return (
            await (await alice.request("REGISTER", where, headers=[answer], from_uri=own, to_uri=own)).final()
        ).message.status


async def test_users_change_without_a_restart(pod: Pod, pbx: Phone) -> None:
    """Each user's password is in effect from the start, a changed one soon; what cannot be used changes nothing, and is
    told without a name or a password. Turned off, nobody is asked; Kamailio goes on all the while.
    """
    async with pod.linked() as operator:
        wanted = settings(target=f"sip:{TARGET}:5060", authentication=WANTED)
        await operator.configure(wanted)
        await operator.role("primary")
        boot = (await operator.hears(lambda report: report.boot)).boot
        assert await status(pod, "first") == 200
        assert await status(pod, "second") == 401

        pod.users("alice:second\n")

        await in_kamailio(pod, {("ha1", "MD5:alice"): ha1("MD5", "alice", "second")})
        assert await status(pod, "second") == 200
        assert await status(pod, "first") == 401

        pod.users("alice\n")
        wrong = f"Secret {WANTED.secret_name}: passwords, line 1, is not user:password"
        await until(lambda: wrong in pod.log.read_text(), "what is wrong is logged")
        assert await status(pod, "second") == 200
        assert "alice" not in pod.log.read_text()

        await operator.configure(settings(target=f"sip:{TARGET}:5060"))
        assert await status(pod, "nothing") == 200
        assert pod.proxy.control.dump("ha1") == {}
        assert (await operator.hears(lambda report: report.boot)).boot == boot


async def test_users_survive_kamailio(pod: Pod, pbx: Phone) -> None:
    """A Kamailio that starts anew knows the users before it takes its first request."""
    async with pod.linked() as operator:
        await operator.configure(settings(target=f"sip:{TARGET}:5060", authentication=WANTED))
        await operator.role("primary")
        before = (await operator.hears(lambda report: report.boot)).boot
        assert pod.proxy.kamailio is not None
        pod.proxy.kamailio.kill()
        pod.proxy.start_kamailio()
        await operator.hears(lambda report: report.boot not in ("", before), within=10)
        await until(pod.ready, "open again")
        assert await status(pod, "first") == 200


async def test_what_went_while_the_agent_was_away(pod: Pod, pbx: Phone) -> None:
    """An agent that starts beside a Kamailio that runs takes out what is no longer there: a user above all, who would
    get in with the password that was taken away; and nothing else, all the while that calls come in.
    """
    trunk = Gateway(name="trunk", kind="pstn", networks=(f"{NETWORK}.15.60/32",))
    wanted = settings(target=f"sip:{TARGET}:5060", authentication=WANTED)
    more = msgspec.structs.replace(wanted, gateways=(trunk,), client_origins=("https://a.test",), aliases=("a.test",))
    pod.users("alice:first\nbob:first\n")
    async with pod.linked() as operator:
        await operator.configure(more)
        await operator.role("primary")
        await in_kamailio(pod, {("ha1", "MD5:bob"): ha1("MD5", "bob", "first"), ("gw", "trunk"): "pstn||"})
        boot = (await operator.hears(lambda report: report.boot)).boot
    pod.stop_agent(signal.SIGKILL)
    pod.users("alice:first\n")
    assert await status(pod, "first") == 200
    pod.start_agent()
    async with pod.linked() as operator:
        await operator.configure(wanted)
        assert set(pod.proxy.control.dump("ha1")) == {"MD5:alice", "SHA-256:alice"}
        assert [pod.proxy.control.dump(table) for table in ("gw", "origin")] == [{}, {}]
        assert "a.test" not in pod.proxy.control.dump("alias")
        assert (await operator.hears(lambda report: report.boot)).boot == boot
        assert await status(pod, "first") == 200


async def test_what_was_written_into_another_run_is_not_there(tmp_path: Path) -> None:
    """The file is about one run of Kamailio; one that cannot be read is none."""
    file = tmp_path / "written.json"
    Memory(file).note("5a5a5a5a", {("ha1", "MD5:alice")})
    assert Memory(file).of("5a5a5a5a") == {("ha1", "MD5:alice")}
    assert Memory(file).of("00000000") == set()
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text("{")
    assert Memory(file).of("5a5a5a5a") == set()
