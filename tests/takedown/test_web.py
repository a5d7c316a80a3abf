"""Pictures of lists of URLs that are taken down: later crawls do not bring them back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.engine.parallel import InProcess
from curation.engine.table import open_table
from curation.errors import StoreError, TakenDownError
from curation.flow import plan
from curation.recipe import parse_recipe
from curation.runner.step import run_step
from curation.runner.takedown.prove import prove
from curation.store.store import Store
from curation.store.tombstones import (
    Hits,
    Takedowns,
    Tombstone,
    new_name,
    open_takedowns,
    put_hits,
)
from curation.store.url_hosts import hosts_of

from ..e2e.small import picture as textured
from ..fetch.conftest import HOSTS, Web, answer
from ..fetch.helpers import OPEN, encoded, images, picture
from ..gc.helpers import gc
from ..ingest.helpers import run, source, write
from ..workers import Recording
from .helpers import forget, holding

ROWS = 24
IDS = ("sha256", "image_id")
SHARED_SERVER = HealthCheck.function_scoped_fixture


@pytest.fixture(autouse=True)
def several_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut short lists into several fragments, so that a row that moves would show."""
    monkeypatch.setattr("curation.stages.ingest.group_by_host.MIN_BUCKET_ROWS", 1)


@pytest.fixture
def listed(web: Web) -> list[dict[str, Any]]:
    """Rows on eight hosts; the last one is gone."""
    rows = []
    for n in range(ROWS):
        web.pages[f"/{n}.jpg"] = answer(body_of(n))
        rows.append({"url": web.url(f"/{n}.jpg", HOSTS[n % 8]), "caption": f"caption {n}"})
    web.pages[f"/{ROWS - 1}.jpg"] = answer(status="404 Not Found")
    return rows


def body_of(n: int) -> bytes:
    """The picture of a row."""
    return encoded(picture(40 + n))


def by_caption(rows: list[dict[str, Any]]) -> dict[Any, dict[str, Any]]:
    return {row["caption"]: row for row in rows if row["caption"] is not None}


def asked(web: Web) -> set[str]:
    paths = {v.path for v in web.visits()}
    web.log.clear()
    return paths


def test_a_text_of_many_dots_takes_no_memory() -> None:
    text = f"x://{'a.' * 60_000}gone.example/x"
    assert "gone.example" in hosts_of(text) and len(hosts_of(text)) <= 127
    none = Takedowns(b"key")
    hashes = {"host": (none.hash_of("host", "gone.example"),)}
    takedowns = Takedowns(b"key", (Tombstone("n", "t", "me", "why", hashes),))
    assert takedowns.has_url(text) and not takedowns.has_url(text.replace("gone", "here"))


def test_a_url_goes_and_nothing_is_requested_again(
    web: Web, tmp_path: Path, listed: list[dict[str, Any]]
) -> None:
    path, store = write(tmp_path / "l.parquet", listed), tmp_path / "store"
    before = by_caption(images(store, source(path)))
    gone = before["caption 5"]
    asked(web)
    forget(store, urls=[listed[5]["url"].upper().replace("/5.JPG", "/%35.jpg#x")])
    assert "caption 5" not in by_caption(open_table(Store(store), "images").read().to_pylist())
    after = images(store, source(path))
    assert asked(web) == set()
    assert by_caption(after) == {c: row for c, row in before.items() if c != "caption 5"}
    (blank,) = [row for row in after if row["reason"] == "forgotten"]
    left = {name for name, value in blank.items() if value is not None}
    assert left == {"pair_id", "role", "source", "status", "reason"}
    gc(store)
    texts = [gone["url"], "caption 5", gone["pair_id"], gone["image_id"], gone["sha256"]]
    assert holding(store, [*texts, gone["image"].hex()]) == {}
    proof = prove(Store(store))
    assert proof.holds
    assert proof.files["Parquet"] > 5
    assert images(store, source(path)) == after


