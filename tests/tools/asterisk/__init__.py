"""A real Asterisk, as PBX and as gateway: at a loopback address.

    with asterisk(ip, users=("alice",)) as pbx:
        pbx.command("pjsip show contacts")

Its dialplan is extensions.conf: *43 and a carrier's numbers echo, a name that has registered is called, and two of them
call each other over H.323.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.tools.certificates import Secret
from tests.tools.foreign import RUN, rootfs, sandbox

HERE = Path(__file__).parent
START_SECONDS = 30
RTP_PORTS = (16000, 16999)
USER = "trunk-1"  # what it calls itself where it is asked
OWN = "outbound_auth=own\n{1}[own]\ntype=auth\nauth_type=userpass\nusername={0}\npassword={2}\n"
CHALLENGE = "auth={0}\n[{0}]\ntype=auth\nauth_type=userpass\nusername={0}\npassword={1}\n"


TLS = """
[tls]
type=transport
protocol=tls
bind=@IP@:5061
cert_file=@RUN@/tls.crt
priv_key_file=@RUN@/tls.key
ca_list_file=@RUN@/ca.crt
method=tlsv1_2
"""


class AsteriskError(Exception):
    """It could not be started, or refused a command; the text ends with what it said."""


class Asterisk:
    """One running Asterisk."""

    def __init__(
        self,
        ip: str,
        run: Path,
        *,
        users: tuple[str, ...],
        other: str,
        password: str,
        secret: Secret,
        encrypted: bool,
    ) -> None:
        self._log = run / "log"
        root = rootfs("asterisk")
        self._sandbox = sandbox("asterisk", run)
        (modules,) = root.glob("usr/lib/*/asterisk/modules")
        first, last = map(str, RTP_PORTS)
        for name, content in secret.items():
            (run / name).write_bytes(content)
        values = {
            "TLS": TLS if secret else "",
            "IP": ip,
            "OTHER": other,
            "AUTH": OWN.format(USER, CHALLENGE.format("pool", password), password) if password else "",
            "SRTP": "media_encryption=sdes" if encrypted else "",
            "RUN": RUN,
            "FIRST": first,
            "LAST": last,
            "MODULES": f"/{modules.relative_to(root)}",
        }
        self._write(run, users, password, values)
        with self._log.open("wb") as log:
            command = [*self._sandbox, "asterisk", "-f", "-C", f"{RUN}/asterisk.conf"]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._wait_until_booted()

    def command(self, text: str) -> str:
        """A command of Asterisk's own command line; what it printed."""
        command = [*self._sandbox, "asterisk", "-C", f"{RUN}/asterisk.conf", "-rx", text]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode != 0:
            raise AsteriskError(f"{text}: {ran.stdout}{ran.stderr}{self._said()}")
        return ran.stdout

    def record(self) -> None:
        """All SIP that it gets and sends from now on is for `recorded`."""
        self.command(f"pjsip set logger pcap {RUN}/sip.pcap")
        self.command("pjsip set logger on")

    def recorded(self) -> str:
        """As a capture has it, with what stands between packets."""
        self.command(f"pjsip set logger pcap {RUN}/next.pcap")  # the one before is complete then
        return self._log.with_name("sip.pcap").read_bytes().decode("latin-1")

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait_until_booted(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(AsteriskError):
                self.command("core waitfullybooted")
                return
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise AsteriskError(f"Asterisk does not start: {self._said()}")
            time.sleep(0.1)

    def _said(self) -> str:
        return self._log.read_text(errors="replace")[-3000:]

    @staticmethod
    def _write(run: Path, users: tuple[str, ...], password: str, values: dict[str, str]) -> None:
        for template in HERE.glob("*.conf"):
            text = template.read_text()
            if template.name == "pjsip.conf":
                for user in users:
                    asks = CHALLENGE.format(user, password) if password else ""
                    text += f"\n[{user}](user)\naors={user}\n{asks}[{user}](location)\n"
            for name, value in values.items():
                text = text.replace(f"@{name}@", value)
            (run / template.name).write_text(text)


@contextlib.contextmanager
def asterisk(
    ip: str,
    users: tuple[str, ...] = (),
    other: str = "",
    password: str = "",
    secret: Secret | None = None,
    *,
    encrypted: bool = False,
) -> Iterator[Asterisk]:
    """SIP at port 5060 of `ip`, with a certificate over TLS at 5061, H.323 at 1720; `users` may register, `other` is
    called over H.323: an address.
    With a password it asks its users for that, and whoever else calls for that of the user `pool`; and is USER with
    the same one where it is asked itself. Encrypted, it takes and offers SRTP alone.
    """
    with tempfile.TemporaryDirectory(prefix="asterisk-", dir="/tmp") as directory:  # short, for its control socket
        Path(directory).chmod(0o777)
        running = Asterisk(
            ip,
            Path(directory),
            users=users,
            other=other or ip,
            password=password,
            secret=secret or {},
            encrypted=encrypted,
        )
        try:
            yield running
        finally:
            running.stop()
