"""Repeated captions against a count row by row, for any cut into fragments and after additions."""

from __future__ import annotations

import time
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.engine.parallel import InProcess
from curation.engine.table import open_table
from curation.errors import RecipeError
from curation.flow import plan
from curation.media.compatible_text import in_canonical_order
from curation.recipe import parse_recipe
from curation.stages.tally import parts as in_parts
from curation.stages.tally.captions import count_repeats, normalize_caption
from curation.store.store import Store

from ..tables import commit, commit_empty_inputs, run_step

SPEC = {
    "name": "tally",
    "sources": [
        {"name": "web", "role": "pool", "format": "csv", "path": "w", "columns": {"url": "u"}},
        {"name": "cats", "role": "seed", "format": "folder", "path": "c"},
    ],
    "select": {"caption_repeats": {"at_most": 3, "missing": "keep"}},
}
# Captions as written, and their normal form.
CAPTIONS = {
    "Buy now": "buy now",
    "buy  NOW": "buy now",
    "ＢＵＹ now\n": "buy now",
    "a dog": "a dog",
    "Straße": "strasse",
    "STRASSE": "strasse",
    "  ": None,
    None: None,
    "犬": "犬",
    "\u202e x": "\u202e x",
}


def world(count: int, seed: int = 0) -> list[dict[str, object]]:
    """Rows of the pool with few captions, some copies and some failed rows; then five seed rows."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, object]] = []
    for number in range(count):
        is_seed = number >= count - 5
        fetched = is_seed or rng.random() > 0.1
        rows.append(
            {
                "pair_id": f"{seed}-{number:04d}",
                "image_id": f"i{seed}-{number:04d}" if fetched else None,
                "role": "seed" if is_seed else "pool",
                "source": "cats" if is_seed else "web",
                "status": "ok" if fetched else "failed",
                "caption": list(CAPTIONS)[int(rng.integers(len(CAPTIONS)))],
                # A third of the rows copy one of ten images.
                "representative": f"p{rng.integers(10)}"
                if rng.random() < 0.3
                else f"i{seed}-{number:04d}",
            }
        )
    return rows


def counted(rows: list[dict[str, Any]]) -> dict[str, int | None]:
    """Count row by row."""
    pool = [r for r in rows if r["role"] == "pool" and r["status"] == "ok"]
    counts: dict[str, int | None] = {}
    for row in rows:
        caption = CAPTIONS[row["caption"]]
        images = {r["representative"] for r in pool if CAPTIONS[r["caption"]] == caption}
        counts[row["pair_id"]] = len(images) if row in pool and caption is not None else None
    return counts


def commit_world(store: Store, rows: list[dict[str, Any]], size: int) -> None:
    """Commit `images`, `copies` and the other tables that select reads, in fragments of `size` rows."""
    parts = {}
    # A file that is added later has fragments of its own.
    files = dict.fromkeys((r["source"], r["pair_id"][0]) for r in rows)
    for source, file in files:
        file_rows = [r for r in rows if (r["source"], r["pair_id"][0]) == (source, file)]
        for start in range(0, len(file_rows), size):
            name = f"{source}-{file_rows[start]['pair_id']}"
            parts[name] = file_rows[start : start + size]
    copies = {
        name: [
            r
            | {"component_id": r["representative"], "representative_id": r["representative"]}
            | {"representative_pair_id": r["representative"], "method": "representative"}
            for r in part
            if r["status"] == "ok"
        ]
        for name, part in parts.items()
    }
    commit(store, "images", parts)
    commit(store, "copies", copies)
    commit_empty_inputs(store, ("tally", "select"), parts)


def run(store: Store, *names: str) -> None:
    steps = {s.name: s for s in plan(parse_recipe(SPEC))}
    for name in names:
        run_step(steps[name], store, InProcess())


def column_of(store: Store, table: str, column: str) -> dict[str, object]:
    rows = open_table(store, table).read(["pair_id", column]).to_pylist()
    return {r["pair_id"]: r[column] for r in rows}


@pytest.mark.parametrize("size", [3, 17, 1000])
def test_counts_equal_those_row_by_row(tmp_path: Path, size: int) -> None:
    store, rows = Store(tmp_path), world(120)
    commit_world(store, rows, size)
    run(store, "tally", "select")
    expected = counted(rows)
    assert column_of(store, "tallies", "caption_repeats") == expected
    assert len({n for n in expected.values() if n}) > 3
    stats = open_table(store, "tallies").manifest.stats
    assert stats == {"captions": 5, "most_repeated": max(filter(None, expected.values()))}
    reasons = column_of(store, "eligible", "reason")
    dropped = {name for name, reason in reasons.items() if reason == "caption_repeats"}
    assert dropped == {name for name, n in expected.items() if n is not None and n > 3}


@pytest.mark.parametrize(("parts", "count"), [(1, 120), (2, 120), (7, 120), (1, 0)])
def test_counts_in_parts_are_those_of_the_driver(
    tmp_path: Path, parts: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = world(count) if count else []
    stores = [Store(tmp_path / name) for name in ("driver", "parts")]
    monkeypatch.setattr(in_parts, "ROWS_PER_PART", max(1, -(-count // parts)))
    for store, at_once in zip(stores, (1_000, 0), strict=True):
        commit_world(store, rows, 17)
        (step,) = (s for s in plan(parse_recipe(SPEC)) if s.name == "tally")
        params = step.params.model_copy(update={"rows_at_once": at_once})
        run_step(replace(step, params=params), store, InProcess())
    on_driver, in_some = (open_table(store, "tallies").manifest for store in stores)
    files = [[f.sha256 for r in m.fragments for f in r.files] for m in (on_driver, in_some)]
    assert files[0] == files[1]
    assert on_driver.stats == in_some.stats
    # Work tables are gone, but for the keys of captions, which later runs use.
    kept = [len(list((tmp_path / n / "work").rglob("*.parquet"))) for n in ("driver", "parts")]
    assert kept[0] == kept[1]


def test_an_added_file_changes_counts_and_only_its_own_captions_are_read(tmp_path: Path) -> None:
    store, rows = Store(tmp_path), world(60)
    commit_world(store, rows, 20)
    run(store, "tally")
    before = column_of(store, "tallies", "caption_repeats")
    assert before == counted(rows)
    done = set(store.storage.files("work/tally/done"))
    added = [r for r in world(40, seed=1) if r["role"] == "pool"]
    commit_world(store, rows + added, 20)
    run(store, "tally")
    after = column_of(store, "tallies", "caption_repeats")
    assert after == counted(rows + added)
    assert {n: after[n] for n in before} != before
    now = set(store.storage.files("work/tally/done"))
    assert done < now
    # 35 rows of the new file.
    assert len(now - done) == 2
    # Without the added rows, the earlier table is reused.
    commit_world(store, rows, 20)
    run(store, "tally")
    assert column_of(store, "tallies", "caption_repeats") == before


def test_without_rows_or_captions(tmp_path: Path) -> None:
    store = Store(tmp_path)
    rows = [r | {"caption": None} for r in world(12)]
    commit_world(store, rows, 5)
    run(store, "tally", "select")
    assert set(column_of(store, "tallies", "caption_repeats").values()) == {None}
    assert "caption_repeats" not in column_of(store, "eligible", "reason").values()
    assert open_table(store, "tallies").manifest.stats == {"captions": 0, "most_repeated": 0}
    assert count_repeats([]).most_repeated == 0


def test_normal_form_of_captions() -> None:
    assert normalize_caption("  Ａ\tDOG ") == normalize_caption("a dog") == "a dog"
    assert normalize_caption("a-dog") != normalize_caption("a dog")
    assert normalize_caption("\n\u3000") is None
    assert normalize_caption("x" * 100_000) == "x" * 100_000


MARKS = "\u0301\u0316\u0327\u0344\u0f73\u0f81\u05b0\u3099\u093c\U0001d165 e\u00e9\uac00\ufb01\u2126"


@given(st.text(st.sampled_from(MARKS) | st.characters(), max_size=60))
def test_sorting_the_marks_of_a_caption_changes_nothing(text: str) -> None:
    expected = unicodedata.normalize("NFKC", text)
    assert unicodedata.normalize("NFKC", in_canonical_order(text)) == expected


@pytest.mark.parametrize("marks", ["\u0301" * 60_000 + "\u0316" * 60_000, "\u0f73" * 120_000])
def test_a_caption_of_marks_takes_no_time(marks: str) -> None:
    started = time.process_time()
    assert normalize_caption(f"a{marks}") == normalize_caption(f"A{marks}")
    assert time.process_time() - started < 3


def test_recipes_check_the_name_and_type_of_the_score() -> None:
    with pytest.raises(RecipeError, match=r"unknown score.*caption_repeats"):
        parse_recipe(SPEC | {"select": {"caption_repeat": {"at_most": 1}}})
    with pytest.raises(RecipeError, match="wants at_least or at_most"):
        parse_recipe(SPEC | {"select": {"caption_repeats": {"one_of": ["a"]}}})
