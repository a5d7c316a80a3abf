"""Google Cloud Storage: what reads a store and what writes it go to the same server.

Neither Google nor an emulator answers here. These tests only ask where requests go.
"""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest
from pyarrow import fs

from curation.errors import StoreError
from curation.media.files.location import filesystem_of
from curation.store.storage.google import EMULATORS, google_address
from curation.store.storage.object_store import ObjectStorage

ADDRESS = "gs://bucket/store"


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """Serve an empty bucket on loopback: its host and port, and the requests that came."""
    paths: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(f"{self.path}, {self.headers.get('Authorization')}")
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}", paths
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*EMULATORS, "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("scheme", ["gs", "gcs"])
@pytest.mark.parametrize("name", EMULATORS)
@pytest.mark.parametrize("prefix", ["http://", ""])
def test_an_emulator_gets_the_requests_of_readers_and_writers(
    prefix: str,
    name: str,
    scheme: str,
    asked: tuple[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, requests = asked
    monkeypatch.setenv(name, f"{prefix}{server}")
    storage = ObjectStorage(f"{scheme}://bucket/store")
    assert storage.read("note") is None
    assert [request.partition(",")[0] for request in requests] == ["/bucket/store%2Fnote"]
    info = storage.filesystem.get_file_info(f"{storage.root}/note")
    assert info.type == fs.FileType.NotFound
    source, path = filesystem_of(f"{scheme}://bucket/list.parquet")
    assert source.get_file_info(path).type == fs.FileType.NotFound
    assert "list.parquet" in requests[-1]
    read = [request for request in requests[1:] if "/storage/v1/b/bucket/o" in request]
    assert read and all("Bearer" not in request for request in read)


@pytest.mark.parametrize("name", EMULATORS)
@pytest.mark.parametrize("value", ["ftp://127.0.0.1:1", "http://127.0.0.1:1/path", "http://", "/x"])
def test_an_emulator_that_is_no_server_is_refused(
    value: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(StoreError, match=rf"{name}.*Write http://HOST:PORT"):
        ObjectStorage(ADDRESS)
    with pytest.raises(ValueError, match=rf"{name}.*Write http://HOST:PORT"):
        filesystem_of(ADDRESS)


def test_a_server_that_does_not_answer_is_not_asked_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "127.0.0.1:1")
    monkeypatch.setattr("curation.store.storage.google.RETRY_S", 1)
    filesystem, path = filesystem_of(ADDRESS)
    with pytest.raises(OSError, match=r"(?i)connect"):
        filesystem.get_file_info(path)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("gs://bucket/a%20b", "gs://bucket/a%20b?retry_limit_seconds=60"),
        ("gs://anonymous@bucket/a?x=1", "gs://anonymous@bucket/a?x=1&retry_limit_seconds=60"),
        ("gs://b/a?retry_limit_seconds=5", "gs://b/a?retry_limit_seconds=5"),
    ],
)
def test_options_of_an_address_stay(given: str, expected: str) -> None:
    assert google_address(given) == expected


def test_an_address_that_names_its_server_is_not_sent_to_the_emulator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "127.0.0.1:1")
    address = "gs://bucket/a?scheme=https&endpoint_override=storage.example"
    assert google_address(address) == f"{address}&retry_limit_seconds=60"
