"""What a second run does: nothing, or only what a change asks for."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.engine.table import open_table
from curation.errors import StoreError
from curation.flow import STAGES
from curation.inspect.diff import difference, open_dataset
from curation.runner.step import StepResult
from curation.store.store import Store

from .conftest import Run, dataset_rows

NAMES = list(STAGES)


def computed(outcomes: dict[str, StepResult]) -> list[str]:
    return [name for name, outcome in outcomes.items() if not outcome.up_to_date]


def files(store: Path) -> Counter[tuple[str, bytes]]:
    """The bytes of the files with rows of all tables, without the part of a name that is drawn."""
    paths = [p for f in ("tables", "dataset") for p in (store / f).rglob("*.parquet")]
    return Counter(
        (str(path.relative_to(store).with_suffix("").with_suffix("")), path.read_bytes())
        for path in paths
        # Manifests have times.
        if path.parent.name != "versions"
    )


def test_a_run_computes_only_what_changed_since_the_last(
    small: dict[str, Any], run: Run, run_without_spark: Run, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    assert computed(run(small, store)) == NAMES
    first = dataset_rows(store)
    assert first

    assert computed(run(small, store)) == []

    # A moved threshold decides anew; nothing is fetched, embedded or searched for copies again.
    stricter = small | {"select": {"min_side": {"at_least": 64}, "file_size": {"at_least": 2000}}}
    on_spark = shutil.copytree(store, tmp_path / "on_spark")
    did = computed(run_without_spark(stricter, store))
    assert did[0] == "select"
    assert not set(did) & set(NAMES[: NAMES.index("select")])
    second = dataset_rows(store)
    assert second != first
    check_difference(store, first, second)
    # As with `seconds_without_spark: 0`: Spark's workers write the same bytes.
    assert computed(run(stricter, on_spark)) == did
    assert files(on_spark) == files(store)

    # Back again: what was there is found, and is what readers see.
    assert computed(run(small, store)) == []
    assert dataset_rows(store) == first


def check_difference(
    store: Path, first: list[dict[str, Any]], second: list[dict[str, Any]]
) -> None:
    """Every image that changed is told, with the threshold that dropped it."""
    now = open_table(Store(store), "dataset").manifest.version
    (before,) = set(Store(store).versions("dataset")) - {now}
    rows = pa.Table.from_batches(
        difference(open_dataset(f"{store}@{before[:6]}"), open_dataset(str(store)))
    ).to_pylist()
    arms = [
        {r["image_id"]: sorted({c["arm"] for c in r["claims"]}) for r in dataset}
        for dataset in (first, second)
    ]
    expected = {
        image: (arms[0].get(image, []), arms[1].get(image, []))
        for image in {*arms[0], *arms[1]}
        if arms[0].get(image) != arms[1].get(image)
    }
    assert {r["image_id"]: (r["arms_before"], r["arms_after"]) for r in rows} == expected
    assert [r["image_id"] for r in rows] == sorted(expected)
    for row in rows:
        image = row["image_id"]
        change = "other_arms" if image in arms[0] and image in arms[1] else None
        assert row["change"] == (change or ("added" if image in arms[1] else "removed"))
        assert (row["reason"] is None) == (change is not None)
    assert "file_size" in {r["reason"] for r in rows if r["change"] == "removed"}
    assert sum(b.num_rows for b in difference(*[open_dataset(str(store))] * 2)) == 0
    with pytest.raises(StoreError, match=r"has the tag 'nothing' or a name that .*Valid: "):
        open_dataset(f"{store}@nothing")


@pytest.mark.nightly
def test_appended_file_computes_only_its_rows(
    small: dict[str, Any], run_here: Run, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    before = run_here(small, store)
    pool = tmp_path / "web" / "pool"
    rows = pq.read_table(pool / "a.parquet").slice(0, 20).to_pylist()
    more = [r | {"key": f"new-{r['key']}", "caption": "a later crawl"} for r in rows]
    from .small import write_rows

    write_rows(pool / "b.parquet", more)
    after = run_here(small, store)
    for name in ("ingest", "fetch", "screen", "embed"):
        assert after[name].computed == 1, name
        assert after[name].reused == before[name].computed, name
        assert after[name].rows == before[name].rows + 20, name
    # Those of them with pixels are exact copies of what is there.
    images = open_table(Store(store), "images").read(["status", "source_key"]).to_pylist()
    fetched = sum(r["status"] == "ok" for r in images if (r["source_key"] or "").startswith("new-"))
    copies = open_table(Store(store), "copies").manifest.stats["copies"]
    assert fetched > 10
    assert copies["exact"] >= fetched


@pytest.mark.nightly
def test_two_and_seven_partitions_give_the_same_rows(
    small: dict[str, Any], run: Run, run_here: Run, tmp_path: Path
) -> None:
    """Those of seven are also deduplicated on workers, in parts; those of two in one process."""
    datasets = []
    for rows, fragments, run_in in ((75, 2, run_here), (22, 7, run)):
        spec = small | {"ingest": {"rows_per_fragment": rows}}
        if fragments == 7:
            spec["dedup"] = small.get("dedup", {}) | {"rows_at_once": 50}
        store = tmp_path / f"store{fragments}"
        run_in(spec, store)
        pool = [n for n in open_table(Store(store), "images").fragments if n.startswith("web-")]
        assert len(pool) == fragments
        datasets.append(dataset_rows(store))
    assert datasets[0]
    assert datasets[0] == datasets[1]


def test_counts_balance_in_every_table(
    small: dict[str, Any], run_here: Run, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    run_here(small, store)
    tables = {n: open_table(Store(store), n) for n in ("pairs", "images", "eligible", "claims")}
    for name in ("pairs", "images", "eligible"):
        counts = tables[name].manifest.counts
        assert sum(sum(o.values()) for o in counts.values()) == 180, name
    eligible = tables["eligible"].manifest.counts
    assert eligible["held_out"] == {"held_out": 6}
    assert eligible["pool"]["contaminated"] == 3
    assert eligible["pool"]["copy_exact"] == 10
    assert eligible["pool"]["copy_perceptual"] + eligible["pool"].get("copy_near", 0) == 10
    assert eligible["pool"]["min_side"] == 3
    assert eligible["pool"]["eligible"] == 120 - 0
    dataset = dataset_rows(store)
    assert sum(r["weight"] for r in dataset) == tables["claims"].rows
    composition = tables["claims"].manifest.stats["composition"]
    assert sum(c["final"] for c in composition) == tables["claims"].rows
    assert len({r["image_id"] for r in dataset}) == len(dataset)
    assert all(len(r["claims"]) == r["weight"] for r in dataset)
