from __future__ import annotations

from base64 import b64decode

from switchboard.resources import secrets
from switchboard.resources.certificates import Authorities, KeyPair
from switchboard.resources.names import PoolRef

OLD = KeyPair(certificate=b"old certificate\n", key=b"old key\n")
NEW = KeyPair(certificate=b"new certificate\n", key=b"new key\n")
AGENT = KeyPair(certificate=b"agent certificate\n", key=b"agent key\n")


def plain(secret: dict[str, dict[str, str]]) -> dict[str, bytes]:
    return {key: b64decode(value) for key, value in secret["data"].items()}


def test_agents_get_certificate_key_and_all_trusted_authorities(pool: PoolRef) -> None:
    """During a rotation agents trust the old and the new CA."""
    secret = secrets.build_agent_tls(pool, AGENT, Authorities(signing=OLD, following=NEW))
    assert secret["metadata"]["name"] == "edge-agent-tls"
    assert secret["type"] == "kubernetes.io/tls"
    assert plain(secret) == {
        "tls.crt": AGENT.certificate,
        "tls.key": AGENT.key,
        "ca.crt": OLD.certificate + NEW.certificate,
    }


def test_no_mounted_secret_holds_an_authoritys_key(pool: PoolRef) -> None:
    """Whoever breaks into a proxy cannot issue certificates."""
    authorities = Authorities(signing=OLD, following=NEW)
    for secret in (
        secrets.build_agent_tls(pool, AGENT, authorities),
        secrets.build_operator_tls(pool, AGENT, authorities),
        secrets.build_token(pool, "00" * 32),
    ):
        assert not {OLD.key, NEW.key} & set(plain(secret).values())


def test_an_authority_survives_the_operator(pool: PoolRef) -> None:
    """A restarted operator reads back what it wrote, in the middle of a rotation too."""
    for authorities in (
        Authorities(signing=OLD),
        Authorities(signing=OLD, following=NEW),
        Authorities(signing=NEW, previous=OLD.certificate),
    ):
        secret = secrets.build_authority(pool, authorities)
        assert secret["metadata"]["name"] == "edge-ca"
        assert Authorities.from_secret(secret["data"]) == authorities


def test_the_pool_key_is_given_as_it_is(pool: PoolRef) -> None:
    """Agents read 64 hex digits."""
    secret = secrets.build_token(pool, "0f" * 32)
    assert secret["metadata"]["name"] == "edge-token"
    assert plain(secret) == {"key": b"0f" * 32}


def test_the_operators_certificate_has_a_secret_of_its_own(pool: PoolRef) -> None:
    """Agents never see the operator's key."""
    assert secrets.build_operator_tls(pool, AGENT, Authorities(signing=OLD))["metadata"]["name"] == "edge-operator-tls"
