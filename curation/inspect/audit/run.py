"""The audit of copy detection: plant, scan, judge, and write what was found."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from curation.engine.store import Store
from curation.errors import RecipeError
from curation.inspect.audit.detect import Stored, read_stored, scan
from curation.inspect.audit.evaluate import (
    by_original,
    copies_table,
    levels_of,
    pairs_table,
    recall,
    shares,
    ties_of,
    unverified,
)
from curation.inspect.audit.inject import Planted, open_encoder, plant
from curation.inspect.audit.page import render
from curation.inspect.audit.pool import Pool, Sample, draw_sample
from curation.inspect.audit.sheet import strips_of
from curation.inspect.audit.thresholds import THRESHOLDS
from curation.inspect.report.pictures import Album
from curation.recipe import Recipe

SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("edit", pa.string()),
        ("strength", pa.string()),
        ("refused", pa.string()),
        ("perceptual_distance", pa.int16()),
        ("similarity", pa.float32()),
        ("rank", pa.int32()),
        ("agrees", pa.bool_()),
        ("found_by", pa.list_(pa.string())),
    ]
)
"""Columns of audit.parquet, a row a planted copy. `refused` is why fetch would not store the copy;
`agrees`, whether its pixels agree with its original's, is null where the recipe does not verify."""


@dataclass(frozen=True)
class Audit:
    """What an audit found: `told` as in audit.json, and a row a planted copy."""

    told: dict[str, Any]
    copies: pd.DataFrame


def audit_dedup(recipe: Recipe, store: Store, size: int, seed: int, folder: Path) -> Audit:
    """Plant edited copies of pool pictures, look for them as `recipe.dedup` says, write the findings.

    Writes audit.json, audit.parquet and audit.html into `folder`.

    Args:
        recipe: of the run; its thresholds may be others than those that the run was made with.
        store: holds the run.
        size: pool pictures to sample; all are taken where there are fewer.
        seed: of the sample, of the edits and of the sheet.
        folder: is made where it is not there.

    Raises:
        RecipeError: no level is configured, the encoder cannot be loaded, or `folder` is a file.
        StoreError: tables are missing, or are not of this recipe or not of one another.
    """
    pool = Pool(recipe, store)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecipeError(f"Cannot write into {str(folder)!r}: {error}") from error
    device = _device() if pool.embeddings else "cpu"
    encoder = open_encoder(recipe, pool, device)
    sample = draw_sample(pool, size, seed)
    stored = read_stored(pool, sample)
    planted = plant(pool, sample, recipe, seed, (encoder, device))
    found = scan(pool, sample, stored, planted, recipe)
    copies = copies_table(sample, planted, found, recipe)
    pairs = pairs_table(pool, sample, stored, found, recipe)
    told = _told(recipe, pool, sample, stored, planted, (copies, pairs, seed))
    album = Album(pool.images)
    strips = strips_of(pairs[pairs["agrees"]], pool, album, seed)
    album.load()
    html = render(told, copies, strips, album, planted.shown)
    (folder / "audit.html").write_bytes(html)
    (folder / "audit.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    pq.write_table(_parquet(copies, told["levels"]), folder / "audit.parquet")
    return Audit(told, copies)


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _told(
    recipe: Recipe,
    pool: Pool,
    sample: Sample,
    stored: Stored,
    planted: Planted,
    judged: tuple[pd.DataFrame, pd.DataFrame, int],
) -> dict[str, Any]:
    copies, every, seed = judged
    pairs = every[every["agrees"]]
    levels = levels_of(recipe)
    having = {"perceptual": int(stored.hashed.sum()), "near": int(stored.embedded.sum())}
    kept = copies[copies["refused"].isna()]
    return {
        "recipe": recipe.name,
        "store": pool.store.uri,
        "tables": pool.versions,
        "seed": seed,
        "levels": {level: _level(recipe, level) for level in levels},
        "not_audited": ["semantic"] if recipe.dedup.semantic else [],
        "sample": {
            "asked": sample.asked,
            "taken": len(sample),
            "pool_rows": sample.pool_rows,
            "undecodable": planted.undecodable,
            "with": {level: having[level] for level in levels},
        },
        "copies": {
            "planted": len(kept),
            "refused": copies["refused"].value_counts().sort_index().to_dict(),
        },
        "verify": _verify(recipe, copies, every),
        "recall": _recall(copies, levels),
        "ties_to_others": ties_of(pairs, sample, levels),
        "thresholds": {
            level: THRESHOLDS[level](copies, pairs, having[level], recipe) for level in levels
        },
        "originals": by_original(pairs, sample, levels),
    }


def _recall(copies: pd.DataFrame, levels: list[str]) -> dict[str, Any]:
    return {
        "all": shares(copies[copies["refused"].isna()], levels),
        "by_strength": recall(copies, "strength", levels),
        "by_edit": recall(copies, "edit", levels),
    }


def _verify(recipe: Recipe, copies: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, Any] | None:
    """Return what verify refused, and the recall without it; None where the recipe does not verify."""
    if recipe.dedup.verify is None:
        return None
    levels = levels_of(recipe)
    return {
        "params": recipe.dedup.verify.model_dump(),
        "copies_refused": int((copies["unverified"] & ~copies["found"]).sum()),
        "ties_refused": {
            level: int((pairs[f"by_{level}"] & ~pairs["agrees"]).sum()) for level in levels
        },
        "unverified_recall": _recall(unverified(copies), levels),
    }


def _level(recipe: Recipe, level: str) -> dict[str, Any]:
    block: dict[str, Any] = getattr(recipe.dedup, level).model_dump()
    held_out = recipe.dedup.held_out
    return block | ({"held_out": held_out.at_least} if held_out and level == "near" else {})


def _parquet(copies: pd.DataFrame, levels: dict[str, Any]) -> pa.Table:
    found = [[level for level in levels if row[f"by_{level}"]] for row in copies.to_dict("records")]
    named = pd.Series(found, index=copies.index, dtype=object)
    rows = copies.rename(columns={"distance": "perceptual_distance"}).assign(found_by=named)
    return pa.Table.from_pandas(rows[SCHEMA.names], SCHEMA, preserve_index=False)
