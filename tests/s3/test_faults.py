"""Refusals, lost replies, torn and late requests: each operation has its effect once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks.object_store.proxy import Fault, Proxy, Request
from benchmarks.object_store.server import HOST
from curation.store.manifest import Committed
from curation.store.run_record import new_run
from curation.store.step_log import Entry, Lease, StepLog
from curation.store.storage.base import Storage
from curation.store.storage.open import open_storage
from curation.store.store import Store
from curation.store.verification import verify_store

from ..tables import commit

FAULTS = ("unavailable", "error", "lost request", "lost reply", "torn", "late")
TIMES = 3
ATTEMPTS = 11
"""Requests of an operation that is given up."""


@pytest.fixture
def storage(new_address: Callable[[], str]) -> Storage:
    """A storage behind the proxy."""
    return open_storage(new_address())


@pytest.fixture
def direct(storage: Storage, proxy: Proxy) -> Storage:
    """The same storage without the proxy."""
    return open_storage(storage.uri.replace(f"{HOST}:{proxy.port}", f"{HOST}:{proxy.upstream}"))


@pytest.mark.parametrize("fault", FAULTS)
def test_every_operation_is_tried_again(storage: Storage, proxy: Proxy, fault: Fault) -> None:
    def size() -> int:
        status = storage.status("a")
        assert status is not None
        return status.size

    operations: dict[str, Callable[[], object]] = {
        "write": lambda: storage.write("a", b"content of a"),
        "create": lambda: storage.create("b", b"content of b"),
        "create again": lambda: storage.create("b", b"other content"),
        "read": lambda: storage.read("a"),
        "status": size,
        "files": lambda: sorted(storage.files("")),
        "copy": lambda: storage.copy("a", "c"),
        "delete": lambda: storage.delete(["a"]),
        "rest": lambda: sorted(storage.files("", recursive=True)),
    }
    results = {}
    for name, operation in operations.items():
        proxy.fail(fault, TIMES)
        results[name] = operation()
        assert proxy.faults == {fault: TIMES}, name
        proxy.reset()
    assert results == {
        "write": None,
        "create": True,
        "create again": False,
        "read": b"content of a",
        "status": 12,
        "files": ["a", "b"],
        "copy": None,
        "delete": None,
        "rest": ["b", "c"],
    }
    assert storage.read("b") == b"content of b"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_streamed_file_is_tried_again(storage: Storage, proxy: Proxy, fault: Fault) -> None:
    """One that is small, and one that is sent in parts."""
    for path, size in (("small", 1_000), ("large", 18 * 2**20)):
        content = bytes(range(250)) * (size // 250)
        proxy.fail(fault, TIMES, lambda request: request.method in ("PUT", "POST"))
        with storage.open_output(path) as stream:
            stream.write(content)
        assert proxy.faults[fault] == TIMES
        proxy.reset()
        assert storage.read(path) == content


def test_an_outage_is_no_refusal_of_conditions(storage: Storage, proxy: Proxy) -> None:
    """The store does not answer until a creation is given up, and then it does."""
    proxy.fail("lost reply", ATTEMPTS, lambda request: request.method == "PUT")
    assert storage.can_create_exclusively
    assert proxy.faults == {"lost reply": ATTEMPTS}
    assert not storage.files("", recursive=True)


def test_half_an_upload_is_no_object(storage: Storage, direct: Storage, proxy: Proxy) -> None:
    seen = []

    def look(request: Request) -> bool:
        """At what the server has, when the upload is tried again."""
        seen.append(direct.read("a/b"))
        return False

    proxy.fail("torn", 1)
    proxy.fail("error", 1, look)
    storage.write("a/b", b"x" * 100_000)
    assert seen == [None]
    assert storage.read("a/b") == b"x" * 100_000


def test_a_late_creation_changes_nothing(storage: Storage, proxy: Proxy) -> None:
    """It arrives after it was tried again, and after another writer created the file."""
    proxy.fail("late", 1)
    assert storage.create("log/1", b"first")
    assert proxy.deliver() == [412]
    assert storage.read("log/1") == b"first"
    proxy.fail("late", 1)
    assert storage.create("log/2", b"first")
    storage.delete(["log/2"])
    assert storage.create("log/2", b"second")
    assert proxy.deliver() == [412]
    assert storage.read("log/2") == b"second"


def test_a_late_commit_of_a_holder_that_was_overtaken_is_refused(
    new_address: Callable[[], str], proxy: Proxy
) -> None:
    from curation.store.store import Store

    store = Store(new_address())
    log = StepLog(store, "step")
    holder = new_run("r", "r").holder
    entry = Entry(1, "lease", holder, stage="t")
    assert log.add(entry)
    # The reply to the holder's commit is lost with the request, which the server gets too late.
    proxy.fail("late", 1)
    Lease(log, entry).commit({"t": Committed("first", "")})
    store.storage.delete([log.path(2)])
    assert log.add(Entry(2, "lease", holder, {}, stage="t"))
    assert proxy.deliver() == [412]
    assert log.latest().kind == "lease"
    assert log.latest().tables == {}


def test_a_late_write_of_a_file_that_never_changes_is_harmless(
    storage: Storage, proxy: Proxy
) -> None:
    """Data files have unique names; completion records and manifests say the same each time."""
    proxy.fail("late", 1)
    storage.write("tables/x/done/memo.json", b"the record")
    assert proxy.deliver() == [200]
    assert storage.read("tables/x/done/memo.json") == b"the record"


def test_files_that_a_store_does_not_return_now_are_not_set_aside(
    storage: Storage, proxy: Proxy
) -> None:
    """Setting them aside would compute, or download, everything again."""
    store = Store(storage.uri, storage)
    row = {"role": "pool", "source": "web", "status": "eligible"}
    commit(store, "eligible", {f"web-{n}": [row | {"pair_id": f"p{n}"}] for n in range(2)})
    before = storage.files("", recursive=True)
    proxy.fail("error", 1000, lambda request: request.method == "GET" and "/data/" in request.path)
    problems = verify_store(store, set_aside=True)
    proxy.reset()
    assert len(problems) == 2
    for problem in problems:
        assert "/data/" in problem.path and "cannot be read" in problem.problem
        assert problem.set_aside == () and "network serve it again" in problem.remedy(store.uri)
    assert storage.files("", recursive=True) == before
    assert verify_store(store) == []
