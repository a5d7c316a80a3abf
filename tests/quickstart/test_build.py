"""The mini-web holds what its README promises."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image, ImageOps

from quickstart.build import build
from quickstart.dirt import BLOCKED_DOMAINS
from quickstart.pictures import grey_entropy, perceptual_hash

ROOT = Path(__file__).resolve().parents[2]
Runs = Callable[..., subprocess.CompletedProcess[str]]
PLANTED = {"exact_copy", "edited_copy", "held_out_copy", "duplicate_url"}


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "access.log"
    }


def pixels(file: Path) -> Image.Image:
    """The upright picture in RGB; Pillow's own conversion cuts 16 bits off at white."""
    image = ImageOps.exif_transpose(Image.open(file))
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    return image.convert("RGB")


def test_holds_a_pool_three_seed_sets_and_a_held_out_set(out: Path, pool: pd.DataFrame) -> None:
    assert len(pool) >= 1500
    assert list(pool.columns) == ["URL", "TEXT", "uid"]
    assert pool.uid.is_unique
    assert sorted(path.name for path in (out / "seeds").iterdir()) == [
        "clocks",
        "digits",
        "textures",
    ]
    assert 30 <= len(list((out / "seeds/textures").iterdir())) <= 60
    assert 30 <= len(list((out / "held_out").iterdir())) <= 60
    digits = pq.read_table(out / "seeds/digits/digits.parquet").to_pylist()
    assert 30 <= len(digits) <= 60
    assert {row["label"] for row in digits} == set(range(10))
    assert Image.open(io.BytesIO(digits[0]["jpg"])).format == "JPEG"
    with tarfile.open(out / "seeds/clocks/clocks-000.tar") as tar:
        names = tar.getnames()
    assert 30 <= len(names) // 2 <= 60
    assert names[:2] == ["000.jpg", "000.txt"]


def test_captions_are_long_short_and_missing(pool: pd.DataFrame) -> None:
    words = pool.TEXT.str.split().str.len()
    assert (words == 0).sum() > 20
    assert (words == 1).sum() > 50
    assert (words > 5).sum() > 500


def test_same_seed_gives_the_same_bytes(
    out: Path, port: int, tmp_path: Path, quickstart: Runs
) -> None:
    again = quickstart("build", tmp_path / "again", "--port", port, PYTHONHASHSEED="7")
    assert again.returncode == 0, again.stderr
    assert digests(tmp_path / "again") == digests(out)


def test_a_second_build_does_nothing(out: Path, port: int) -> None:
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    build(out, port)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_leaves_a_stranger_s_folder_alone(tmp_path: Path) -> None:
    mine = tmp_path / "pool/mine.parquet"
    mine.parent.mkdir()
    mine.write_text("precious")
    with pytest.raises(FileExistsError, match="not a mini-web"):
        build(tmp_path, 8765)
    assert mine.read_text() == "precious"


def test_truth_speaks_of_the_pool(out: Path, pool: pd.DataFrame, truth: pd.DataFrame) -> None:
    assert set(truth.uid) == set(pool.uid)
    copies = truth[truth.kind.isin(PLANTED)]
    held_out = copies[copies.kind == "held_out_copy"].copy_of
    assert all((out / path).is_file() for path in held_out)
    assert set(copies[copies.kind != "held_out_copy"].copy_of) <= set(pool.uid)
    assert all((out / "www" / path).is_file() for path in truth.file if path)
    counts = truth.kind.value_counts()
    assert counts["ok"] >= 1500
    for kind, least in {
        "exact_copy": 40,
        "edited_copy": 60,
        "held_out_copy": 20,
        "dead_link": 30,
        "html_page": 20,
        "refused_connection": 10,
        "corrupt": 10,
        "bomb": 1,
        "truncated": 10,
        "blocked_domain": 10,
        "duplicate_url": 15,
    }.items():
        assert counts[kind] >= least, kind
    sets = pd.read_parquet(out / "truth_sets.parquet")
    leaked = sets[sets.copy_of != ""]
    assert set(leaked.set) == {"clocks", "textures"}
    assert all((out / path).is_file() for path in leaked.copy_of)


def test_copies_are_what_the_truth_calls_them(out: Path, truth: pd.DataFrame) -> None:
    file_of = truth.set_index("uid").file
    exact = truth[truth.kind == "exact_copy"]
    for file, original in zip(exact.file, exact.copy_of, strict=True):
        assert file != file_of[original]
        assert (out / "www" / file).read_bytes() == (out / "www" / file_of[original]).read_bytes()
    edited = truth[truth.kind == "edited_copy"]
    assert edited.edit.nunique() == 9
    for file, original in zip(edited.file, edited.copy_of, strict=True):
        assert (out / "www" / file).read_bytes() != (out / "www" / file_of[original]).read_bytes()


def test_pictures_not_planted_are_no_copies(out: Path, truth: pd.DataFrame) -> None:
    alone = truth[(truth.expected_status == "ok") & ~truth.kind.isin(PLANTED)]
    files = [out / "www" / file for file in alone.file] + [
        path
        for folder in ("held_out", "seeds/textures")
        for path in (out / folder).iterdir()
        if path.name != "045.jpg"  # the seed that copies a held-out picture
    ]
    hashes = np.array([perceptual_hash(pixels(file)) for file in files])
    nearest = [
        int(np.count_nonzero(hashes[index + 1 :] != one, axis=1).min())
        for index, one in enumerate(hashes[:-1])
    ]
    assert len(files) > 1600
    assert min(nearest) > 31


def test_the_recipe_s_filters_part_good_from_bad(out: Path, truth: pd.DataFrame) -> None:
    select = yaml.safe_load((ROOT / "conf/recipes/quickstart.yaml").read_text())["select"]
    row: Any
    for row in truth[truth.expected_status.isin(["ok", "filtered"])].itertuples():
        image = pixels(out / "www" / row.file)
        short, long = sorted(image.size)
        reasons = {
            "min_side": short < select["min_side"]["at_least"],
            "aspect": long / short > select["aspect"]["at_most"],
            "entropy": grey_entropy(image) < select["entropy"]["at_least"],
        }
        if row.expected_status == "ok":
            assert not any(reasons.values()), (row.kind, reasons)
        else:
            assert reasons[row.expected_reason]


def test_broken_files_do_not_decode(out: Path, truth: pd.DataFrame) -> None:
    broken = truth[(truth.expected_status == "failed") & (truth.file != "")]
    assert set(broken.kind) == {"corrupt", "truncated", "empty", "bomb", "svg"}
    for file in broken.file:
        with pytest.raises((OSError, Image.DecompressionBombError)):
            Image.open(out / "www" / file).load()


def test_the_recipe_names_what_was_built(out: Path) -> None:
    recipe = yaml.safe_load((ROOT / "conf/recipes/quickstart.yaml").read_text())
    paths = [source["path"] for source in recipe["sources"]]
    for path in [*paths, recipe["ingest"]["blocked_domains"]]:
        assert (out / Path(path).relative_to("data/quickstart")).exists()
    assert (out / "blocked.txt").read_text().split() == list(BLOCKED_DOMAINS)