def test_only_its_fragment_is_computed_again_in_a_list_that_has_grown(
    web: Web, tmp_path: Path, listed: list[dict[str, Any]]
) -> None:
    lists, store = tmp_path / "lists", tmp_path / "store"
    write(lists / "b.parquet", listed[:16])
    images(store, source(lists))
    write(lists / "a.parquet", listed[16:20])
    before = by_caption(images(store, source(lists)))
    count = len(open_table(Store(store), "images").fragments)
    assert count > 4
    asked(web)
    for again in (False, True):
        forget(store, urls=[listed[3 + again]["url"]])
        did = run(store, source(lists), until="fetch", fetch=OPEN)["fetch"]
        assert (did.computed, did.reused) == (1, count - 1)
        gc(store)
    assert asked(web) == set()
    after = by_caption(open_table(Store(store), "images").read().to_pylist())
    assert after == {c: r for c, r in before.items() if c not in ("caption 3", "caption 4")}


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_same_url_under_another_key_is_not_requested(
    web: Web, tmp_path: Path, listed: list[dict[str, Any]], scheme: str
) -> None:
    store = tmp_path / "store"
    images(store, source(write(tmp_path / "l.parquet", listed[:3])))
    forget(store, urls=[listed[1]["url"]])
    asked(web)
    other = {"url": listed[1]["url"].replace("http", scheme, 1), "caption": "of a later crawl"}
    again = write(tmp_path / "l.parquet", [*listed[:4], other])
    rows = images(store, source(again))
    assert asked(web) == {"/3.jpg"}
    assert [row["reason"] for row in rows].count("forgotten") == 2
    assert "of a later crawl" not in by_caption(rows)


def test_the_same_bytes_under_another_url_are_not_kept(
    web: Web, tmp_path: Path, listed: list[dict[str, Any]]
) -> None:
    store, sha256 = tmp_path / "store", hashlib.sha256(body_of(1)).hexdigest()
    before = by_caption(images(store, source(write(tmp_path / "l.parquet", listed[:3]))))
    forget(store, images=[sha256])
    web.pages["/moved.jpg"] = answer(body_of(1))
    asked(web)
    moved = {"url": web.url("/moved.jpg"), "caption": "moved"}
    path = write(tmp_path / "l.parquet", [*listed[:3], moved])
    rows = by_caption(images(store, source(path)))
    assert asked(web) == {"/moved.jpg"}
    assert (rows["moved"]["status"], rows["moved"]["reason"]) == ("failed", "forgotten")
    assert rows.keys() == {"caption 0", "caption 2", "moved"}
    # A failure that lasts: nobody asks again.
    write(tmp_path / "l.parquet", [*listed[:4], moved])
    images(store, source(path))
    assert asked(web) == {"/3.jpg"}
    gc(store)
    gone = before["caption 1"]
    assert holding(store, [sha256, gone["image_id"], gone["pair_id"], gone["image"].hex()]) == {}
    assert prove(Store(store)).holds


def test_bytes_that_come_back_by_another_url_stay(
    web: Web, tmp_path: Path, listed: list[dict[str, Any]]
) -> None:
    """The URL was named, and not the picture: each later gc must tell the two apart."""
    store, path = tmp_path / "store", write(tmp_path / "l.parquet", listed[:3])
    images(store, source(path))
    forget(store, urls=[listed[1]["url"]])
    images(store, source(path))
    gc(store)
    web.pages["/moved.jpg"] = answer(body_of(1))
    moved = {"url": web.url("/moved.jpg"), "caption": "moved"}
    write(tmp_path / "l.parquet", [*listed[:3], moved])
    before = by_caption(images(store, source(path)))
    assert before["moved"]["status"] == "ok"
    for _ in range(2):
        assert gc(store).left == {}
        assert by_caption(images(store, source(path))) == before
    assert prove(Store(store)).holds
    # Without any pair once more, no reader gets what names it.
    forget(store, urls=[moved["url"]])
    takedowns = Store(store).takedowns()
    assert takedowns is not None and takedowns.is_withheld(before["moved"]["image_id"])


def test_a_near_copy_under_another_url_is_not_kept(web: Web, tmp_path: Path) -> None:
    store, example = tmp_path / "store", tmp_path / "example.jpg"
    rng = np.random.default_rng(11)
    pictures = [textured(n, rng, 160) for n in range(3)]
    rows = []
    for n, each in enumerate(pictures):
        web.pages[f"/{n}"] = answer(encoded(each))
        rows.append({"url": web.url(f"/{n}"), "caption": f"caption {n}"})
    before = by_caption(images(store, source(write(tmp_path / "l.parquet", rows))))
    example.write_bytes(encoded(pictures[1].resize((300, 280)), quality=60))
    assert forget(store, likes=[example]).hits.rows["images"] == 1
    web.pages["/near"] = answer(encoded(pictures[1].resize((120, 120)), "WEBP"))
    near = {"url": web.url("/near"), "caption": "near"}
    after = by_caption(images(store, source(write(tmp_path / "l.parquet", [*rows, near]))))
    assert (after["near"]["reason"], after["near"]["image"]) == ("forgotten", None)
    assert after.keys() == {"caption 0", "caption 2", "near"}
    assert after["caption 2"] == before["caption 2"]
    gc(store)
    gone = before["caption 1"]
    assert holding(store, [gone["sha256"], gone["pair_id"], gone["image"].hex()]) == {}
    assert prove(Store(store)).holds


