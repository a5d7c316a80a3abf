"""Every kind of storage keeps the same contract: disks, object stores, file systems of pyarrow."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from benchmarks.object_store.proxy import Proxy
from curation.store.storage.arrow import ArrowStorage
from curation.store.storage.base import Storage
from curation.store.storage.open import open_storage
from curation.store.store import Store

ODD_NAMES = ("a b", "a%20b", "a%b", "#", "a?b=c&d", "ü/é.txt", "key=value+1", "~'()!*", "日本/語")
WRITERS = 16


AZURE = pytest.param("azure", marks=pytest.mark.nightly)


@pytest.fixture(params=["disk", "object store", "pyarrow", AZURE])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """An empty storage of each kind."""
    if request.param == "disk":
        return open_storage(tmp_path / "store")
    if request.param == "pyarrow":
        return ArrowStorage(f"file://{tmp_path}/store")
    if request.param == "azure":
        return open_storage(request.getfixturevalue("new_azure_address")())
    return open_storage(request.getfixturevalue("new_address")())


@pytest.fixture(params=["disk", "object store", AZURE])
def exclusive(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """An empty storage of each kind that creates exclusively."""
    if request.param == "disk":
        return open_storage(tmp_path / "store")
    if request.param == "azure":
        return open_storage(request.getfixturevalue("new_azure_address")())
    return open_storage(request.getfixturevalue("new_address")())


def test_what_is_written_is_read(storage: Storage) -> None:
    assert storage.read("a/b") is None
    assert storage.status("a/b") is None
    storage.write("a/b", b"first")
    storage.write("a/b", b"second!")
    assert storage.read("a/b") == b"second!"
    status = storage.status("a/b")
    assert status is not None and status.size == 7
    storage.write("a/empty", b"")
    assert storage.read("a/empty") == b""


def test_listings_are_of_one_folder_or_of_all_below(storage: Storage) -> None:
    for path in ("top", "a/one", "a/two", "a/b/three", "ab/four"):
        storage.write(path, path.encode())
    assert sorted(storage.files("a")) == ["a/one", "a/two"]
    assert sorted(storage.files("a", recursive=True)) == ["a/b/three", "a/one", "a/two"]
    assert sorted(storage.files("")) == ["top"]
    assert {path: s.size for path, s in storage.files("a").items()} == {"a/one": 5, "a/two": 5}
    assert storage.folders("a") == ["b"]
    assert storage.folders("") == ["a", "ab"]
    assert storage.files("none") == {}
    assert storage.files("none", recursive=True) == {}
    assert storage.folders("none") == []


def test_a_listing_of_more_than_one_page(new_address: Callable[[], str]) -> None:
    storage = open_storage(new_address())
    paths = [f"many/{number:04d}" for number in range(1_050)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda path: storage.write(path, b"x"), paths))
    assert sorted(storage.files("many")) == paths
    storage.delete_folder("many")
    assert storage.files("many", recursive=True) == {}


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_are_kept(storage: Storage, name: str) -> None:
    path = f"odd {name}/{name}"
    storage.write(path, b"odd")
    assert storage.read(path) == b"odd"
    assert list(storage.files(path.rpartition("/")[0])) == [path]
    assert storage.folders("") == [path.partition("/")[0]]
    # Readers go through pyarrow, writers need not.
    with storage.filesystem.open_input_file(f"{storage.root}/{path}") as stream:
        assert stream.read() == b"odd"
    storage.copy(path, f"{path}.copy")
    storage.delete([path])
    assert storage.status(path) is None
    assert storage.read(f"{path}.copy") == b"odd"


def test_a_copy_replaces(storage: Storage) -> None:
    storage.write("a", b"new")
    storage.write("b/c", b"old one")
    storage.copy("a", "b/c")
    assert (storage.read("a"), storage.read("b/c")) == (b"new", b"new")
    with pytest.raises(FileNotFoundError):
        storage.copy("none", "d")


def test_what_is_missing_can_be_deleted(storage: Storage) -> None:
    storage.write("a/b/c", b"1")
    storage.delete(["a/none", "a/b/c", "a/b/c"])
    storage.delete([])
    storage.delete_folder("a")
    storage.delete_folder("none")
    assert storage.files("a", recursive=True) == {}


def test_what_is_there_is_deleted_beside_what_is_missing(storage: Storage) -> None:
    """Azure refuses to delete an object that is not there."""
    paths = [f"a/{number:04d}" for number in range(600)]
    for path in paths[::100]:
        storage.write(path, b"1")
    storage.delete(paths)
    assert storage.files("", recursive=True) == {}


def test_a_folder_alone_is_deleted(storage: Storage) -> None:
    for path in ("a/b/c", "a/bc", "a/b.c"):
        storage.write(path, b"1")
    storage.delete_folder("a/b")
    assert sorted(storage.files("a", recursive=True)) == ["a/b.c", "a/bc"]


def test_a_streamed_file_is_complete_at_the_end(storage: Storage) -> None:
    content = bytes(range(256)) * 40_000
    with storage.open_output("a/b") as stream:
        stream.write(content[:1_000])
        stream.write(content[1_000:])
    assert storage.read("a/b") == content


def test_a_stream_that_is_left_by_an_exception_leaves_no_object(
    new_address: Callable[[], str],
) -> None:
    storage = open_storage(new_address())
    for size in (10, 20 * 2**20):
        with pytest.raises(ZeroDivisionError), storage.open_output("a/b") as stream:
            stream.write(bytes(size))
            raise ZeroDivisionError
        assert storage.read("a/b") is None
        assert storage.files("", recursive=True) == {}


def test_create_refuses_what_is_there(storage: Storage) -> None:
    assert storage.create("a/b", b"first")
    assert not storage.create("a/b", b"second")
    assert storage.read("a/b") == b"first"


def test_one_of_many_threads_creates(exclusive: Storage) -> None:
    assert exclusive.can_create_exclusively
    for number in range(5):
        contents = [f"{number} {writer}".encode() for writer in range(WRITERS)]
        with ThreadPoolExecutor(WRITERS) as pool:
            won = list(pool.map(partial(exclusive.create, f"race/{number}"), contents))
        assert won.count(True) == 1
        assert exclusive.read(f"race/{number}") == contents[won.index(True)]


def create_all(uri: str, writer: int) -> list[bool]:
    """Try to create the same files as every other process."""
    storage = open_storage(uri)
    return [storage.create(f"race/{n}", f"{n} {writer}".encode()) for n in range(20)]


def test_one_of_many_processes_creates(exclusive: Storage) -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(3, mp_context=context) as pool:
        results = list(pool.map(partial(create_all, exclusive.uri), range(3)))
    for number, won in enumerate(zip(*results, strict=True)):
        assert won.count(True) == 1
        assert exclusive.read(f"race/{number}") == f"{number} {won.index(True)}".encode()


def test_a_small_file_is_one_put_and_no_folder_gets_a_marker(
    proxy: Proxy, new_address: Callable[[], str]
) -> None:
    store = Store(new_address())
    store.storage.write("a/b/c", b"1")
    with store.storage.open_output("a/b/d") as stream:
        stream.write(bytes(2**20))
    assert store.storage.create("a/e", b"2")
    assert proxy.counts() == {"PUT": 3}
    assert not [request for request in proxy.requests if request.path.endswith("/")]


def test_a_large_file_is_sent_in_parts(proxy: Proxy, new_address: Callable[[], str]) -> None:
    storage = open_storage(new_address())
    with storage.open_output("large") as stream:
        stream.write(bytes(20 * 2**20))
    status = storage.status("large")
    assert status is not None and status.size == 20 * 2**20
    assert proxy.counts()["PUT"] == 3
