"""The audit of a recipe that verifies: a copy counts if a level finds it and its pixels agree."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageOps
from rich.console import Console

from curation.inspect.audit.console import print_audit
from curation.inspect.audit.edits import EDITS, Edit, apply_edit
from curation.inspect.audit.inject import store_files
from curation.inspect.audit.run import Audit
from curation.inspect.audit.verify_pairs import compare_pictures, load_picture, within_bounds
from curation.media.pictures.decode import decode
from curation.stages.dedup.params import Verify

from ..report.page import Page
from .conftest import Run, audited
from .test_audit import bits, pool_of, unit

LEVELS = ("perceptual", "near")
SIZE = 8
"""Images that are audited, of which some have copies in the pool."""


def words(audit: Audit) -> str:
    console = Console(file=io.StringIO(), width=200)
    print_audit(audit.summary, console)
    assert isinstance(console.file, io.StringIO)
    return " ".join(console.file.getvalue().split())


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("verified")


@pytest.fixture(scope="module")
def plain(committed: Run, out: Path) -> Audit:
    """Nothing is verified."""
    return audited(committed, out / "plain", size=SIZE)


@pytest.fixture(scope="module")
def verified(committed: Run, out: Path) -> Audit:
    return audited(committed.with_dedup(verify={}), out / "verified", size=SIZE)


def test_a_copy_is_found_if_a_level_finds_it_and_its_pixels_agree(
    plain: Audit, verified: Audit
) -> None:
    before, after = plain.copies, verified.copies
    agrees = after["agrees"].fillna(False).to_numpy(bool)
    assert 0 < agrees.sum() < len(after) and before["agrees"].isna().all()
    reach = {"perceptual": True, "near": (after["rank"] <= 8).fillna(False).to_numpy(bool)}
    for level in LEVELS:
        wanted = before[f"by_{level}"].to_numpy(bool) & agrees & reach[level]
        np.testing.assert_array_equal(after[f"by_{level}"], wanted)
    np.testing.assert_array_equal(after["found"], after["by_perceptual"] | after["by_near"])


def test_agreement_is_that_of_the_stored_pictures(
    committed: Run, verified: Audit, out: Path
) -> None:
    pool, bounds = pool_of(committed), Verify()
    rows = pq.read_table(out / "verified" / "audit.parquet").to_pandas()
    for image_id, copies in list(rows.groupby("image_id"))[:2]:
        image = pool.loc[image_id]["image"]
        files = [
            apply_edit(Image.fromarray(np.asarray(decode(image))), name, image_id, 0)
            for name in copies["edit"]
        ]
        stored = [load_picture(s) for s, _ in store_files(files, committed.recipe.fetch)]
        agreements = [compare_pictures(load_picture(image), other) for other in stored]
        assert copies["agrees"].tolist() == within_bounds(agreements, bounds).tolist()


def test_the_unverified_recall_is_that_of_a_recipe_that_does_not_verify(
    plain: Audit, verified: Audit, out: Path
) -> None:
    verification = verified.summary["verify"]
    assert plain.summary["verify"] is None
    assert verification["unverified_recall"] == plain.summary["recall"]
    assert verified.summary["recall"]["all"]["any"] <= plain.summary["recall"]["all"]["any"]
    lost = plain.copies["found"].sum() - verified.copies["found"].sum()
    assert verification["copies_refused"] == lost
    for level in LEVELS:
        pairs = [audit.summary["pairs_with_others"][level]["pairs"] for audit in (plain, verified)]
        assert verification["ties_refused"][level] == pairs[0] - pairs[1] >= 0
    pages = {name: (out / name / "audit.html").read_text() for name in ("plain", "verified")}
    assert "Pairs are verified" in pages["verified"] and "unverified" in words(verified)
    assert " ".join(Page(pages["verified"]).sections["recall"]).count("unverified") >= 2
    assert "Pairs are verified" in words(verified)
    assert "verified" not in pages["plain"] and "verified" not in words(plain)
    assert json.loads((out / "verified" / "audit.json").read_text())["verify"] == verification


def test_pairs_with_other_images_count_if_they_agree(committed: Run, verified: Audit) -> None:
    pool, bounds = pool_of(committed), Verify()
    small = {i: load_picture(row["image"]) for i, row in pool.iterrows()}
    vectors = {i: unit(row["vector"]) for i, row in pool.iterrows()}

    def agree(a: str, b: str) -> bool:
        low, high = sorted((a, b))
        return bool(within_bounds([compare_pictures(small[low], small[high])], bounds)[0])

    counts = np.zeros(2, int)
    for row in verified.summary["originals"][:12]:
        original, others = row["image_id"], [i for i in pool.index if i != row["image_id"]]
        distance = {i: bits(pool.loc[original]["phash"], pool.loc[i]["phash"]) for i in others}
        within_distance = [i for i, d in distance.items() if d is not None and d <= 24]
        cosine = {i: np.float32(vectors[original] @ vectors[i]) for i in others}
        nearest = [i for _, i in sorted((-cosine[i], i) for i in others)][:8]
        near = [i for i in nearest if cosine[i] >= np.float32(0.999)]
        wanted = [sum(agree(original, i) for i in side) for side in (within_distance, near)]
        assert [row["perceptual"], row["near"]] == wanted
        counts += wanted
    assert counts.all()


def test_thresholds_count_agreeing_pairs_from_the_floor_of_verify_up(
    plain: Audit, verified: Audit
) -> None:
    for level in LEVELS:
        key = {"perceptual": "max_distance", "near": "at_least"}[level]
        rows = verified.summary["thresholds"][level]["table"]
        before = {row[key]: row for row in plain.summary["thresholds"][level]["table"]}
        (of_recipe,) = [row for row in rows if "recipe" in row["marks"]]
        assert of_recipe["recall"]["all"] == verified.summary["recall"]["all"][level]
        for row in rows:
            if row[key] in before:
                assert row["recall"]["all"] <= before[row[key]]["recall"]["all"]
                assert row["pairs_per_1000"] <= before[row[key]]["pairs_per_1000"]
    cosines = [row["at_least"] for row in verified.summary["thresholds"]["near"]["table"]]
    assert min(cosines) >= Verify().floor


def test_an_edit_that_verify_refuses_is_not_found(
    committed: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    negative = Edit("medium", lambda image, rng: ImageOps.invert(image))
    monkeypatch.setitem(EDITS, "flip", negative)
    near = {"encoder": "semantic", "at_least": -1.0, "floor": -1.0, "k": 64}
    everything = {"near": near, "perceptual": None, "held_out": None}
    recall = {}
    for name, verify in (("plain", None), ("verified", {"floor": -1.0, "k": 64})):
        run = committed.with_dedup(**everything, verify=verify)
        copies = audited(run, tmp_path / name, size=4).copies
        recall[name] = copies.groupby("edit")["found"].mean()
    assert (recall["plain"] == 1.0).all()
    assert recall["verified"]["flip"] == 0.0 and recall["verified"]["jpeg_q60"] >= 0.5


def test_the_split_into_fragments_changes_nothing(committed: Run, cut: Run, tmp_path: Path) -> None:
    audits = [
        audited(run.with_dedup(verify={}), tmp_path / str(n), size=4)
        for n, run in enumerate((committed, cut))
    ]
    pd.testing.assert_frame_equal(audits[0].copies, audits[1].copies)
    for key in ("verify", "pairs_with_others", "thresholds", "originals"):
        assert audits[0].summary[key] == audits[1].summary[key]
