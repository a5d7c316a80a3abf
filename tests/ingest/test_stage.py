"""The stage ingest: duplicates, dropped rows, and work that is reused."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.engine.context import Context
from curation.engine.parallel import InProcess
from curation.errors import RecipeError, StoreError
from curation.stages.ingest import duplicates
from curation.stages.ingest.formats.source_row import staged_schema
from curation.stages.ingest.sources import source_file
from curation.store.fragment import Fragment
from curation.store.manifest import FileEntry, FragmentRecord
from curation.store.storage.local import LocalStorage
from curation.store.store import Store
from tests.ingest.helpers import jpeg, pairs, run, source, table, write


def urls(path: Path, names: list[str], caption: str = "c") -> Path:
    return write(path, [{"url": f"http://a.example/{n}", "caption": caption} for n in names])


def outcomes(rows: list[dict[str, Any]]) -> list[tuple[str, str | None]]:
    return [(r["url"].rpartition("/")[2], r["reason"]) for r in rows]


def test_the_first_pair_of_a_url_is_kept_across_files_and_sources(tmp_path: Path) -> None:
    urls(tmp_path / "web" / "2.parquet", ["c", "a"])
    urls(tmp_path / "web" / "1.parquet", ["a", "b", "a#part"])
    urls(tmp_path / "more.parquet", ["b", "d"])
    rows = pairs(
        tmp_path / "store",
        source(tmp_path / "web"),
        source(tmp_path / "more.parquet", name="more"),
    )
    twice = "duplicate_url"
    assert outcomes(rows) == [
        ("a", None),
        ("b", None),
        ("a#part", twice),
        ("c", None),
        ("a", twice),
        ("b", twice),
        ("d", None),
    ]
    firsts = {r["url_normalized"]: r["pair_id"] for r in rows if r["status"] == "ok"}
    assert all(
        r["duplicate_of"] == (firsts[r["url_normalized"]] if r["reason"] else None) for r in rows
    )


@pytest.mark.parametrize("order", list(permutations(("list", "mixed", "coco"))), ids="-".join)
def test_the_first_source_counts_whatever_its_form(tmp_path: Path, order: Sequence[str]) -> None:
    """Rows of lists of URLs are grouped by host, and those of other forms are not."""
    row = {"url": "http://a.example/1", "caption": "c", "path": None}
    write(tmp_path / "l.parquet", [row])
    images = {"images": [{"id": 1, "file_name": row["url"]}]}
    (tmp_path / "l.json").write_text(json.dumps(images))
    columns = {"url": "url", "caption": "caption"}
    specs = {
        "list": source(tmp_path / "l.parquet"),
        "mixed": source(tmp_path / "l.parquet", columns=columns | {"path": "path"}),
        "coco": source(tmp_path / "l.json", format="coco", columns={}),
    }
    for _ in range(2):
        rows = pairs(tmp_path / "store", *(specs[form] | {"name": form} for form in order))
        reasons = {row["source"]: row["reason"] for row in rows}
        assert [reasons[form] for form in order] == [None, "duplicate_url", "duplicate_url"]


def test_seed_and_held_out_sets_have_duplicates_of_their_own(tmp_path: Path) -> None:
    path = urls(tmp_path / "l.parquet", ["a", "a"])
    roles = {"web": "pool", "flowers": "seed", "birds": "seed", "bench": "held_out"}
    rows = pairs(tmp_path / "store", *(source(path, name=n, role=r) for n, r in roles.items()))
    assert [r["status"] for r in rows] == ["ok", "dropped"] * 4
    assert [r["role"] for r in rows[::2]] == list(roles.values())


def test_dropped_rows_do_not_count_as_first(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"url": "http://ads.example/a", "caption": "blocked", "h": None},
        {"url": "http://ads.example/a", "caption": "blocked too", "h": None},
        {"url": "http://a.example/x", "caption": "bad hash", "h": "no hash"},
        {"url": "http://a.example/x", "caption": "first that counts", "h": None},
    ]
    (tmp_path / "blocked.txt").write_text("ads.example\n")
    columns = {"url": "url", "caption": "caption", "sha256": "h"}
    stored_rows = pairs(
        tmp_path / "store",
        source(write(tmp_path / "l.parquet", rows), columns=columns),
        blocked_domains=str(tmp_path / "blocked.txt"),
    )
    assert [r["reason"] for r in stored_rows] == [
        "blocked_domain",
        "blocked_domain",
        "bad_row",
        None,
    ]


def test_blocked_domains_include_only_their_subdomains(tmp_path: Path) -> None:
    hosts = ["bad.example", "img.BAD.example:8080", "notbad.example", "bad.example.org"]
    path = write(tmp_path / "l.parquet", [{"url": f"http://{h}/x", "caption": ""} for h in hosts])
    (tmp_path / "blocked.txt").write_text("bad.example\n")
    settings = {"blocked_domains": str(tmp_path / "blocked.txt"), "blocked_patterns": [r"\.org/"]}
    rows = pairs(tmp_path / "store", source(path), **settings)
    expected = ["blocked_domain", "blocked_domain", None, "blocked_pattern"]
    assert [r["reason"] for r in rows] == expected
    # The content of the list counts, not its name.
    (tmp_path / "blocked.txt").write_text("notbad.example\n")
    rows = pairs(tmp_path / "store", source(path), **settings)
    assert [r["reason"] for r in rows] == [None, None, "blocked_domain", "blocked_pattern"]


def test_rows_do_not_depend_on_the_size_of_fragments(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in "ab":
        drawn = [str(n) for n in rng.integers(0, 1500, 1100)]
        urls(tmp_path / "web" / f"{name}.parquet", drawn, caption=name)
    (tmp_path / "img").mkdir()
    for i in range(20):
        (tmp_path / "img" / f"{i}.jpg").write_bytes(jpeg(i))
    sources = (
        source(tmp_path / "web"),
        source(tmp_path / "img", name="flowers", role="seed", format="folder"),
    )
    small = pairs(tmp_path / "small", *sources, rows_per_fragment=7)
    large = pairs(tmp_path / "large", *sources, rows_per_fragment=1000)
    assert small == large
    assert Counter(r["reason"] for r in large)["duplicate_url"] > 500
    fragments = table(tmp_path / "small", "pairs").fragments
    assert {f.rows for f in fragments.values()} <= set(range(1, 8))
    # All 2,200 rows are of one host, in 315 fragments; the 20 image files are in 3.
    assert len(fragments) == 315 + 3


def test_many_small_files_are_each_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Spark writes them: opens, and requests to the store, grow with the files and no faster."""
    calls: Counter[str] = Counter()

    def count(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def counted(*args: Any, **options: Any) -> Any:
            calls[name] += 1
            return real(*args, **options)

        monkeypatch.setattr(owner, name, counted)

    count(source_file, "open_local")
    for name in ("read", "create", "write", "open_output", "status", "files", "delete"):
        count(LocalStorage, name)
    requests: dict[int, list[int]] = {}
    for size in (20, 80):
        folder, store = tmp_path / f"l{size}", tmp_path / f"s{size}"
        for number in range(size):
            urls(folder / f"part-{number:05d}.parquet", [f"{number}-{n}" for n in range(3)])
        requests[size] = []
        for opened in (2 * size, 0, 2):
            if opened == 2:
                urls(folder / "part-99999.parquet", ["new"])
            calls.clear()
            run(store, source(folder))
            # One to look at its columns, and one to read it.
            assert calls.pop("open_local", 0) == opened
            requests[size].append(calls.total())
        stored = table(store, "pairs")
        assert (stored.rows, len(stored.fragments)) == (3 * size + 1, 2)
    # A file has its rows and its record in the store. Later runs read the record, at most twice.
    slopes = [(many - few) / 60 for few, many in zip(requests[20], requests[80], strict=True)]
    assert all(slope <= most for slope, most in zip(slopes, (3, 2, 2), strict=True)), requests


def test_only_appended_files_are_read(tmp_path: Path) -> None:
    urls(tmp_path / "web" / "1.parquet", ["a", "b"])
    urls(tmp_path / "web" / "3.parquet", ["c", "a"])
    run(tmp_path / "store", source(tmp_path / "web"))
    before = {f.name: f.content for f in table(tmp_path / "store", "pairs").fragments.values()}
    work = tmp_path / "store" / "work" / "ingest" / "data"
    made_before = {p.name: p.stat().st_mtime_ns for p in work.iterdir()}

    assert run(tmp_path / "store", source(tmp_path / "web"))["ingest"].up_to_date
    # Its name sorts before the third file, but that one was read first and keeps "c".
    urls(tmp_path / "web" / "2.parquet", ["c", "d"])
    outcome = run(tmp_path / "store", source(tmp_path / "web"))["ingest"]
    made = {p.name: p.stat().st_mtime_ns for p in work.iterdir()}
    kept = {name for name in made_before if not name.startswith("groups")}
    assert {name: made.get(name) for name in kept} == {name: made_before[name] for name in kept}
    assert (outcome.computed, outcome.reused) == (1, 1)
    stored = table(tmp_path / "store", "pairs")
    assert outcomes(stored.read().to_pylist())[-2:] == [("c", "duplicate_url"), ("d", None)]
    assert [f for f in stored.fragments.values() if before.get(f.name) == f.content]


def test_a_changed_file_of_images_changes_the_content_of_pairs(tmp_path: Path) -> None:
    path = write(tmp_path / "l.parquet", [{"k": "1", "img": jpeg(1)}])
    spec = source(path, columns={"image": "img", "key": "k"})
    run(tmp_path / "store", spec)
    before = table(tmp_path / "store", "pairs").content
    write(path, [{"k": "1", "img": jpeg(2)}])
    run(tmp_path / "store", spec)
    stored = table(tmp_path / "store", "pairs")
    assert stored.content != before
    assert stored.read().to_pylist()[0]["pair_id"] is not None


def test_changed_images_and_captions_of_a_folder_change_the_content_of_pairs(
    tmp_path: Path,
) -> None:
    (tmp_path / "img").mkdir()
    (tmp_path / "img" / "a.jpg").write_bytes(jpeg(1))
    spec = source(tmp_path / "img", format="folder")
    contents = []
    for step in (
        lambda: None,
        lambda: (tmp_path / "img" / "a.jpg").write_bytes(jpeg(2, (64, 64))),
        lambda: (tmp_path / "img" / "a.txt").write_text("words"),
    ):
        step()
        run(tmp_path / "store", spec)
        contents.append(table(tmp_path / "store", "pairs").content)
    assert len(set(contents)) == 3


def test_pair_ids_depend_on_the_pair_but_not_on_its_file(tmp_path: Path) -> None:
    rows = [
        {"url": "http://a.example/1", "caption": "one", "more": 1},
        {"url": "HTTP://A.example:80/1", "caption": "one", "more": 2},
        {"url": "http://a.example/1", "caption": "two", "more": 1},
    ]
    first = pairs(tmp_path / "s1", source(write(tmp_path / "a.parquet", rows)))
    moved = pairs(tmp_path / "s2", source(write(tmp_path / "b" / "z.parquet", rows[::-1])))
    assert [r["pair_id"] for r in first] == [r["pair_id"] for r in moved][::-1]
    assert first[0]["pair_id"] == first[1]["pair_id"] != first[2]["pair_id"]


@pytest.mark.parametrize(
    "path", ["web/*.parquet", "web/**/*.parquet", "web/[12].parquet", "web/?.parquet"]
)
def test_globs_find_files_by_name(tmp_path: Path, path: str) -> None:
    urls(tmp_path / "web" / "2.parquet", ["b"])
    urls(tmp_path / "web" / "1.parquet", ["a"])
    urls(tmp_path / "web" / "deep" / "er" / "3.parquet", ["c"])
    (tmp_path / "web" / "_SUCCESS").write_text("")
    rows = pairs(tmp_path / "store", source(tmp_path / path))
    assert [n for n, _ in outcomes(rows)] == ["a", "b", "c"][: 3 if "**" in path else 2]


def test_hidden_files_are_skipped_and_a_path_may_be_a_file_uri(tmp_path: Path) -> None:
    urls(tmp_path / "my web" / "1.parquet", ["a"])
    urls(tmp_path / "my web" / "_temporary" / "0.parquet", ["x"])
    (tmp_path / "my web" / ".1.parquet.crc").write_bytes(b"x")
    rows = pairs(tmp_path / "store", source((tmp_path / "my web").as_uri()))
    assert outcomes(rows) == [("a", None)]


def test_sources_without_files_or_rows_raise_an_error(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    for path in ("web", "none.parquet", "web/*.parquet", "no/such/*.parquet"):
        with pytest.raises(RecipeError, match=r"Source 'web': no.*Set `path`"):
            pairs(tmp_path / "store", source(tmp_path / path))
    (tmp_path / "empty.csv").write_text("url,caption\n")
    with pytest.raises(RecipeError, match="has no rows in 1 file"):
        pairs(tmp_path / "store", source(tmp_path / "empty.csv", format="csv"))
    with pytest.raises(RecipeError, match=r"ingest\.blocked_domains.*one domain per line"):
        urls(tmp_path / "web" / "1.parquet", ["a"])
        pairs(tmp_path / "store", source(tmp_path / "web"), blocked_domains="no such file")
    with pytest.raises(RecipeError, match="credentials"):
        pairs(tmp_path / "store", source("s3://key:word@bucket/web"))


def test_a_folder_cannot_map_a_key(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg())
    with pytest.raises(RecipeError, match=r"its path\. Remove `key`"):
        pairs(tmp_path / "store", source(tmp_path, format="folder", columns={"key": "id"}))


def test_one_empty_file_among_others_is_fine(tmp_path: Path) -> None:
    schema = pa.schema([("url", pa.string()), ("caption", pa.string())])
    (tmp_path / "web").mkdir()
    pq.write_table(schema.empty_table(), tmp_path / "web" / "0.parquet")
    urls(tmp_path / "web" / "1.parquet", ["a"])
    assert outcomes(pairs(tmp_path / "store", source(tmp_path / "web"))) == [("a", None)]


def test_a_count_that_differs_from_the_recipe_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = urls(tmp_path / "l.parquet", ["a", "b"])
    with caplog.at_level(logging.WARNING):
        pairs(tmp_path / "store", source(path, count=3))
    assert "has 2 rows, but its `count` is 3" in caplog.text


@pytest.mark.parametrize("rows_per_part", [10**9, 150, 45, 7])
def test_duplicates_equal_those_of_a_plain_loop(
    tmp_path: Path, rows_per_part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one part, in two, in seven, and in many, with groups of one fragment or of all."""
    monkeypatch.setattr(duplicates, "ROWS_PER_PART", rows_per_part)
    rng = np.random.default_rng(1)
    store, fragments = Store(tmp_path), []
    seen: dict[bytes | None, str] = {}
    expected: list[list[list[Any]]] = []
    for number in range(5):
        keys = [None if k == 0 else bytes([k]) * 16 for k in rng.integers(0, 90, 60)]
        names = [f"{number}-{i}" for i in range(60)]
        expected.append([])
        for i, key in enumerate(keys):
            if key in seen:
                expected[-1].append([i, seen[key]])
            elif key is not None:
                seen[key] = names[i]
        nothing = {f.name: pa.nulls(60, f.type) for f in staged_schema()}
        columns = nothing | {
            "same_as_key": pa.array(keys, pa.binary(16)),
            "pair_id": pa.array(names),
        }
        path = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table(columns), path)
        entry = FileEntry(path.name, path.stat().st_size, str(number), 60)
        fragments.append(Fragment(store, FragmentRecord("t", str(number), "m", (entry,))))
    context = Context(store, InProcess(), "ingest", "salt")
    repeated = duplicates.find_duplicates(fragments, context)
    assert [[list(item) for item in each.first_of().items()] for each in repeated] == expected
    # Memos see which rows repeat which, and not how the work was cut.
    whole = Context(Store(tmp_path / "whole"), InProcess(), "ingest", "salt")
    monkeypatch.setattr(duplicates, "ROWS_PER_PART", 10**9)
    in_one_part = duplicates.find_duplicates(fragments, whole)
    assert [each.content for each in repeated] == [each.content for each in in_one_part]
    assert len({str(each.content) for each in repeated}) == len(fragments)


@pytest.mark.parametrize(("form", "name"), [("parquet", "a.parquet"), ("webdataset", "a.tar")])
def test_the_error_of_a_source_without_a_readable_file_says_what_to_do(
    form: str, name: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(b"PAR1 neither of them" * 100)
    spec = source(tmp_path / name, format=form)
    with pytest.raises(StoreError) as caught:
        run(tmp_path / "store", spec)
    (detail,) = caught.value.details
    assert detail.fix and detail.fix not in detail.message
