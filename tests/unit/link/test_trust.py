from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest

from switchboard.errors import ConfigurationError, MessageError
from switchboard.link.client import Target, next_id
from switchboard.link.messages import Drain, Tick
from switchboard.link.tls import Credentials, Identity, Keyring, identify
from tests.unit.link.certificates import DAY, Authority
from tests.unit.link.ends import AGENT_SAN, OPERATOR_SAN, Agent, Ear, hello, listening, serving


def save(credentials: Credentials, directory: Path) -> None:
    (directory / "tls.crt").write_bytes(credentials.certificate)
    (directory / "tls.key").write_bytes(credentials.key)
    (directory / "ca.crt").write_bytes(credentials.authorities)


def test_san_names_role_pool_and_namespace() -> None:
    """Who somebody is stands in one DNS name, and is read back from it."""
    who = Identity("agent", "edge", "voice")
    assert who.san == AGENT_SAN
    assert identify({"subjectAltName": (("DNS", AGENT_SAN),)}) == who


@pytest.mark.parametrize(
    "name",
    [
        ("IP Address", "198.18.0.1"),
        ("DNS", "agent.edge.voice.example"),
        ("DNS", "agent.edge.switchboard"),
        ("DNS", "root.edge.voice.switchboard"),
    ],
)
def test_other_names_are_nobody(name: tuple[str, str]) -> None:
    """A certificate that names no role of a pool identifies nobody."""
    assert identify({"subjectAltName": (name,)}) is None
    assert identify(None) is None


async def test_a_peer_may_read_and_not_command(agent: Agent, ear: Ear, agent_credentials: Credentials) -> None:
    """Another proxy's agent hears reports; its commands are refused, and the link stays."""
    async with listening(agent.address, agent_credentials.client_context, ear) as link:
        await ear.until(lambda: ear.reports)
        await link.request_report()
        await ear.until(lambda: len(ear.reports) == 2)
        ack = await link.send(Drain(id=next_id(), term=9, draining=True))
        assert ack.error == "refused: a peer may read reports, and send ticks while no operator is linked"
        assert agent.commands == []
        assert not agent.server.has_operator
        assert agent.server.has_listener


async def test_a_peer_ticks_only_while_no_operator_is_linked(
    agent: Agent, ear: Ear, agent_credentials: Credentials, operator_credentials: Credentials
) -> None:
    """Without an operator the primary's agent may go on with the ticks; with one it may not."""
    async with listening(agent.address, agent_credentials.client_context, ear) as peer:
        await ear.until(lambda: ear.reports)
        tick = Tick(id=next_id(), term=9, tick=9)
        ack = await peer.send(tick)
        assert ack.error is None
        operator = Ear()
        async with listening(agent.address, operator_credentials.client_context, operator):
            await operator.until(lambda: operator.reports)
            ack = await peer.send(Tick(id=next_id(), term=9, tick=10))
            assert ack.error == "refused: a peer may read reports, and send ticks while no operator is linked"
    assert agent.commands == [tick]


@pytest.mark.parametrize(
    ("san", "says"),
    [
        ("operator.other.voice.switchboard", f"{OPERATOR_SAN} is required"),
        ("agent.edge.elsewhere.switchboard", f"{AGENT_SAN} is required"),
        ("example.org", "a client certificate of this pool is required"),
        (None, "a client certificate of this pool is required"),
    ],
)
async def test_strangers_are_told_what_is_required(
    *, agent: Agent, ear: Ear, authority: Authority, agent_credentials: Credentials, san: str | None, says: str
) -> None:
    """Without a certificate of this pool and namespace there is no link, and the answer says which one it takes."""
    context = (authority.issue(san) if san else agent_credentials).client_context()
    if san is None:
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=authority.pem.decode())
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"https://{agent.address}/v1/link", ssl=context, server_hostname=AGENT_SAN) as response,
    ):
        assert response.status == 403
        assert says in await response.text()
    async with listening(agent.address, lambda: context, ear):
        await ear.until(lambda: ear.errors)
    assert "cannot dial its agent" in str(ear.errors[0])
    assert "403" in str(ear.errors[0])


@pytest.mark.parametrize(
    ("sans", "end", "says"),
    [
        ((AGENT_SAN,), -timedelta(minutes=1), "its agent's certificate expired"),
        (("agent.other.voice.switchboard",), DAY, f"its agent's certificate is not for {AGENT_SAN}"),
    ],
)
async def test_agent_with_a_wrong_certificate(
    *,
    ear: Ear,
    authority: Authority,
    operator_credentials: Credentials,
    sans: tuple[str, ...],
    end: timedelta,
    says: str,
) -> None:
    """An agent whose certificate is out of date or another pool's gets no link; one clear line says so."""
    agent = Agent()
    credentials = authority.issue(*sans, begin=-2 * DAY, end=end)
    async with (
        serving(agent.server.handle, credentials.server_context()) as address,
        listening(address, operator_credentials.client_context, ear),
    ):
        await ear.until(lambda: ear.errors)
    assert isinstance(ear.errors[0], ConfigurationError)
    assert says in str(ear.errors[0])
    assert "\n" not in str(ear.errors[0])


