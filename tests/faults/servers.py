"""S3 servers for cases: one that all share, and those that a case may kill."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.object_store.server import Server, make_bucket, start


@contextmanager
def watched(server: Server, folder: Path) -> Iterator[Path]:
    """Run a server, again whenever it ends; yield a file with the number of its process.

    Args:
        server: how to start it.
        folder: for its files.
    """
    process_file, log = folder / "server.pid", folder / "server.log"
    stopping = threading.Event()
    process = start(server, folder, log)

    def note() -> None:
        process_file.write_text(str(process.pid))

    def watch() -> None:
        nonlocal process
        while not stopping.is_set():
            process.wait()
            if not stopping.is_set():
                process = start(server, folder, log)
                note()

    note()
    make_bucket(process, server.port, log)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield process_file
    finally:
        stopping.set()
        process.kill()
        watcher.join()
