"""PostgreSQL on loopback, with a folder of its own: `apt-get install postgresql` brings it."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from urllib.parse import quote

from benchmarks.object_store.server import HOST, START_S, UnavailableError, free_ports

DEBIAN = Path("/usr/lib/postgresql")
"""Where Debian has the programs of each version, which are not on PATH."""
USER = "airflow"
UNPRIVILEGED = ("postgres", "nobody")
"""Users that the server runs as where the tests run as root, which it refuses."""


class Database(NamedTuple):
    """A database, and how it is reached.

    Attributes:
        port: of its server.
        password: of its user; it has characters that an address must quote.
        folder: of its files.
        process: the server.
    """

    port: int
    password: str
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def address(self) -> str:
        """Its address, for SQLAlchemy."""
        password = quote(self.password, safe="")
        return f"postgresql+psycopg2://{USER}:{password}@{HOST}:{self.port}/postgres"

    def rows(self, query: str) -> list[tuple[str, ...]]:
        """Return the rows of a query, as text.

        Raises:
            CalledProcessError: the server refuses it.
        """
        place = ["--host", HOST, "--port", str(self.port), "--username", USER, "postgres"]
        plain = ["--no-psqlrc", "--tuples-only", "--no-align", "--field-separator", "\t"]
        done = subprocess.run(
            [find_program("psql"), *place, *plain, "--command", query],
            env=os.environ | {"PGPASSWORD": self.password},
            capture_output=True,
            text=True,
            check=True,
        )
        return [tuple(line.split("\t")) for line in done.stdout.splitlines()]


def find_program(name: str) -> str:
    """Return the path of a program of PostgreSQL.

    Raises:
        UnavailableError: it is not installed.
    """
    newest_first = sorted(DEBIAN.glob("*/bin"), key=lambda p: float(p.parent.name), reverse=True)
    path = os.pathsep.join([os.environ.get("PATH", ""), *map(str, newest_first)])
    program = shutil.which(name, path=path)
    if program is None:
        raise UnavailableError(
            f"no program `{name}` on PATH or in {DEBIAN}/*/bin (apt-get install postgresql)"
        )
    return program


@contextmanager
def serving_postgres() -> Iterator[Database]:
    """Serve an empty database.

    Raises:
        UnavailableError: PostgreSQL is not installed, or does not answer.
    """
    initdb, server = find_program("initdb"), find_program("postgres")
    with TemporaryDirectory(prefix="curation-postgres-") as name:
        folder, (port,) = Path(name), free_ports(1)
        password = f"{secrets.token_hex(8)}@:/%25 ü"
        (folder / "password").write_text(password, encoding="utf-8")
        who = _who_runs(folder)
        options = ["--username", USER, "--auth", "scram-sha-256", "--encoding", "UTF8"]
        options += ["--pwfile", str(folder / "password"), "--locale", "C.UTF-8", "--no-sync"]
        data = str(folder / "data")
        with (folder / "log").open("wb") as log:
            more: dict[str, Any] = {**who, "cwd": folder, "stdout": log, "stderr": log}
            if subprocess.run([initdb, "-D", data, *options], check=False, **more).returncode:
                raise UnavailableError(f"initdb fails: {(folder / 'log').read_text()[-500:]}")
            settings = {"listen_addresses": HOST, "port": port, "unix_socket_directories": ""}
            given = [word for item in settings.items() for word in ("-c", "{}={}".format(*item))]
            process = subprocess.Popen([server, "-D", data, *given], **more)
        database = Database(port, password, folder, process)
        try:
            _wait(database)
            yield database
        finally:
            # It ends without waiting for its clients.
            process.send_signal(signal.SIGINT)
            process.wait(60)


def _who_runs(folder: Path) -> dict[str, Any]:
    """Give a folder to the user that the server runs as; return who that is, for `subprocess`."""
    if os.geteuid() != 0:
        return {}
    users = {user.pw_name: user for user in pwd.getpwall()}
    user = next((users[name] for name in UNPRIVILEGED if name in users), None)
    if user is None:
        raise UnavailableError(f"root cannot run PostgreSQL, and there is no {UNPRIVILEGED[-1]}")
    for path in (folder, *folder.iterdir()):
        os.chown(path, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _wait(database: Database) -> None:
    deadline = time.monotonic() + START_S
    while database.process.poll() is None and time.monotonic() < deadline:
        try:
            database.rows("select 1")
            return
        except subprocess.CalledProcessError:
            time.sleep(0.1)
    raise UnavailableError(f"it does not answer: {(database.folder / 'log').read_text()[-500:]}")
