"""Repeated captions against a count row by row, however the rows are cut and whatever comes later."""

from __future__ import annotations

import numpy as np
import pytest

from curation.engine.context import Context
from curation.engine.fragment import Fragment
from curation.engine.parallel import InProcess
from curation.engine.store import Store
from curation.engine.table import open_table
from curation.errors import RecipeError
from curation.flow import plan
from curation.recipe import parse_recipe
from curation.runner import run_step
from curation.stages.tally.captions import caption_keys, repeats, same_caption

from ..tables import commit, commit_empty_inputs

SPEC = {
    "name": "tally",
    "sources": [
        {"name": "web", "role": "pool", "format": "csv", "path": "w", "columns": {"url": "u"}},
        {"name": "cats", "role": "seed", "format": "folder", "path": "c"},
    ],
    "select": {"caption_repeats": {"at_most": 3, "missing": "keep"}},
}
# As they are written, and what they have in common.
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
    """Rows of the pool: few captions, some copies, some without pixels; then seeds with the same."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        seeds = number >= count - 5
        fetched = seeds or rng.random() > 0.1
        rows.append(
            {
                "pair_id": f"{seed}-{number:04d}",
                "image_id": f"i{seed}-{number:04d}" if fetched else None,
                "role": "seed" if seeds else "pool",
                "source": "cats" if seeds else "web",
                "status": "ok" if fetched else "failed",
                "caption": list(CAPTIONS)[int(rng.integers(len(CAPTIONS)))],
                # A third of them copy one of ten pictures.
                "stands": f"p{rng.integers(10)}" if rng.random() < 0.3 else f"i{seed}-{number:04d}",
            }
        )
    return rows


def counted(rows) -> dict[str, int | None]:
    """Count row by row, with other means."""
    mine = [r for r in rows if r["role"] == "pool" and r["status"] == "ok"]
    found: dict[str, int | None] = {}
    for row in rows:
        own = CAPTIONS[row["caption"]]
        same = {r["stands"] for r in mine if own is not None and CAPTIONS[r["caption"]] == own}
        found[row["pair_id"]] = len(same) if row in mine and own is not None else None
    return found


def commit_world(store: Store, rows, size: int) -> None:
    """Commit `images`, `copies` and what else select reads, in fragments of so many rows."""
    parts = {}
    # A file that comes later makes fragments of its own.
    files = dict.fromkeys((r["source"], r["pair_id"][0]) for r in rows)
    for source, file in files:
        own = [r for r in rows if (r["source"], r["pair_id"][0]) == (source, file)]
        for start in range(0, len(own), size):
            parts[f"{source}-{own[start]['pair_id']}"] = own[start : start + size]
    copies = {
        name: [
            r
            | {"component_id": r["stands"], "representative_id": r["stands"]}
            | {"representative_pair_id": r["stands"], "method": "representative"}
            for r in own
            if r["status"] == "ok"
        ]
        for name, own in parts.items()
    }
    commit(store, "images", parts)
    commit(store, "copies", copies)
    commit_empty_inputs(store, ("tally", "select"), parts)


def run(store: Store, *names: str) -> None:
    steps = {s.name: s for s in plan(parse_recipe(SPEC))}
    for name in names:
        run_step(steps[name], store, InProcess())


def told(store: Store, table: str, column: str) -> dict[str, object]:
    rows = open_table(store, table).read(["pair_id", column]).to_pylist()
    return {r["pair_id"]: r[column] for r in rows}


@pytest.mark.parametrize("size", [3, 17, 1000])
def test_counts_equal_those_row_by_row(tmp_path, size):
    store, rows = Store(tmp_path), world(120)
    commit_world(store, rows, size)
    run(store, "tally", "select")
    expected = counted(rows)
    assert told(store, "tallies", "caption_repeats") == expected
    assert len({n for n in expected.values() if n}) > 3
    stats = open_table(store, "tallies").manifest.stats
    assert stats == {"captions": 5, "most_repeated": max(filter(None, expected.values()))}
    reasons = told(store, "eligible", "reason")
    dropped = {name for name, reason in reasons.items() if reason == "caption_repeats"}
    assert dropped == {name for name, n in expected.items() if n is not None and n > 3}
    images, copies = (open_table(store, name).fragments for name in ("images", "copies"))
    items = {name: {"images": images[name], "copies": copies[name]} for name in images}
    records = Context(store, InProcess(), "passes", []).compute("captions", caption_keys, items)
    keys = [Fragment(store, record) for record in records.values()]
    whole = repeats(keys)
    parted = repeats(keys, rows_a_pass=17)
    np.testing.assert_array_equal(whole.counts, parted.counts)
    assert (whole.captions, whole.most) == (parted.captions, parted.most)


def test_what_comes_later_changes_counts_and_reads_only_its_own_captions(tmp_path):
    store, rows = Store(tmp_path), world(60)
    commit_world(store, rows, 20)
    run(store, "tally")
    before = told(store, "tallies", "caption_repeats")
    assert before == counted(rows)
    done = set(store.sizes("work/tally/done"))
    more = [r for r in world(40, seed=1) if r["role"] == "pool"]
    commit_world(store, rows + more, 20)
    run(store, "tally")
    after = told(store, "tallies", "caption_repeats")
    assert after == counted(rows + more)
    assert {n: after[n] for n in before} != before
    now = set(store.sizes("work/tally/done"))
    assert done < now
    # 35 rows of the new file.
    assert len(now - done) == 2
    # Gone again, the earlier table is found.
    commit_world(store, rows, 20)
    run(store, "tally")
    assert told(store, "tallies", "caption_repeats") == before


def test_no_row_and_no_caption(tmp_path):
    store = Store(tmp_path)
    rows = [r | {"caption": None} for r in world(12)]
    commit_world(store, rows, 5)
    run(store, "tally", "select")
    assert set(told(store, "tallies", "caption_repeats").values()) == {None}
    assert "caption_repeats" not in told(store, "eligible", "reason").values()
    assert open_table(store, "tallies").manifest.stats == {"captions": 0, "most_repeated": 0}
    assert repeats([]).most == 0


def test_what_counts_as_the_same():
    assert same_caption("  Ａ\tDOG ") == same_caption("a dog") == "a dog"
    assert same_caption("a-dog") != same_caption("a dog")
    assert same_caption("\n\u3000") is None
    assert same_caption("x" * 100_000) == "x" * 100_000


def test_thresholds_are_known_to_recipes():
    with pytest.raises(RecipeError, match=r"no such score.*caption_repeats"):
        parse_recipe(SPEC | {"select": {"caption_repeat": {"at_most": 1}}})
    with pytest.raises(RecipeError, match="wants at_least or at_most"):
        parse_recipe(SPEC | {"select": {"caption_repeats": {"one_of": ["a"]}}})
