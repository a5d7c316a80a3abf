"""Azurite, an emulator of Azure Blob Storage, on loopback: `npm install --global azurite` brings it."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pyarrow import fs

from benchmarks.object_store.server import HOST, START_S, UnavailableError, free_ports

ACCOUNT, CONTAINER = "devstoreaccount1", "container"
# The key of every Azurite: https://learn.microsoft.com/azure/storage/common/storage-use-azurite
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
PROGRAM = "azurite-blob"


@contextmanager
def serving_azure() -> Iterator[dict[str, str]]:
    """Serve an empty container; yield the variables of the environment with which it is reached.

    Raises:
        UnavailableError: the program is not installed, or does not answer.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise UnavailableError(f"no program `{PROGRAM}` on PATH (npm install --global azurite)")
    (port,) = free_ports(1)
    with TemporaryDirectory(prefix="curation-azurite-") as folder:
        place = ["--blobHost", HOST, "--blobPort", str(port), "--location", folder]
        more = ["--silent", "--skipApiVersionCheck", "--disableTelemetry"]
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen([program, *place, *more], stdout=output, stderr=output)
        try:
            _wait(process, port, log)
            _make_container(port)
            yield {
                "AZURE_STORAGE_ENDPOINT": f"http://{HOST}:{port}/{ACCOUNT}",
                "AZURE_STORAGE_ACCOUNT_KEY": KEY,
            }
        finally:
            process.kill()
            process.wait()


def azure_address() -> str:
    """The address of an empty store."""
    return f"abfs://{CONTAINER}@{ACCOUNT}.dfs.core.windows.net/store-{uuid.uuid4().hex[:8]}"


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex((HOST, port)) == 0:
                return
    raise UnavailableError(f"{PROGRAM} does not answer: {log.read_text()[-500:]}")


def _make_container(port: int) -> None:
    authority = f"{HOST}:{port}"
    client = fs.AzureFileSystem(
        ACCOUNT,
        account_key=KEY,
        blob_storage_authority=authority,
        dfs_storage_authority=authority,
        blob_storage_scheme="http",
        dfs_storage_scheme="http",
    )
    client.create_dir(CONTAINER)
