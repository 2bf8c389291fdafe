from hashlib import md5, sha256

import pytest

from switchboard.pool.spec import Authentication
from switchboard.resources.users import read_users

WANTED = Authentication(secret_name="edge-users", realm="voice.example.com")
OF_ALICE = b"alice:voice.example.com:pass:word"
MD5, SHA_256 = md5(OF_ALICE, usedforsecurity=False).hexdigest(), sha256(OF_ALICE).hexdigest()


def test_passwords_become_ha1() -> None:
    """Of each user one for each algorithm; a password may have colons."""
    users = read_users({"passwords": b"# staff\n\nalice:pass:word\n+4930123:x\n"}, WANTED)
    assert users["MD5", "alice"] == MD5
    assert users["SHA-256", "alice"] == SHA_256
    assert {user for _, user in users} == {"alice", "+4930123"}


def test_htdigest_is_taken_as_it_is() -> None:
    """Lines of another realm are another server's; a line of an algorithm that is not offered is passed over."""
    lines = f"alice:voice.example.com:{MD5.upper()}\nalice:voice.example.com:{SHA_256}\nb b:elsewhere:{MD5}\n"
    both = {("MD5", "alice"): MD5, ("SHA-256", "alice"): SHA_256}
    assert read_users({"htdigest": lines.encode()}, WANTED) == both
    md5_alone = Authentication(secret_name="edge-users", realm="voice.example.com", algorithms=("MD5",))
    assert read_users({"htdigest": lines.encode()}, md5_alone) == {("MD5", "alice"): MD5}
    assert read_users({"passwords": b"alice:pass:word", "htdigest": b""}, WANTED) == both


WRONG = [
    ({}, "it has neither passwords nor htdigest"),
    ({"passwords": b"alice"}, "passwords, line 1, is not user:password"),
    ({"passwords": b"alice:"}, "passwords, line 1, is not user:password"),
    ({"passwords": b"\xff:x"}, "passwords is not UTF-8"),
    ({"passwords": b"a b:x"}, "passwords, line 1, has no user name: it must be letters, digits and"),
    ({"passwords": b"a>;b:x"}, "passwords, line 1, has no user name"),
    ({"passwords": b"alice@Example.com:x"}, "passwords, line 1, has no user name"),
    ({"htdigest": f"al,ice:voice.example.com:{MD5}".encode()}, "htdigest, line 1, has no user name"),
    ({"passwords": b"a:x\nb:x\na:y"}, "passwords, line 3, has the user of passwords, line 1, once more"),
    ({"htdigest": b"alice:voice.example.com"}, "htdigest, line 1, is not user:realm:HA1"),
    ({"htdigest": b"alice:voice.example.com:5f"}, "htdigest, line 1, has no HA1: it must be 32 hex digits"),
    ({"htdigest": b"alice:voice.example.com:" + b"g" * 32}, "htdigest, line 1, has no HA1: it must be 32 hex digits"),
    ({"htdigest": f"alice:voice.example.com:{MD5}".encode()}, "the user of htdigest, line 1, has no SHA-256: add it"),
]


@pytest.mark.parametrize(("files", "message"), WRONG)
def test_what_is_wrong_is_told_without_what_is_there(files: dict[str, bytes], message: str) -> None:
    """By entry and line; neither a user's name nor what its password is made of."""
    with pytest.raises(ValueError, match=message) as caught:
        read_users(files, WANTED)
    assert "alice" not in str(caught.value)
    assert MD5 not in str(caught.value)
