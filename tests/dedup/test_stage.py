"""The table `copies` on rows written by hand: representatives, methods, contamination, books."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from curation.flow import plan
from curation.fragment import open_table
from curation.parallel import InProcess
from curation.recipe import parse_recipe
from curation.runner import run_step
from curation.store import Store

from ..tables import commit, commit_batches

SPEC = {
    "name": "dedup",
    "sources": [
        {"name": "web", "role": "pool", "format": "csv", "path": "w", "columns": {"url": "u"}},
        {"name": "cats", "role": "seed", "format": "folder", "path": "c"},
        {"name": "test", "role": "held_out", "format": "folder", "path": "t"},
    ],
    "retrieve": [{"name": "a", "seeds": "cats", "strategy": "as_is"}],
}
NEAR = {"near": {"at_least": 0.9}, "held_out": {"at_least": 0.8}}

# (pair, image, width, caption). a–b–c is a chain; d and e share a hash; f stands twice; g is alone.
WEB = [
    ("a1", "a", 100, "short"),
    ("b1", "b", 300, "short"),
    ("c1", "c", 200, "short"),
    ("d1", "d", 100, "short"),
    ("e1", "e", 100, "a longer caption"),
    ("f1", "f", 100, "short"),
    ("f2", "f", 100, "a longer caption"),
    ("g1", "g", 100, "short"),
    ("h1", "h", 100, "in the test set by its bytes"),
]
CATS = [("k1", "k", 100, "cat"), ("k2", "k", 100, "the same cat"), ("l1", "l", 100, "near a test")]
TEST = [("x1", "x", 100, "held out"), ("h9", "h", 100, "held out")]
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


def image(letter: str) -> str:
    return f"{ord(letter):032x}"


def hashes() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    found = {n: rng.bytes(32) for n in "abcfghklx"}
    bits = np.unpackbits(np.frombuffer(rng.bytes(32), np.uint8))
    found["d"] = np.packbits(bits).tobytes()
    bits[:20] ^= 1
    found["e"] = np.packbits(bits).tobytes()
    return found


@pytest.fixture
def copies(tmp_path):
    """Runs dedup with some parameters; returns the rows by pair and the manifest's counts."""
    store = Store(tmp_path)
    parts = {"web-0": WEB[:5], "web-1": WEB[5:], "cats-0": CATS, "test-0": TEST}
    roles = {"web": "pool", "cats": "seed", "test": "held_out"}
    rows = {
        name: [
            {"pair_id": p, "image_id": image(i), "status": "ok", "caption": c}
            | {"role": roles[name.split("-")[0]], "source": name.split("-")[0]}
            | {"original_width": w, "original_height": 100}
            for p, i, w, c in part
        ]
        for name, part in parts.items()
    }
    rows["web-1"].append(
        rows["web-1"][0] | {"pair_id": "lost", "status": "failed", "image_id": None}
    )
    commit(store, "images", rows)
    known = hashes()
    letters = {name: [i for _, i, *_ in part] for name, part in parts.items()}
    letters["web-1"].append("")
    commit_batches(
        store,
        "scores",
        {
            name: pa.RecordBatch.from_pydict(
                {
                    "pair_id": [r["pair_id"] for r in rows[name]],
                    "phash": pa.array([known.get(i) for i in own], pa.binary()),
                }
            )
            for name, own in letters.items()
        },
    )
    names = ("role_a", "image_a", "role_b", "image_b", "similarity")
    near = [
        dict(zip(names, (ra, image(a), rb, image(b), s), strict=True)) | {"rank": 1}
        for ra, a, rb, b, s in NEIGHBOURS
    ]
    commit(store, "neighbours", {"all": near})

    def run(**dedup):
        steps = {s.name: s for s in plan(parse_recipe(SPEC | {"dedup": NEAR | dedup}))}
        run_step(steps["dedup"], store, InProcess())
        table = open_table(store, "copies")
        return {r["pair_id"]: r for r in table.read().to_pylist()}, table.manifest.stats

    return run


def test_components_representatives_and_methods(copies):
    rows, _ = copies(held_out=None)
    assert set(rows) == {p for part in (WEB, CATS, TEST) for p, *_ in part}
    # b has most pixels; the chain is one component named after its smallest image.
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
    # A seed set is not thinned out but for rows with the same bytes.
    assert (rows["k1"]["method"], rows["k2"]["method"]) == ("exact", "representative")


def test_contamination_spreads_over_the_component(copies):
    rows, counts = copies()
    touched = ("contaminated_by", "contaminated_set", "contamination_method")
    for pair in ("a1", "b1", "c1"):
        assert [rows[pair][c] for c in touched] == [image("x"), "test", "near"], pair
        assert rows[pair]["contamination_similarity"] == pytest.approx(0.85)
    assert [rows["h1"][c] for c in touched] == [image("h"), "test", "exact"]
    assert [rows["l1"][c] for c in touched] == [image("x"), "test", "near"]
    assert rows["g1"]["contaminated_by"] is None
    assert rows["x1"]["contaminated_by"] is None
    assert (
        counts["pool"]
        == 9
        == counts["kept"] + counts["contaminated"] + sum(counts["copies"].values())
    )
    assert counts["contaminated"] == 4
    assert counts["contaminated_seeds"] == 1


def test_only_touching_images_when_asked(copies):
    rows, _ = copies(held_out={"at_least": 0.8, "whole_component": False})
    assert rows["c1"]["contaminated_by"] == image("x")
    assert rows["a1"]["contaminated_by"] is None


def test_levels_are_optional(copies):
    rows, counts = copies(perceptual=None, near=None, exact=False, held_out=None)
    assert {r["method"] for r in rows.values()} == {"representative"}
    assert counts["kept"] == 9
    rows, _ = copies(near=None)
    assert rows["a1"]["method"] == "representative"
    assert rows["d1"]["method"] == "perceptual"
    assert rows["h1"]["contamination_method"] == "exact"


def test_copies_of_seeds_are_named(copies):
    rows, _ = copies()
    assert rows["g1"]["copy_of_seed"] == image("k")
    assert rows["a1"]["copy_of_seed"] is None
