"""The audit of copy detection on a real run, compared with brute force."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from curation.cli.facts.tables import AuditSummary
from curation.engine.table import open_table
from curation.inspect.audit.edits import EDITS, apply_edit
from curation.inspect.audit.inject import store_files
from curation.inspect.audit.pool import Pool, draw_sample
from curation.inspect.audit.run import Audit
from curation.inspect.audit.thresholds import (
    largest_distance,
    lowest_cosine,
    rate_upper_bound,
)
from curation.inspect.audit.transforms import encode_image
from curation.media.encoders.encoder import load_encoder
from curation.media.encoders.forward import encode
from curation.media.pictures.decode import decode
from curation.media.pictures.hashes import decode_grey, perceptual_hash
from curation.stages.fetch.params import FetchParams

from ..report.conftest import HOSTILE
from ..report.page import Page
from .conftest import COPIED, PICTURES, Run, audited, pool_files

FORBIDDEN = {"script", "link", "iframe", "object", "embed", "base", "form"}
SIZE = 6


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def full(committed: Run, out: Path) -> Audit:
    """An audit of the whole pool: the sample may be larger than it."""
    return audited(committed, out / "full", size=1000)


@pytest.fixture(scope="module")
def sampled(committed: Run, out: Path) -> Audit:
    return audited(committed, out / "sampled")


def pool_of(run: Run) -> pd.DataFrame:
    """Every image of the pool once, with its stored picture, hash and vector."""
    images = open_table(run.store, "images").read().to_pandas()
    images["phash"] = open_table(run.store, "scores").read(["phash"]).to_pandas()
    vectors = open_table(run.store, "embeddings.semantic").read(["vector"]).to_pandas()
    images["vector"] = vectors["vector"]
    pool: pd.DataFrame = images[(images["role"] == "pool") & (images["status"] == "ok")]
    return pool.drop_duplicates("image_id").set_index("image_id")


def bits(one: bytes | None, other: bytes | None) -> int | None:
    if one is None or other is None:
        return None
    both = [np.unpackbits(np.frombuffer(h, np.uint8)) for h in (one, other)]
    return int((both[0] != both[1]).sum())


def unit(vector: bytes) -> np.ndarray:
    return np.frombuffer(vector, "<f2").astype(float)


def pixels_of(image: bytes | None) -> np.ndarray:
    """The pixels of a picture that can be decoded."""
    assert image is not None
    pixels = decode(image)
    assert pixels is not None
    return pixels


def test_a_reencoded_copy_is_found_by_its_hash_and_a_mirrored_one_is_not(full: Audit) -> None:
    by_edit = {row["edit"]: row for row in full.summary["recall"]["by_edit"]}
    hashed = full.summary["sample"]["with"]["perceptual"]
    assert by_edit["jpeg_q60"]["copies"] == PICTURES + COPIED + 1
    assert by_edit["jpeg_q60"]["perceptual"] >= 0.95 * hashed / by_edit["jpeg_q60"]["copies"]
    assert by_edit["flip"]["perceptual"] == 0.0
    easy, _, hard = full.summary["recall"]["by_strength"]
    assert easy["perceptual"] > hard["perceptual"]


def test_all_of_a_small_pool_is_taken_and_a_flat_picture_has_no_hash(full: Audit) -> None:
    assert AuditSummary.model_validate(full.summary).copies == full.summary["copies"]
    assert full.summary["sample"] == {
        "requested": 1000,
        "taken": PICTURES + COPIED + 1,
        "pool_rows": PICTURES + 2 * COPIED + 1,
        "undecodable": 0,
        "with": {"perceptual": PICTURES + COPIED, "near": PICTURES + COPIED + 1},
    }


def test_a_file_is_stored_as_the_run_stores_it(committed: Run) -> None:
    rows = open_table(committed.store, "images").read(["role", "image", "reason"]).to_pylist()
    stored = [(row["image"], row["reason"]) for row in rows if row["role"] == "pool"]
    assert store_files(pool_files(), committed.recipe.fetch) == stored
    assert {reason for _, reason in stored} == {None, "undecodable"}
    wide = pixels_of(
        store_files([encode_image(Image.new("RGB", (900, 300)), "WEBP", 80)], FetchParams())[0][0]
    )
    assert wide.shape == (171, 512, 3)


def test_copies_are_as_near_as_brute_force_says(committed: Run, sampled: Audit, out: Path) -> None:
    pool = pool_of(committed)
    recipe = committed.recipe
    encoder = load_encoder(recipe.embed.encoders["semantic"], "cpu")
    rows = pq.read_table(out / "sampled" / "audit.parquet").to_pandas()
    assert len(rows) == SIZE * len(EDITS) and rows["refused"].isna().all()
    base = np.stack([unit(v) for v in pool["vector"]])
    for image_id, copies in list(rows.groupby("image_id"))[:3]:
        original = pool.loc[image_id]
        files = [
            apply_edit(Image.fromarray(pixels_of(original["image"])), name, image_id, 0)
            for name in copies["edit"]
        ]
        stored = [image for image, _ in store_files(files, recipe.fetch)]
        vectors, _ = encode(encoder, [pixels_of(s) for s in stored], 32, "cpu")
        original_place = list(pool.index).index(image_id)
        for row, image, vector in zip(copies.itertuples(), stored, vectors, strict=True):
            assert image is not None
            grey = decode_grey(image)
            assert grey is not None
            wanted = bits(perceptual_hash(grey), original["phash"])
            assert (None if pd.isna(row.perceptual_distance) else row.perceptual_distance) == wanted
            cosines = (base @ vector.astype(float)).astype(np.float32)
            assert row.similarity == cosines[original_place]
            order = np.lexsort((pool.index.to_numpy(str), -cosines))
            rank = 1 + list(order).index(original_place)
            assert (rank if rank <= 8 and row.similarity >= 0.5 else None) == (
                None if pd.isna(row.rank) else row.rank
            )
            found_by = ["perceptual"] if wanted is not None and wanted <= 24 else []
            found_by += ["near"] if row.similarity >= np.float32(0.999) and rank <= 8 else []
            assert list(row.found_by) == found_by


def test_pairs_with_other_images_are_those_of_brute_force(committed: Run, sampled: Audit) -> None:
    pool = pool_of(committed)
    base = np.stack([unit(v) for v in pool["vector"]])
    for row in sampled.summary["originals"]:
        original = pool.loc[row["image_id"]]
        others = pool.index != row["image_id"]
        distances = [bits(original["phash"], h) for h in pool["phash"][others]]
        assert row["perceptual"] == sum(d is not None and d <= 24 for d in distances)
        cosines = np.sort((base @ unit(original["vector"])).astype(np.float32)[others])[::-1]
        assert row["near"] == (cosines[:8] >= np.float32(0.999)).sum()
    assert len(sampled.summary["originals"]) == SIZE


def test_copies_that_the_pool_has_are_linked(full: Audit) -> None:
    counts = full.summary["pairs_with_others"]["perceptual"]
    assert counts["originals_linked"] == 2 * COPIED and counts["most_of_one_original"] == 1


def test_an_impossible_threshold_finds_nothing(committed: Run, tmp_path: Path) -> None:
    near = {"encoder": "semantic", "at_least": 1.0, "floor": 1.0, "k": 1}
    strict = committed.with_dedup(near=near, perceptual=None, held_out=None)
    none = audited(strict, tmp_path, size=3)
    hard = none.summary["recall"]["by_strength"][2]
    assert hard["any"] == hard["near"] == 0.0 and hard["copies"] > 0
    assert "perceptual" not in none.summary["levels"] and none.copies["distance"].isna().all()


def test_a_recipe_with_one_level_is_audited_by_it_alone(committed: Run, tmp_path: Path) -> None:
    alone = audited(committed.with_dedup(near=None, held_out=None), tmp_path, size=3)
    assert list(alone.summary["thresholds"]) == ["perceptual"]
    assert alone.summary["recall"]["all"]["any"] == alone.summary["recall"]["all"]["perceptual"] > 0
    assert alone.copies["similarity"].isna().all()


def test_the_seed_decides_the_files_and_the_sample(
    committed: Run, sampled: Audit, out: Path
) -> None:
    audited(committed, out / "again")
    for name in ("audit.json", "audit.parquet", "audit.html"):
        assert (out / "again" / name).read_bytes() == (out / "sampled" / name).read_bytes()
    other = draw_sample(Pool(committed.recipe, committed.store), SIZE, 1)
    assert set(other.ids.astype(str)) != set(sampled.copies["image_id"])


def test_the_split_into_fragments_changes_nothing(sampled: Audit, cut: Run, out: Path) -> None:
    split = audited(cut, out / "cut")
    assert len(Pool(cut.recipe, cut.store).fragments) > 4
    pd.testing.assert_frame_equal(split.copies, sampled.copies)
    differ = {"store", "tables"}
    assert {k: v for k, v in split.summary.items() if k not in differ} == {
        k: v for k, v in sampled.summary.items() if k not in differ
    }
    pages = [(out / name / "audit.html").read_text() for name in ("cut", "sampled")]
    uris = [audit.summary["store"] for audit in (split, sampled)]
    assert pages[0].replace(uris[0], "") == pages[1].replace(uris[1], "")


def test_recall_and_pairs_fall_as_thresholds_get_stricter(full: Audit) -> None:
    for level, direction in (("near", 1), ("perceptual", -1)):
        rows = full.summary["thresholds"][level]["table"][::direction]
        for name in ("pairs_per_1000", "originals_linked_per_1000", "unexplained_originals"):
            counts = [row[name] for row in rows]
            assert counts == sorted(counts, reverse=direction < 0)
        recall = [row["recall"]["all"] for row in rows]
        assert recall == sorted(recall, reverse=direction < 0)
        (of_recipe,) = [row for row in rows if "recipe" in row["marks"]]
        assert of_recipe["recall"]["all"] == full.summary["recall"]["all"][level]


def test_a_suggestion_is_the_last_threshold_within_its_rule(full: Audit) -> None:
    thresholds = full.summary["thresholds"]["near"]
    rows = thresholds["table"]
    (place,) = [n for n, row in enumerate(rows) if "suggested" in row["marks"]]
    assert rows[place]["unexplained_originals"] <= thresholds["suggestion"]["allowed"] == 0
    assert rows[place]["at_least"] == thresholds["suggestion"]["value"]
    assert rows[place + 1]["unexplained_originals"] > 0
    suggestion = full.summary["thresholds"]["perceptual"]["suggestion"]
    assert suggestion["value"] >= full.summary["levels"]["perceptual"]["max_distance"]


def test_the_lowest_cosine_and_the_largest_distance() -> None:
    assert lowest_cosine([0.9, 0.8, 0.7], 0, 0.4) == 0.901
    assert lowest_cosine([0.9, 0.8, 0.7], 1, 0.4) == 0.801
    assert lowest_cosine([0.9, 0.8, 0.7], 3, 0.4) == 0.4
    assert lowest_cosine([float(np.float32(0.9))], 0, 0.4) == 0.901
    assert lowest_cosine([1.0002], 0, 0.4) is None
    assert largest_distance([3, 20], 0, 47) == 2
    assert largest_distance([3, 20], 1, 47) == 19
    assert largest_distance([3, 20], 2, 47) == 47
    assert largest_distance([0], 0, 47) is None


def test_the_upper_bound_of_a_rate() -> None:
    assert rate_upper_bound(0, 3000) == pytest.approx(1 - 0.05 ** (1 / 3000))
    assert rate_upper_bound(5, 5) == 1.0


def test_the_page_escapes_text_from_the_web_and_loads_nothing(full: Audit, out: Path) -> None:
    html = (out / "full" / "audit.html").read_text()
    page = Page(html)
    assert "&lt;script&gt;alert(" in html and "<script" not in html and HOSTILE not in html
    for tag, attributes in page.elements:
        assert tag not in FORBIDDEN
        assert not [a for a in attributes if a.startswith("on")]
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/jpeg;base64,"))
    assert "default-src 'none'" in html


def test_the_sheet_shows_pairs_with_the_weakest_first(full: Audit, out: Path) -> None:
    page = Page((out / "full" / "audit.html").read_text())
    shown = page.sections["pairs"]
    assert any(text.startswith("Linked by") for text in shown)
    cosines = [float(t) for t in shown if t.startswith("0.99") or t.startswith("1.00")]
    counts = full.summary["pairs_with_others"]
    assert 0 < len(cosines) <= min(60, counts["near"]["pairs"] + counts["perceptual"]["pairs"])
    sections = " ".join(shown).split("Linked by ")[1:]
    for section in sections:
        if not section.startswith("perceptual alone"):
            numbers = [float(w) for w in section.split() if w[:5] in ("0.999", "1.000")]
            assert numbers == sorted(numbers)