def test_a_host_goes_with_its_rows_alone(
    web: Web, tmp_path: Path, listed: list[dict[str, Any]]
) -> None:
    path, store = write(tmp_path / "l.parquet", listed), tmp_path / "store"
    before = by_caption(images(store, source(path)))
    forget(store, hosts=[HOSTS[2]])
    after = by_caption(images(store, source(path)))
    kept = {c: row for c, row in before.items() if f"//{HOSTS[2]}:" not in row["url"]}
    assert after == kept
    assert len(kept) == ROWS * 7 // 8
    gc(store)
    assert holding(store, [f"{HOSTS[2]}:"]) == {}
    assert prove(Store(store)).holds


def test_a_redirect_to_what_was_taken_down_is_not_followed(
    web: Web, tmp_path: Path, listed: list[dict[str, Any]]
) -> None:
    store = tmp_path / "store"
    images(store, source(write(tmp_path / "l.parquet", listed[:2])))
    forget(store, urls=[listed[1]["url"]])
    web.pages["/to"] = answer(status="302 Found", Location=listed[1]["url"])
    row = {"url": web.url("/to"), "caption": "to"}
    asked(web)
    rows = images(store, source(write(tmp_path / "l.parquet", [listed[0], row])))
    assert asked(web) == {"/to"}
    assert by_caption(rows)["to"]["reason"] == "forgotten"


def test_a_pair_that_a_list_no_longer_has_goes_too(
    web: Web, tmp_path: Path, listed: list[dict[str, Any]]
) -> None:
    store, path = tmp_path / "store", tmp_path / "l.parquet"
    images(store, source(write(path, listed[:4])))
    removed = by_caption(images(store, source(write(path, listed[2:4]))))
    assert removed["caption 0"]["reason"] == "removed"
    forget(store, urls=[listed[0]["url"]])
    after = by_caption(images(store, source(path)))
    assert after.keys() == {"caption 1", "caption 2", "caption 3"}
    gc(store)
    assert holding(store, [listed[0]["url"], "caption 0"]) == {}


class AroundFetch(Recording):
    """Workers beside which something happens before they fetch, and once they have fetched."""

    def __init__(
        self, before: Callable[[], object] = int, after: Callable[[], object] = int
    ) -> None:
        super().__init__()
        self._before, self._after = before, after

    @contextmanager
    def during(self, label: str, items: Sequence[Any]) -> Iterator[None]:
        """See `Recording.during`."""
        if label == "fetch":
            self._before()
        yield
        if label == "fetch":
            self._after()


def test_a_run_does_not_commit_what_was_taken_down_while_it_worked(
    web: Web, tmp_path: Path, listed: list[dict[str, Any]]
) -> None:
    path, store = write(tmp_path / "l.parquet", listed[:6]), tmp_path / "store"
    spec = {"name": "test", "sources": [source(path)], "fetch": OPEN}
    steps = plan(parse_recipe(spec), until="fetch")
    workers = AroundFetch(after=lambda: forget(store, urls=[listed[1]["url"]]))
    run_step(steps[0], Store(store), workers)
    with pytest.raises(StoreError, match="while this step worked"):
        run_step(steps[1], Store(store), workers)
    asked(web)
    rows = by_caption(images(store, source(path)))
    assert rows.keys() == {f"caption {n}" for n in (0, 2, 3, 4, 5)}
    gc(store)
    assert holding(store, [listed[1]["url"], "caption 1"]) == {}
    assert prove(Store(store)).holds


