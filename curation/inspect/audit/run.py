"""Runs the audit of copy detection: inject copies, search for them, evaluate, write the results."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import Detail, RecipeError
from curation.inspect.audit.contact_sheet import choose_pairs
from curation.inspect.audit.copies import InjectedCopies, StoredOriginals
from curation.inspect.audit.detect import detect, read_originals
from curation.inspect.audit.evaluate import (
    copies_table,
    count_pairs,
    levels_of,
    pairs_per_original,
    pairs_table,
    recall_by,
    recall_of,
    without_verification,
)
from curation.inspect.audit.inject import inject_copies, open_encoder
from curation.inspect.audit.page import render_audit
from curation.inspect.audit.pool import Pool, Sample, draw_sample
from curation.inspect.audit.thresholds import THRESHOLDS
from curation.inspect.report.album import Album
from curation.recipe import Recipe
from curation.store.store import Store

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
"""Columns of audit.parquet, one row per injected copy.

`refused` is why fetch would not store the copy. `agrees` says whether its pixels agree with those of
its original; it is null where the recipe does not verify.
"""


@dataclass(frozen=True)
class Audit:
    """The results of an audit: the summary as in audit.json, and the table of copies."""

    summary: dict[str, Any]
    copies: pd.DataFrame


def audit_dedup(recipe: Recipe, store: Store, size: int, seed: int, folder: Path) -> Audit:
    """Inject edited copies of pool images, and measure which of them `recipe.dedup` finds.

    The results are audit.json, audit.parquet and audit.html in `folder`. The store is not changed.

    Args:
        recipe: of the run; its thresholds may differ from those of the run.
        store: holds the run.
        size: number of pool images to sample; a smaller pool is sampled whole.
        seed: of the sample, the edits and the contact sheet.
        folder: is created if it does not exist.

    Raises:
        RecipeError: no level is configured, the encoder cannot be loaded, or `folder` is a file.
        StoreError: tables are missing, or belong to another recipe or to other images.
    """
    pool = Pool(recipe, store)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"Cannot write into {str(folder)!r}: {error}"
        fix = "Name a folder that you may write to"
        raise RecipeError(Detail(message, "--out", str(folder), fix=fix)) from error
    device = _device() if pool.embeddings else "cpu"
    encoder = open_encoder(recipe, pool, device)
    sample = draw_sample(pool, size, seed)
    originals = read_originals(pool, sample)
    injected = inject_copies(pool, sample, recipe, seed, (encoder, device))
    detections = detect(pool, sample, originals, injected, recipe)
    copies = copies_table(sample, injected, detections, recipe)
    pairs = pairs_table(pool, sample, originals, detections, recipe)
    summary = {
        "recipe": recipe.name,
        "store": pool.store.uri,
        "tables": pool.versions,
        "seed": seed,
        **_settings(recipe),
        **_counts(sample, originals, injected, copies, levels_of(recipe)),
        **_results(recipe, sample, originals, copies, pairs),
    }
    album = Album(pool.images)
    sections = choose_pairs(pairs[pairs["agrees"]], pool, album, seed)
    album.load()
    html = render_audit(summary, copies, sections, album, injected.thumbnails)
    (folder / "audit.html").write_bytes(html)
    (folder / "audit.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    # Opened here: pyarrow takes a name with a colon for an address.
    with (folder / "audit.parquet").open("wb") as file:
        pq.write_table(_copies_to_arrow(copies, summary["levels"]), file)
    return Audit(summary, copies)


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _settings(recipe: Recipe) -> dict[str, Any]:
    return {
        "levels": {level: _level_params(recipe, level) for level in levels_of(recipe)},
        "not_audited": ["semantic"] if recipe.dedup.semantic else [],
    }


def _level_params(recipe: Recipe, level: str) -> dict[str, Any]:
    params: dict[str, Any] = getattr(recipe.dedup, level).model_dump()
    held_out = recipe.dedup.held_out
    return params | ({"held_out": held_out.at_least} if held_out and level == "near" else {})


def _counts(
    sample: Sample,
    originals: StoredOriginals,
    injected: InjectedCopies,
    copies: pd.DataFrame,
    levels: list[str],
) -> dict[str, Any]:
    comparable = _comparable(originals)
    return {
        "sample": {
            "requested": sample.requested,
            "taken": len(sample),
            "pool_rows": sample.pool_rows,
            "undecodable": injected.undecodable,
            "with": {level: comparable[level] for level in levels},
        },
        "copies": {
            "injected": int(copies["refused"].isna().sum()),
            "refused": copies["refused"].value_counts().sort_index().to_dict(),
        },
    }


def _comparable(originals: StoredOriginals) -> dict[str, int]:
    """Return how many originals each level can compare: those with a hash, those with a vector."""
    return {"perceptual": int(originals.hashed.sum()), "near": int(originals.embedded.sum())}


def _results(
    recipe: Recipe,
    sample: Sample,
    originals: StoredOriginals,
    copies: pd.DataFrame,
    pairs: pd.DataFrame,
) -> dict[str, Any]:
    levels, comparable = levels_of(recipe), _comparable(originals)
    agreeing = pairs[pairs["agrees"]]
    return {
        "verify": _verification(recipe, copies, pairs),
        "recall": _recall(copies, levels),
        "pairs_with_others": count_pairs(agreeing, sample, levels),
        "thresholds": {
            level: THRESHOLDS[level](copies, agreeing, comparable[level], recipe)
            for level in levels
        },
        "originals": pairs_per_original(agreeing, sample, levels),
    }


def _recall(copies: pd.DataFrame, levels: list[str]) -> dict[str, Any]:
    return {
        "all": recall_of(copies[copies["refused"].isna()], levels),
        "by_strength": recall_by(copies, "strength", levels),
        "by_edit": recall_by(copies, "edit", levels),
    }


def _verification(
    recipe: Recipe, copies: pd.DataFrame, pairs: pd.DataFrame
) -> dict[str, Any] | None:
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
        "unverified_recall": _recall(without_verification(copies), levels),
    }


def _copies_to_arrow(copies: pd.DataFrame, levels: dict[str, Any]) -> pa.Table:
    rows = copies.to_dict("records")
    found_by = [[level for level in levels if row[f"by_{level}"]] for row in rows]
    named = pd.Series(found_by, index=copies.index, dtype=object)
    columns = copies.rename(columns={"distance": "perceptual_distance"}).assign(found_by=named)
    return pa.Table.from_pandas(columns[SCHEMA.names], SCHEMA, preserve_index=False)