async def test_agent_of_another_authority(ear: Ear, operator_credentials: Credentials) -> None:
    """A certificate with the right name from another CA counts for nothing, on either end."""
    agent, stranger = Agent(), Authority("another CA").issue(AGENT_SAN)
    async with (
        serving(agent.server.handle, stranger.server_context()) as address,
        listening(address, operator_credentials.client_context, ear),
    ):
        await ear.until(lambda: ear.errors)
    assert "is not one of this pool's CA" in str(ear.errors[0])


async def test_listener_of_another_authority(agent: Agent, ear: Ear, authority: Authority) -> None:
    """A listener whose certificate another CA made is not let in."""
    stranger = Authority("another CA").issue(OPERATOR_SAN)
    trusting = Credentials(stranger.certificate, stranger.key, authority.pem, "test")
    async with listening(agent.address, trusting.client_context, ear):
        await ear.until(lambda: ear.errors)
    assert "cannot dial its agent" in str(ear.errors[0])
    assert not agent.server.has_listener


async def test_address_with_a_new_owner(agent: Agent, ear: Ear, operator_credentials: Credentials) -> None:
    """An agent of the same pool that is another proxy than the one meant is not taken for it."""
    agent.greeting = hello(proxy="edge-bbbbb")
    async with listening(agent.address, operator_credentials.client_context, ear) as link:
        await ear.until(lambda: ear.errors)
        assert link.target == Target("edge-aaaaa", agent.address, "edge", "voice")
    assert isinstance(ear.errors[0], MessageError)
    assert "it is proxy edge-bbbbb of pool voice/edge, not edge-aaaaa of pool voice/edge" in str(ear.errors[0])


def test_missing_file_is_named(tmp_path: Path) -> None:
    """A Secret that is not mounted is said so, with the path."""
    with pytest.raises(ConfigurationError, match=r"tls\.crt: No such file or directory; mount"):
        Credentials.read(tmp_path)


def test_own_certificate_out_of_date(authority: Authority) -> None:
    """An end does not dial with a certificate that is out of date, and says what to see to."""
    from datetime import UTC, datetime

    credentials = authority.issue(OPERATOR_SAN)
    credentials.require_valid(datetime.now(UTC))
    with pytest.raises(ConfigurationError, match=r"Secret test: the certificate expired at .* the operator issues"):
        credentials.require_valid(datetime.now(UTC) + 2 * DAY)
    with pytest.raises(ConfigurationError, match=r"is valid from .* set this machine's clock"):
        credentials.require_valid(datetime.now(UTC) - 2 * DAY)


def test_files_that_do_not_go_together(authority: Authority) -> None:
    """A key of another certificate, or no PEM at all, is one clear line."""
    one, other = authority.issue(OPERATOR_SAN), authority.issue(OPERATOR_SAN)
    with pytest.raises(ConfigurationError, match="certificate, key and CA do not go together"):
        Credentials(one.certificate, other.key, one.authorities, "test").client_context()
    with pytest.raises(ConfigurationError, match=r"test: tls\.crt is not a PEM certificate"):
        Credentials(b"nonsense", one.key, one.authorities, "test").parsed()
    with pytest.raises(ConfigurationError, match=r"test: tls\.crt is not a PEM certificate"):
        _ = Credentials(b"nonsense", one.key, one.authorities, "test").fingerprint


async def test_rotation_counts_from_the_next_handshake(
    tmp_path: Path, ear: Ear, authority: Authority, operator_credentials: Credentials
) -> None:
    """Certificates that change on disk are used from the next handshake on, old CA dropped; standing links stay."""
    save(authority.issue(AGENT_SAN), tmp_path)
    keyring = Keyring(tmp_path)
    before = keyring.fingerprint
    assert not keyring.reload()
    agent, renewed = Agent(), Authority("renewed CA")
    async with (
        serving(agent.server.handle, keyring.server_context()) as address,
        listening(address, operator_credentials.client_context, ear) as link,
    ):
        await ear.until(lambda: ear.hellos)
        save(renewed.issue(AGENT_SAN), tmp_path)
        assert keyring.reload()
        assert keyring.fingerprint != before
        ack = await link.send(Tick(id=next_id(), term=1, tick=1))
        assert ack.error is None
        later, old = Ear(), Ear()
        async with listening(address, renewed.issue(OPERATOR_SAN).client_context, later):
            await later.until(lambda: later.hellos)
        only_old = authority.issue(OPERATOR_SAN)
        async with listening(
            address, Credentials(only_old.certificate, only_old.key, renewed.pem, "").client_context, old
        ):
            await old.until(lambda: old.errors)
        assert old.hellos == []


def test_half_a_rotation_changes_nothing(tmp_path: Path, authority: Authority) -> None:
    """A key that is there before its certificate does not break what works."""
    credentials = authority.issue(AGENT_SAN)
    save(credentials, tmp_path)
    keyring = Keyring(tmp_path)
    (tmp_path / "tls.key").write_bytes(authority.issue(AGENT_SAN).key)
    with pytest.raises(ConfigurationError, match="do not go together"):
        keyring.reload()
    assert keyring.fingerprint == credentials.fingerprint
    assert keyring.client_context() is keyring.client_context()