def test_a_run_does_not_commit_what_another_run_saw_to_be_a_copy_while_it_worked(
    web: Web, tmp_path: Path, listed: list[dict[str, Any]]
) -> None:
    """Vectors show copies of what was taken down before, so there is no new tombstone."""
    path, store = write(tmp_path / "l.parquet", listed[:6]), tmp_path / "store"
    spec = {"name": "test", "sources": [source(path)], "fetch": OPEN}
    steps = plan(parse_recipe(spec), until="fetch")
    forget(store, urls=["https://elsewhere.example/1.jpg"])
    run_step(steps[0], Store(store), InProcess())
    sha256 = hashlib.sha256(body_of(1)).hexdigest()
    takedowns = open_takedowns(Store(store).storage)
    image = takedowns.hash_of("image", sha256[:32])
    workers = AroundFetch(
        after=lambda: put_hits(Store(store).storage, Hits(new_name(), images=(image,)))
    )
    with pytest.raises(TakenDownError, match="while this step worked"):
        run_step(steps[1], Store(store), workers)
    for _ in range(2):
        # The first gc learns which row of the list had the image, and the next run leaves it out.
        images(store, source(path))
        gc(store)
    assert holding(store, [sha256, sha256[:32]]) == {}
    assert prove(Store(store)).holds


def die() -> None:
    raise KeyboardInterrupt


def test_what_a_run_left_that_died_while_rows_were_taken_down_is_not_committed(
    web: Web, tmp_path: Path, listed: list[dict[str, Any]]
) -> None:
    """Only the bytes are named, so the memos of its files are those of the next run."""
    path, store = write(tmp_path / "l.parquet", listed[:6]), tmp_path / "store"
    spec = {"name": "test", "sources": [source(path)], "fetch": OPEN}
    steps = plan(parse_recipe(spec), until="fetch")
    run_step(steps[0], Store(store), InProcess())
    sha256 = hashlib.sha256(body_of(1)).hexdigest()
    with pytest.raises(KeyboardInterrupt):
        run_step(
            steps[1], Store(store), AroundFetch(lambda: forget(store, images=[sha256]), after=die)
        )
    with pytest.raises(StoreError, match=r"left files with such rows.*Run curation gc"):
        run_step(steps[1], Store(store), InProcess())
    gc(store)
    rows = by_caption(images(store, source(path)))
    assert rows.keys() == {f"caption {n}" for n in (0, 2, 3, 4, 5)}
    assert {row["status"] for row in rows.values()} == {"ok"}
    gc(store)
    assert holding(store, [sha256, sha256[:32]]) == {}
    assert prove(Store(store)).holds


Kinds = st.sampled_from(["url", "sha256", "image_id", "host"])


@pytest.mark.nightly
@settings(max_examples=10, deadline=None, suppress_health_check=[SHARED_SERVER])
@given(st.lists(st.tuples(st.integers(0, ROWS - 2), Kinds), min_size=1, max_size=4), st.booleans())
def test_any_takedown_leaves_the_other_rows_and_no_trace(
    tmp_path_factory: pytest.TempPathFactory,
    web: Web,
    named: list[tuple[int, str]],
    at_once: bool,
) -> None:
    folder = tmp_path_factory.mktemp("any")
    rows = []
    for n in range(ROWS):
        web.pages[f"/{n}.jpg"] = answer(body_of(n))
        rows.append({"url": web.url(f"/{n}.jpg", HOSTS[n % 8]), "caption": f"caption {n};"})
    path, store = write(folder / "l.parquet", rows), folder / "store"
    before = by_caption(images(store, source(path)))
    gone: dict[str, dict[str, Any]] = {}
    asked(web)
    for n, kind in named:
        row = before[f"caption {n};"]
        hosts = [HOSTS[n % 8]] if kind == "host" else []
        urls = [row["url"]] if kind == "url" else []
        forget(store, urls=urls, hosts=hosts, images=[row[kind]] if kind in IDS else [])
        gone |= {c: r for c, r in before.items() if r is row or (hosts and hosts[0] in r["url"])}
        shown = by_caption(open_table(Store(store), "images").read().to_pylist())
        assert shown == {c: r for c, r in before.items() if c not in gone}
        if not at_once:
            images(store, source(path))
    after = by_caption(images(store, source(path)))
    assert asked(web) == set()
    assert after == {c: r for c, r in before.items() if c not in gone}
    gc(store)
    ids = ("url", "caption", "pair_id", "image_id", "sha256")
    assert holding(store, [r[name] for r in gone.values() for name in ids]) == {}
    assert prove(Store(store)).holds
