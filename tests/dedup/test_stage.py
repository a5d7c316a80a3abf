"""The table `copies` on rows written by hand: representatives, methods, contamination, counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curation.algorithms.components import distributed_components
from curation.engine.parallel import InProcess
from curation.engine.table import open_table
from curation.errors import StoreError
from curation.flow import plan
from curation.recipe import parse_recipe
from curation.stages.dedup import partitioned_inputs
from curation.store.store import Store

from ..tables import commit, commit_batches, run_step

Neighbour = tuple[str, str, str, str, float]
"""Role and image of both sides, and their similarity."""
Outcome = tuple[dict[str, dict[str, Any]], dict[str, Any]]
"""The rows by pair, and the counts in the manifest."""
Row = tuple[str, str, int, str]
"""Pair, image, width and caption."""
Dedup = Callable[..., Outcome]

SPEC: dict[str, Any] = {
    "name": "dedup",
    "sources": [
        {"name": "web", "role": "pool", "format": "csv", "path": "w", "columns": {"url": "u"}},
        {"name": "cats", "role": "seed", "format": "folder", "path": "c"},
        {"name": "test", "role": "held_out", "format": "folder", "path": "t"},
    ],
    "retrieve": [{"name": "a", "seeds": "cats", "strategy": "as_is"}],
}
NEAR = {"near": {"at_least": 0.9}, "held_out": {"at_least": 0.8}, "verify": None}

# (pair, image, width, caption). a–b–c is a chain; d and e share a hash; f has two rows; g is alone.
WEB = [
    ("a1", "a", 100, "short"),
    ("b1", "b", 300, "short"),
    ("c1", "c", 200, "short"),
    ("d1", "d", 100, "short"),
    ("e1", "e", 100, "a longer caption"),
    ("f1", "f", 100, "short"),
    ("f2", "f", 100, "a longer caption"),
    ("g1", "g", 100, "short"),
    ("h1", "h", 100, "has the bytes of a test image"),
    ("m1", "m", 100, "first"),
    ("n1", "n", 100, "first, and longer"),
    ("o1", "o", 90, "first"),
]
CATS = [("k1", "k", 100, "cat"), ("k2", "k", 100, "the same cat"), ("l1", "l", 100, "near a test")]
TEST = [("x1", "x", 100, "held out"), ("h9", "h", 100, "held out")]
# m, n and o are files of the same pixels.
PIXELS = {"m": "0" * 31 + "7", "n": "0" * 31 + "7", "o": "0" * 31 + "7"}
NEIGHBOURS = [
    ("pool", "a", "pool", "b", 0.95),
    ("pool", "b", "pool", "a", 0.95),
    ("pool", "b", "pool", "c", 0.91),
    ("pool", "c", "pool", "g", 0.899),
    ("held_out", "x", "pool", "c", 0.85),
    ("held_out", "x", "pool", "g", 0.79),
    ("held_out", "x", "seed", "l", 0.81),
    ("seed", "k", "pool", "g", 0.97),
]
HASH_NEIGHBOURS = [("pool", "d", "pool", "e", 1 - 20 / 256)]


def image(letter: str) -> str:
    return f"{ord(letter):032x}"


VERIFIED = (
    *("image_a", "image_b", "agreement", "worst", "steady", "inside", "hue", "flat", "blocks"),
    "mirrored",
)


def commit_images(store: Store, sets: Mapping[str, Sequence[Row]], lost: Mapping[str, int]) -> None:
    """Commit images and their pixels; each held-out set also has rows that were lost, by reason."""
    held_out = {f"{name}-0": rows for name, rows in sets.items()}
    parts = {"web-0": WEB[:5], "web-1": WEB[5:], "cats-0": CATS, **held_out}
    roles = {"web": "pool", "cats": "seed"}
    rows = {
        name: [
            {"pair_id": p, "image_id": image(i), "status": "ok", "caption": c}
            | {"role": roles.get(name.split("-")[0], "held_out"), "source": name.split("-")[0]}
            | {"original_width": w, "original_height": 100}
            for p, i, w, c in part
        ]
        for name, part in parts.items()
    }
    letters = {name: [i for _, i, *_ in part] for name, part in parts.items()}
    missing: dict[str, Any] = {"status": "failed", "image_id": None}
    rows["web-1"].append(rows["web-1"][0] | missing | {"pair_id": "lost"})
    letters["web-1"].append("")
    for name in held_out:
        of_set = {"role": "held_out", "source": name.split("-")[0], **missing}
        reasons = [reason for reason, count in lost.items() for _ in range(count)]
        for number, reason in enumerate(reasons):
            rows[name].append(of_set | {"pair_id": f"{name}{number}", "reason": reason})
            letters[name].append("")
    scores = {
        name: pa.RecordBatch.from_pydict(
            {
                "pair_id": [r["pair_id"] for r in rows[name]],
                "phash": pa.nulls(len(ids), pa.binary()),
                "pixel_id": pa.array([PIXELS.get(i, image(i) if i else None) for i in ids]),
            }
        )
        for name, ids in letters.items()
    }
    commit(store, "images", rows)
    commit_batches(store, "scores", scores)


@pytest.fixture
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dedup:
    """Runs dedup on the driver and in parts, which must give the same files and counts.

    Returns the rows by pair, and the counts in the manifest.
    """
    # Three rows per part: components cross fragments, and some parts have no rows.
    monkeypatch.setattr(partitioned_inputs, "ROWS_PER_PART", 3)
    monkeypatch.setattr(distributed_components, "EDGE_ENDS_PER_PART", 4)
    stores = {at_once: Store(tmp_path / str(at_once)) for at_once in (1000, 1)}
    for store in stores.values():
        commit_images(store, {"test": TEST}, {})
    names = ("role_a", "image_a", "role_b", "image_b", "similarity")

    def run(
        neighbours: Sequence[Neighbour] = NEIGHBOURS,
        verified: Sequence[tuple[Any, ...]] = (),
        semantic_pairs: Sequence[tuple[str, str, float]] = (),
        semantic_across: Sequence[Neighbour] = (),
        sets: Mapping[str, Sequence[Row]] | None = None,
        lost: Mapping[str, int] | None = None,
        **dedup: Any,
    ) -> Outcome:
        if sets is not None:
            for store in stores.values():
                commit_images(store, sets, lost or {})
        near = [
            dict(zip(names, (ra, image(a), rb, image(b), s), strict=True))
            | {"rank": 1, "method": method}
            for method, pairs in (
                ("near", neighbours),
                ("perceptual", HASH_NEIGHBOURS),
                (
                    "semantic",
                    [*(("pool", a, "pool", b, s) for a, b, s in semantic_pairs), *semantic_across],
                ),
            )
            for ra, a, rb, b, s in pairs
        ]
        verified_rows = [dict(zip(VERIFIED, row, strict=True)) for row in verified]
        tables = []
        for at_once, store in stores.items():
            commit(store, "neighbours", {"all": near})
            commit(store, "verified", {"all": verified_rows})
            more = [
                {"name": name, "role": "held_out", "format": "folder", "path": name}
                for name in sets or ()
                if name != "test"
            ]
            spec = (
                SPEC
                | {"sources": [*SPEC["sources"], *more]}
                | {"dedup": NEAR | dedup | {"rows_at_once": at_once}}
            )
            steps = {s.name: s for s in plan(parse_recipe(spec))}
            run_step(steps["dedup"], store, InProcess())
            tables.append(open_table(store, "copies"))
        on_driver, in_parts = (table.manifest for table in tables)
        assert (in_parts.content, in_parts.stats) == (on_driver.content, on_driver.stats)
        assert in_parts.stats["largest_components"] == on_driver.stats["largest_components"]
        return {r["pair_id"]: r for r in tables[1].read().to_pylist()}, in_parts.stats

    return run


def test_components_representatives_and_methods(copies: Dedup) -> None:
    rows, _ = copies(held_out=None)
    assert set(rows) == {p for part in (WEB, CATS, TEST) for p, *_ in part}
    # b has the most pixels. The chain is one component; its id is the smallest image id.
    assert {rows[p]["representative_id"] for p in ("a1", "b1", "c1")} == {image("b")}
    assert {rows[p]["component_id"] for p in ("a1", "b1", "c1")} == {image("a")}
    assert [rows[p]["method"] for p in ("a1", "b1", "c1")] == ["near", "representative", "near"]
    assert rows["b1"]["evidence_id"] == image("a")
    assert rows["c1"]["similarity"] == pytest.approx(0.91)
    # d and e have the same size; e has the longer caption.
    assert (rows["d1"]["method"], rows["d1"]["representative_id"]) == ("perceptual", image("e"))
    assert rows["d1"]["similarity"] == pytest.approx(1 - 20 / 256)
    assert (rows["f1"]["method"], rows["f1"]["representative_pair_id"]) == ("exact", "f2")
    assert rows["f2"]["method"] == "representative"
    assert (rows["g1"]["method"], rows["g1"]["similarity"]) == ("representative", None)
    # In a seed set only rows with the same bytes are copies.
    assert (rows["k1"]["method"], rows["k2"]["method"]) == ("exact", "representative")


def test_contamination_spreads_over_the_component(copies: Dedup) -> None:
    rows, counts = copies()
    columns = ("contaminated_by", "contaminated_set", "contamination_method")
    for pair in ("a1", "b1", "c1"):
        assert [rows[pair][c] for c in columns] == [image("x"), "test", "near"], pair
        assert rows[pair]["contamination_similarity"] == pytest.approx(0.85)
    assert [rows["h1"][c] for c in columns] == [image("h"), "test", "exact"]
    assert [rows["l1"][c] for c in columns] == [image("x"), "test", "near"]
    assert rows["g1"]["contaminated_by"] is None
    assert rows["x1"]["contaminated_by"] is None
    assert (
        counts["pool"]
        == 12
        == counts["kept"] + counts["contaminated"] + sum(counts["copies"].values())
    )
    assert counts["contaminated"] == 4
    assert counts["contaminated_seeds"] == 1


def test_without_whole_component_only_matching_images_are_contaminated(copies: Dedup) -> None:
    rows, _ = copies(held_out={"at_least": 0.8, "whole_component": False})
    assert rows["c1"]["contaminated_by"] == image("x")
    assert rows["a1"]["contaminated_by"] is None


def test_levels_are_optional(copies: Dedup) -> None:
    rows, counts = copies(perceptual=None, near=None, exact=False, pixels=False, held_out=None)
    assert {r["method"] for r in rows.values()} == {"representative"}
    assert counts["kept"] == 12
    rows, _ = copies(near=None, held_out={})
    assert rows["a1"]["method"] == "representative"
    assert rows["d1"]["method"] == "perceptual"
    assert rows["h1"]["contamination_method"] == "exact"


def test_copies_of_seeds_are_named(copies: Dedup) -> None:
    rows, _ = copies()
    assert rows["g1"]["copy_of_seed"] == image("k")
    assert rows["a1"]["copy_of_seed"] is None


def test_equal_pixels_in_other_files_are_copies(copies: Dedup) -> None:
    rows, counts = copies()
    assert {rows[p]["representative_id"] for p in ("m1", "n1", "o1")} == {image("n")}
    assert [rows[p]["method"] for p in ("m1", "n1", "o1")] == ["pixels", "representative", "pixels"]
    assert (rows["o1"]["evidence_id"], rows["o1"]["similarity"]) == (image("m"), 1.0)
    assert counts["edges"]["pixels"] == 2
    rows, _ = copies(pixels=False)
    assert rows["m1"]["method"] == "representative"


def test_the_representative_lists_urls_and_captions_of_its_copies(copies: Dedup) -> None:
    rows, _ = copies()
    assert rows["m1"]["copies"] is None
    listed = rows["n1"]["copies"]
    assert [c["pair_id"] for c in listed] == ["m1", "o1"]
    assert {c["caption"] for c in listed} == {"first"}
    assert [c["image_id"] for c in rows["f2"]["copies"]] == [image("f")]
    all_listed = [c["pair_id"] for r in rows.values() for c in r["copies"] or []]
    pool = {p for p, *_ in WEB}
    representatives = {p for p in pool if rows[p]["representative_pair_id"] == p}
    assert sorted(all_listed) == sorted(pool - representatives)


def test_representative_by_other_criteria(copies: Dedup) -> None:
    rows, _ = copies(representative=["caption", "pixels"])
    assert rows["d1"]["representative_id"] == image("e")
    rows, _ = copies(representative=[])
    assert rows["d1"]["representative_id"] == image("d")
    assert rows["b1"]["representative_id"] == image("a")


def test_chains_can_be_cut(copies: Dedup) -> None:
    """b, the largest, has edges to both ends of its chain; a, which has the smallest id, only to b."""
    rows, _ = copies(held_out=None, chains="cut")
    assert {rows[p]["representative_id"] for p in ("a1", "b1", "c1")} == {image("b")}
    rows, counts = copies(held_out=None, chains="cut", representative=[])
    assert [rows[p]["representative_id"] for p in ("a1", "b1", "c1")] == [
        image("a"),
        image("a"),
        image("c"),
    ]
    assert rows["c1"]["method"] == "representative"
    assert counts["largest_components"][0]["images"] == 3


def test_each_held_out_set_has_its_threshold_and_its_report(copies: Dedup) -> None:
    rows, counts = copies(held_out={"at_least": 0.9, "sets": {"test": {"at_least": 0.79}}})
    assert rows["g1"]["contaminated_by"] == image("x")
    assert rows["g1"]["contaminated_via"] == image("g")
    assert rows["a1"]["contaminated_via"] == image("c")
    assert counts["contamination"] == {
        "test": {
            "images": 2,
            "images_found": 2,
            "pool": {"exact": 1, "near": 4},
            "seed": {"near": 1},
            "rows": 2,
            "without_image": {},
        }
    }
    rows, counts = copies(held_out={"at_least": 0.9})
    assert counts["contamination"]["test"]["pool"] == {"exact": 1}


def test_an_image_of_several_sets_and_a_second_best_one_are_found(copies: Dedup) -> None:
    """h is in both sets; y is nearer to c than x is, and z has no copy."""
    held_out = [*TEST, ("y1", "y", 100, "held out"), ("z1", "z", 100, "held out")]
    near = [*NEIGHBOURS, ("held_out", "y", "pool", "c", 0.87)]
    _, counts = copies(near, sets={"test": held_out, "more": TEST[1:]})
    report = counts["contamination"]
    assert (report["test"]["images"], report["test"]["images_found"]) == (4, 3)
    assert (report["more"]["images"], report["more"]["images_found"]) == (1, 1)
    # Each row is counted once: the numbers of rows add up.
    assert sum(sum(of["pool"].values()) for of in report.values()) == counts["contaminated"]


def test_rows_of_held_out_sets_without_an_image_are_counted_and_warned_about(
    copies: Dedup, caplog: pytest.LogCaptureFixture
) -> None:
    _, counts = copies(sets={"test": TEST}, lost={"http_404": 2, "duplicate_url": 1})
    assert counts["contamination"]["test"]["rows"] == 5
    assert counts["contamination"]["test"]["without_image"] == {"http_404": 2}
    assert "2 of 5 rows of held-out set 'test' have no image (http_404 2)" in caplog.text


def test_a_held_out_set_without_any_image_stops_the_run(copies: Dedup) -> None:
    with pytest.raises(StoreError, match=r"'test' has an image \(file_missing 3\)"):
        copies(sets={"test": []}, lost={"file_missing": 3})
    copies(sets={"test": []}, lost={"file_missing": 3}, held_out=None)


def test_a_held_out_set_that_is_the_pool_leaves_nothing_and_is_warned_about(
    copies: Dedup, caplog: pytest.LogCaptureFixture
) -> None:
    """Every image of the pool is a neighbour of x above the threshold."""
    pairs = [("held_out", "x", "pool", i, 0.9) for _, i, *_ in WEB]
    _, counts = copies(neighbours=pairs)
    assert (counts["kept"], counts["contaminated"], counts["pool"]) == (0, 12, 12)
    assert "none is left" in caplog.text


def compared(a: str, b: str, **measured: float) -> tuple[Any, ...]:
    """A row of `verified` whose pixels agree, except for the given measures."""
    same = {"agreement": 1.0, "worst": 1.0, "steady": 1.0, "inside": 1.0, "hue": 0.0, "flat": 0.0}
    return (image(a), image(b), *(same | measured).values(), 64, False)


@pytest.mark.parametrize(
    ("measured", "copy"),
    [
        ({}, True),
        ({"agreement": 0.84}, False),
        ({"steady": 0.7}, False),
        ({"inside": 0.9}, False),
        ({"hue": 13.0}, False),
        ({"flat": 0.6}, True),
        ({"flat": 0.6, "agreement": 0.94}, False),
        ({"flat": 0.6, "worst": 0.9}, False),
        ({"flat": 0.4, "worst": 0.9, "agreement": 0.86}, True),
    ],
)
def test_only_pairs_whose_pixels_agree_are_copies(
    copies: Dedup, measured: dict[str, float], copy: bool
) -> None:
    pairs = [compared("a", "b"), compared("b", "c", **measured), compared("d", "e")]
    rows, _ = copies(verified=pairs, verify={}, held_out=None)
    assert rows["a1"]["representative_id"] == image("b")
    assert (rows["c1"]["representative_id"] == image("b")) is copy
    assert rows["d1"]["method"] == "perceptual"


def test_pairs_that_were_not_compared_are_no_copies(copies: Dedup) -> None:
    rows, counts = copies(verify={}, held_out=None)
    assert counts["copies"] == {"exact": 1, "pixels": 2}
    assert rows["a1"]["representative_id"] == image("a")


def test_semantic_pairs_are_not_verified(copies: Dedup) -> None:
    rows, _ = copies(
        verify={}, semantic={"epsilon": 0.03}, neighbours=[], semantic_pairs=[("g", "a", 0.98)]
    )
    assert {rows[p]["method"] for p in ("a1", "g1")} == {"semantic", "representative"}
    assert rows["a1"]["representative_id"] == rows["g1"]["representative_id"]
    rows, _ = copies(
        verify={}, semantic={"epsilon": 0.01}, neighbours=[], semantic_pairs=[("g", "a", 0.98)]
    )
    assert rows["a1"]["method"] == "representative"


def test_a_semantic_neighbour_of_a_seed_is_no_copy(copies: Dedup) -> None:
    pair = [("seed", "k", "pool", "g", 0.99)]
    rows, _ = copies(semantic={"epsilon": 0.03}, neighbours=[], semantic_across=pair)
    assert rows["g1"]["copy_of_seed"] is None
    rows, _ = copies(neighbours=pair)
    assert rows["g1"]["copy_of_seed"] == image("k")


def test_evidence_of_cut_chains_stays_within_the_component(copies: Dedup) -> None:
    rows, _ = copies(held_out=None, chains="cut", representative=[])
    assert (rows["c1"]["evidence_id"], rows["c1"]["similarity"]) == (None, None)
    assert rows["b1"]["evidence_id"] == image("a")
