"""Writes the report of a run, one HTML file that needs nothing else, and its composition as Parquet."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from rich.filesize import decimal

from curation.errors import StoreError
from curation.flow import plan, run_fingerprint
from curation.inspect.composition import COUNTS, composition_of
from curation.inspect.html import format_number, render_page
from curation.inspect.lineage import Lineage, trace
from curation.inspect.report import svg
from curation.inspect.report.album import Album
from curation.inspect.report.contact_sheets import contact_sheets
from curation.inspect.report.copies import summarise_copies
from curation.inspect.report.dropped import drop_reasons
from curation.inspect.report.place import REPORT, claim_report_path
from curation.inspect.report.row_counts import DatasetCounts, count_dataset, count_stages
from curation.recipe import Recipe
from curation.stages.retrieve.balance import describe_target
from curation.stages.retrieve.strategies import STRATEGIES
from curation.store.dataset_files import dataset_folder
from curation.store.fragment import Fragment
from curation.store.manifest import Manifest
from curation.store.reports import in_removal_order, put_report
from curation.store.store import DATASET, Store
from curation.store.withheld import taken_down_since
from curation.version import __version__

logger = logging.getLogger(__name__)

OBJECTIVES = {
    "spherical": "mean cosine similarity to the centroid",
    "euclidean": "mean squared distance to the centroid",
}
COMPOSITION = "composition.parquet"
TEMPLATE = "report.html.j2"
NAME_COLUMNS = ("arm", "seed_set", "strategy")


def write_report(recipe: Recipe, store: Store, run: str | None = None) -> str:
    """Check that the books of a finished run balance, and write its report and composition.

    Args:
        recipe: the recipe.
        store: where the run is.
        run: see `trace`.

    Returns:
        The path of the report within the store.

    Raises:
        StoreError: the run is not there, or its books do not balance; the message names the stage.
    """
    started, before = time.monotonic(), store.takedowns(reload=True)
    lineage = trace(recipe, store, run)
    composition, total = composition_of(lineage["claims"].manifest)
    counts = count_dataset(lineage, total)
    album = Album(lineage["images"])
    content = {
        "name": recipe.name,
        "run": run_fingerprint(recipe),
        "address": store.address(dataset_folder(lineage[DATASET].manifest.version)),
        "counts": counts,
        **_composition_content(recipe, lineage, composition, total),
        **_image_content(recipe, lineage, counts, album),
        **_cluster_content(lineage),
        **_provenance(recipe, lineage),
    }
    album.load()
    path = claim_report_path(recipe, lineage, store)
    html = _render(content | {"album": album})
    folder = path.rpartition("/")[0]
    put_report(store, folder, {COMPOSITION: _to_parquet(composition), REPORT: html})
    # Whoever takes rows down writes first, and then looks for reports, so one sees the other.
    if taken_down_since(store, before):
        store.storage.delete(in_removal_order(store.storage.files(folder)))
        raise StoreError(
            f"Rows of {store.uri} were taken down while this report was written, so it was deleted",
            fix="Run the recipe again, which writes it without them",
        )
    seconds = time.monotonic() - started
    logger.info("report: %d images, %d bytes, %.1f s", len(album), len(html), seconds)
    return path


def _composition_content(
    recipe: Recipe, lineage: Lineage, composition: list[dict[str, Any]], total: int
) -> dict[str, Any]:
    target = lineage["claims"].manifest.stats.get("target")
    strategies = dict.fromkeys(arm.strategy for arm in recipe.arms)
    return {
        "composition": composition,
        "columns": [name for name in COUNTS if name != "shortfall"],
        "requested": {name: STRATEGIES[name].requested for name in strategies},
        "total": total,
        "target": describe_target(target) if target else None,
    }


def _image_content(
    recipe: Recipe, lineage: Lineage, counts: DatasetCounts, album: Album
) -> dict[str, Any]:
    """Return the content of the sections that show images; their images are added to the album."""
    lines = count_stages(lineage, counts)
    stats = lineage["copies"].manifest.stats
    return {
        "lines": lines,
        "funnels": svg.funnels(lines),
        "reasons": drop_reasons(lines, lineage, album, recipe.seed),
        "sheets": contact_sheets(lineage, recipe.arms, album, recipe.seed),
        "copies": summarise_copies(lineage["copies"], album, recipe.seed),
        "copies_by_method": stats["copies"],
        "weakest_links": [
            component
            for component in stats["largest_components"]
            if component["images"] > 2 and "weakest_link" in component
        ],
        "dedup": recipe.dedup,
        "held_out_sources": [source.name for source in recipe.with_role("held_out")],
        "held_out_sets": stats["contamination"],
    }


def _cluster_content(lineage: Lineage) -> dict[str, Any]:
    """Return the content of the section on clusters and search; levels from the finest up."""
    centroids = lineage["centroids"]
    # A fragment holds a level.
    levels = [level for level in centroids.fragments.values() if level.rows]
    return {
        "clusters": [_level(n, levels, centroids.manifest) for n in range(len(levels))],
        "drift": centroids.manifest.stats.get("drift"),
        "search": lineage["matches"].manifest.stats,
    }


def _level(number: int, levels: Sequence[Fragment], manifest: Manifest) -> dict[str, Any]:
    sizes = np.sort(levels[number].read(["training_count"]).column(0).to_numpy())
    stats = manifest.stats
    return {
        "number": number,
        "of": len(levels),
        "count": len(sizes),
        "requested": stats["requested"][number],
        "members": stats["training_vectors"] if number == 0 else int(sizes.sum()),
        "median": float(np.median(sizes)),
        "smallest": int(sizes[0]),
        "largest": int(sizes[-1]),
        "histogram": svg.histogram(sizes),
        "objective_name": objective_name(number, manifest),
        "objective": svg.curve(stats["objective"][number]),
    }


def objective_name(number: int, manifest: Manifest) -> str:
    """Return what the objective of a level is, and of which points if not of all."""
    name, rounds = OBJECTIVES[manifest.params["metric"]], manifest.params["resampling"]["rounds"]
    # A level that repeats the one below is not trained.
    trained = (
        number > 0 and manifest.stats["clusters"][number] < manifest.stats["clusters"][number - 1]
    )
    return (
        f"{name}, of the points of the last of {rounds} rounds," if trained and rounds > 1 else name
    )


def _provenance(recipe: Recipe, lineage: Lineage) -> dict[str, Any]:
    manifest = lineage[DATASET].manifest
    return {
        "created": manifest.created,
        "tables": _tables(recipe, lineage),
        "libraries": manifest.libraries,
        "software": __version__,
        "recipe": yaml.safe_dump(
            recipe.model_dump(mode="json", by_alias=True),
            sort_keys=False,
            allow_unicode=True,
            width=100,
        ),
    }


def _tables(recipe: Recipe, lineage: Lineage) -> list[dict[str, Any]]:
    rows = []
    for step in plan(recipe):
        for name in step.tables:
            manifest = lineage[name].manifest
            rows.append(
                {
                    "stage": step.name,
                    "version": manifest.stage_version,
                    "table": name,
                    "table_version": manifest.version,
                    "rows": manifest.rows,
                    "fragments": len(manifest.fragments),
                    "bytes": manifest.bytes,
                    "created": manifest.created,
                }
            )
    return rows


def _to_parquet(composition: list[dict[str, Any]]) -> bytes:
    fields = [(name, pa.string()) for name in NAME_COLUMNS]
    schema = pa.schema(fields + [(name, pa.int64()) for name in COUNTS])
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(composition, schema=schema), out)
    return out.getvalue()


def _render(content: dict[str, Any]) -> bytes:
    filters: dict[str, Callable[..., Any]] = {
        "number": format_number,
        "size": decimal,
        "words": _as_words,
        "time": _format_time,
    }
    return render_page(Path(__file__).parent / TEMPLATE, content, filters)


def _as_words(name: str) -> str:
    """Return a name of the schemas in words."""
    return {"as_is": "as is", "held_out": "held-out"}.get(name, name.replace("_", " "))


def _format_time(created: str) -> str:
    return datetime.fromisoformat(created).strftime("%Y-%m-%d %H:%M:%S %Z")
