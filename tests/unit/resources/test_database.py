import pytest

from switchboard.resources.database import Database, SslMode, read_database

PLAIN = Database(host="db", port=5432, name="app", user="me", password="a:b/c", ssl_mode="prefer", authority="")


@pytest.mark.parametrize(
    "files",
    [
        {"host": b"db", "port": b"5432", "dbname": b"app", "username": b"me", "password": b"a:b/c\n"},
        {"host": b"db", "database": b"app", "user": b"me", "password": b"a:b/c", "uri": b"what else"},
        {"uri": b"postgresql://me:a%3Ab%2Fc@db:5432/app"},
        {"uri": b"postgres://me:a%3Ab%2Fc@db/app", "jdbc-uri": b"jdbc:postgresql://db/app"},
        {"uri": b"postgresql://me:x@db:5432/app", "password": b"a:b/c"},
    ],
)
def test_as_operators_of_postgresql_make_it(files: dict[str, bytes]) -> None:
    """Entries of the one or the other, or a URI."""
    assert read_database(files) == PLAIN


@pytest.mark.parametrize(
    ("more", "mode", "authority"),
    [
        ({}, "prefer", ""),
        ({"sslmode": b"require"}, "require", ""),
        ({"ca.crt": b"PEM"}, "verify-full", "PEM"),
        ({"ca.crt": b"PEM", "sslmode": b"verify-ca"}, "verify-ca", "PEM"),
    ],
)
def test_how_the_server_is_verified(more: dict[str, bytes], mode: SslMode, authority: str) -> None:
    """By the CA, where there is one and nothing else is said."""
    database = read_database({"uri": b"postgresql://me:x@db/app", **more})
    assert (database.ssl_mode, database.authority) == (mode, authority)
    assert read_database({"uri": b"postgresql://me:x@db/app?sslmode=disable&x=y"}).ssl_mode == "disable"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "it has no uri, and no host and no dbname and no username and no password"),
        ({"uri": b"postgresql://db/app"}, "no username and no password"),
        ({"uri": b"mysql://secret:secret@db/app"}, "its uri is not like postgresql://"),
        ({"uri": b"postgresql://secret:secret@db:port/app"}, "its uri is not like postgresql://"),
        ({"uri": b"postgresql://secret:secret@db/app", "port": b"0"}, "its port is not a number"),
        ({"uri": b"postgresql://secret:secret@db/app", "sslmode": b"secret"}, "its sslmode is none of disable"),
        ({"uri": b"postgresql://secret:secret@db/app", "sslmode": b"verify-full"}, "it has no ca.crt"),
        ({"password": b"\xff"}, "an entry of it is not UTF-8"),
    ],
)
def test_what_is_wrong_is_told_without_what_is_there(files: dict[str, bytes], message: str) -> None:
    """Which entry."""
    with pytest.raises(ValueError, match=message) as caught:
        read_database(files)
    assert "secret" not in str(caught.value)
