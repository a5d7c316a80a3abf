"""Lists of URLs are grouped by host, and earlier fragments do not change when files are added."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.stages.fetch.units import chains
from curation.stages.ingest.group_by_host import GROUP_ROWS, bucket_of, form_groups
from tests.ingest.helpers import pairs, run, source, table, write


def rows(count: int, hosts: int, first: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(first)
    return [
        {"url": f"http://h{rng.integers(hosts)}.example/{n}.jpg", "caption": f"c{n}"}
        for n in range(first, first + count)
    ]


def fragments(store: Path) -> dict[str, list[dict[str, Any]]]:
    return {n: f.read().to_pylist() for n, f in table(store, "pairs").fragments.items()}


def host(row: dict[str, Any]) -> str:
    return str(row["url"]).split("/")[2]


def test_all_rows_of_a_host_are_in_one_bucket(tmp_path: Path) -> None:
    listed = rows(400, 60)
    write(tmp_path / "lists" / "a.parquet", listed[:150])
    write(tmp_path / "lists" / "b.parquet", listed[150:])
    run(tmp_path / "store", source(tmp_path / "lists"), ingest={"rows_per_fragment": 50})
    by_fragment = fragments(tmp_path / "store")
    assert len(by_fragment) >= 8
    assert sorted(
        r["url"] for fragment_rows in by_fragment.values() for r in fragment_rows
    ) == sorted(r["url"] for r in listed)
    stems = defaultdict(set)
    for name, fragment_rows in by_fragment.items():
        for row in fragment_rows:
            stems[host(row)].add(name.rpartition("-")[0])
    assert {len(names) for names in stems.values()} == {1}
    assert max(len(fragment_rows) for fragment_rows in by_fragment.values()) <= 50


def test_fragments_of_a_large_host_are_fetched_one_after_the_other(tmp_path: Path) -> None:
    listed = rows(120, 1) + rows(200, 40, first=1000)
    run(
        tmp_path / "store",
        source(write(tmp_path / "a.parquet", listed)),
        ingest={"rows_per_fragment": 40},
    )
    pairs_ = table(tmp_path / "store", "pairs")
    order = chains(pairs_)
    by_host = defaultdict(set)
    for name, fragment_rows in fragments(tmp_path / "store").items():
        for row in fragment_rows:
            by_host[host(row)].add(order[name])
    assert {len(of_host) for of_host in by_host.values()} == {1}
    sizes = Counter(order.values())
    assert sizes[next(iter(by_host["h0.example"]))] >= 3


def test_rows_keep_their_order_within_a_bucket(tmp_path: Path) -> None:
    stored_rows = pairs(tmp_path / "store", source(write(tmp_path / "a.parquet", rows(60, 5))))
    assert [r["url"] for r in stored_rows] == [r["url"] for r in rows(60, 5)]


def test_a_list_added_later_changes_no_earlier_fragment(tmp_path: Path) -> None:
    lists, store = tmp_path / "lists", tmp_path / "store"
    spec, ingest = source(lists), {"rows_per_fragment": 50}
    write(lists / "m.parquet", rows(200, 30))
    run(store, spec, ingest=ingest)
    before = fragments(store)
    # Its name sorts first, and some of its URLs are listed already.
    write(lists / "a.parquet", rows(20, 30) + rows(150, 30, first=500))
    outcome = run(store, spec, ingest=ingest)["ingest"]
    after = fragments(store)
    assert {name: after[name] for name in before} == before
    new = [r for name in after.keys() - before.keys() for r in after[name]]
    assert Counter(r["reason"] for r in new) == {None: 150, "duplicate_url": 20}
    assert outcome.reused == len(before)
    assert run(store, spec, ingest=ingest)["ingest"].up_to_date


def test_pairs_that_are_no_longer_listed_are_dropped_as_removed(tmp_path: Path) -> None:
    lists, store = tmp_path / "lists", tmp_path / "store"
    spec = source(lists)
    write(lists / "a.parquet", rows(30, 5))
    write(lists / "b.parquet", rows(30, 5, first=100))
    run(store, spec)
    write(lists / "a.parquet", rows(20, 5))
    run(store, spec)
    (lists / "b.parquet").unlink()
    run(store, spec)
    stored_rows = table(store, "pairs").read().to_pylist()
    by_reason = defaultdict(set)
    for row in stored_rows:
        by_reason[row["reason"]].add(row["caption"])
    assert by_reason[None] == {f"c{n}" for n in range(20)}
    gone = {f"c{n}" for n in range(20, 30)} | {f"c{n}" for n in range(100, 130)}
    assert by_reason["removed"] == gone
    assert len(stored_rows) == 60
    # They are listed again.
    write(lists / "b.parquet", rows(30, 5, first=100))
    run(store, spec)
    stored_rows = table(store, "pairs").read().to_pylist()
    assert Counter(r["reason"] for r in stored_rows) == {None: 50, "removed": 10}


def test_files_form_groups_of_limited_size() -> None:
    files = {f"f{n}": GROUP_ROWS // 3 for n in range(10)}
    groups = form_groups(files, "web", [], 10_000)
    assert [len(g.files) for g in groups] == [3, 3, 3, 1]
    assert {g.bits for g in groups[:3]} == {10}
    after = form_groups({"e": 10, **files}, "web", groups, 10_000)
    assert after[:4] == groups
    assert after[4].files == ("e",)
    assert after[4].bits == 0


@pytest.mark.parametrize("host", ["h.example", "[2001:db8::1]", "192.0.2.7"])
def test_all_ports_of_a_host_share_a_bucket(host: str) -> None:
    urls = [f"http://{host}/a", f"https://{host}/b", f"http://{host}:8080/a:1/c"]
    assert len({bucket_of(url, "", 12) for url in urls}) == 1
