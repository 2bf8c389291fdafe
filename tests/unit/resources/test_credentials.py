import pytest

from switchboard.resources.credentials import read_credentials


def test_username_and_password() -> None:
    """As Kubernetes' basic-auth Secrets have them; a line's end that a file brought along is none of theirs."""
    assert read_credentials({"username": b"trunk\n", "password": b"a:b c\n"}) == ("trunk", "a:b c")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "it has no username and no password"),
        ({"username": b"trunk", "password": b"\n"}, "it has no password"),
        ({"username": b"trunk", "password": b"\xff"}, "it is not UTF-8"),
        ({"username": b"tr:unk", "password": b"x"}, "its username has a space, a colon"),
        ({"username": b'tr"unk', "password": b"x"}, "its username has a space, a colon"),
    ],
)
def test_what_is_wrong_is_told_without_what_is_there(files: dict[str, bytes], message: str) -> None:
    """Nothing of either."""
    with pytest.raises(ValueError, match=message) as caught:
        read_credentials(files)
    assert "trunk" not in str(caught.value)
