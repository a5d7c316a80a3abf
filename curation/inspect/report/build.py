"""The report of a run: one HTML file that needs nothing else, and its composition as Parquet."""

from __future__ import annotations

import io
import logging
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from curation.engine.manifest import Manifest
from curation.engine.store import DATASET, Store
from curation.flow import plan, run_fingerprint
from curation.inspect.composition import COUNTS, composition_of
from curation.inspect.lineage import Lineage, trace
from curation.inspect.report import svg
from curation.inspect.report.books import Counts, balance, count
from curation.inspect.report.copies import copies_of
from curation.inspect.report.dropped import reasons_of
from curation.inspect.report.pictures import Album
from curation.inspect.report.sheets import sheets
from curation.recipe import Recipe
from curation.stages.retrieve.balance import describe_target
from curation.version import __version__

logger = logging.getLogger(__name__)

MEASURES = {
    "spherical": "mean cosine similarity to the centroid",
    "euclidean": "mean squared distance to the centroid",
}

TEMPLATE = "report.html.j2"
NAMES = ("arm", "seed_set", "strategy")


def report_path(recipe: Recipe) -> str:
    """Return where the report of a recipe's run is, within the store."""
    return f"reports/{run_fingerprint(recipe)}/report.html"


def write_report(recipe: Recipe, store: Store) -> str:
    """Check the books of a finished run, write its report and composition, return the report's path.

    Raises:
        StoreError: the run is not there, or its books do not balance; the message names the stage.
    """
    started = time.monotonic()
    lineage = trace(recipe, store)
    composition, total = composition_of(lineage["claims"].manifest)
    target = lineage["claims"].manifest.stats.get("target")
    counts = count(lineage, total)
    album = Album(lineage["images"])
    content = _content(recipe, lineage, counts, album) | {
        "composition": composition,
        "columns": [n for n in COUNTS if n != "shortfall"],
        "total": total,
        "target": describe_target(target) if target else None,
        "address": store.address(f"{DATASET}/{lineage[DATASET].manifest.version}"),
    }
    album.load()
    path = report_path(recipe)
    html = _render(content | {"album": album})
    store.put(path.replace("report.html", "composition.parquet"), _parquet(composition))
    store.put(path, html)
    logger.info(
        "report: %d pictures, %d bytes, %.1f s", len(album), len(html), time.monotonic() - started
    )
    return path


def _content(recipe: Recipe, lineage: Lineage, counts: Counts, album: Album) -> dict[str, Any]:
    """Return what the sections show; pictures are asked of the album, and loaded later."""
    lines = balance(lineage, counts)
    seed = recipe.seed
    return {
        "name": recipe.name,
        "run": run_fingerprint(recipe),
        "created": lineage[DATASET].manifest.created,
        "counts": counts,
        "lines": lines,
        "funnels": svg.funnels(lines),
        "reasons": reasons_of(lines, lineage["eligible"], album, seed),
        "sheets": sheets(lineage, list(recipe.retrieve), album, seed),
        "copies": copies_of(lineage["copies"], album, seed),
        "found": lineage["copies"].manifest.stats,
        "linked": [
            own
            for own in lineage["copies"].manifest.stats["largest_components"]
            if own["images"] > 2 and "weakest_link" in own
        ],
        "dedup": recipe.dedup,
        "held_out_sources": [s.name for s in recipe.with_role("held_out")],
        "clusters": _clusters(lineage),
        "search": lineage["matches"].manifest.stats,
        "steps": _steps(recipe, lineage),
        "libraries": lineage[DATASET].manifest.libraries,
        "software": __version__,
        "recipe": yaml.safe_dump(
            recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100
        ),
    }


def _clusters(lineage: Lineage) -> list[dict[str, Any]]:
    """Return what to show of each level, the finest first."""
    table = lineage["centroids"]
    rows = table.read(["level", "training_count"]).to_pandas()
    return [
        _level(number, sorted(own.tolist()), table.manifest, len(rows["level"].unique()))
        for number, own in rows.groupby("level")["training_count"]
    ]


def _level(number: int, sizes: list[int], made: Manifest, levels: int) -> dict[str, Any]:
    stats = made.stats
    return {
        "number": number,
        "of": levels,
        "count": len(sizes),
        "requested": stats["requested"][number],
        "members": stats["training_vectors"] if number == 0 else sum(sizes),
        "median": sizes[len(sizes) // 2],
        "smallest": sizes[0],
        "largest": sizes[-1],
        "histogram": svg.histogram(sizes),
        "measure": MEASURES[made.params["metric"]],
        "objective": svg.curve(stats["objective"][number]),
    }


def _steps(recipe: Recipe, lineage: Lineage) -> list[dict[str, Any]]:
    found = []
    for step in plan(recipe):
        for name in step.tables:
            manifest = lineage[name].manifest
            found.append(
                {
                    "stage": step.name,
                    "version": manifest.stage_version,
                    "table": name,
                    "table_version": manifest.version,
                    "rows": manifest.rows,
                    "fragments": len(manifest.fragments),
                    "bytes": sum(f.size for r in manifest.fragments for f in r.files),
                    "created": manifest.created,
                }
            )
    return found


def _parquet(composition: list[dict[str, Any]]) -> bytes:
    schema = pa.schema([(n, pa.string()) for n in NAMES] + [(n, pa.int64()) for n in COUNTS])
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(composition, schema=schema), out)
    return out.getvalue()


def _render(content: dict[str, Any]) -> bytes:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        # Captions, links and keys come from strangers.
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "size": _size, "words": _words, "moment": _moment}
    return environment.get_template(TEMPLATE).render(content).encode("utf-8", errors="replace")


def _number(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _words(name: str) -> str:
    """Return a name of the schema as people say it."""
    return {"as_is": "as is", "held_out": "held-out"}.get(name, name.replace("_", " "))


def _moment(created: str) -> str:
    return datetime.fromisoformat(created).strftime("%Y-%m-%d %H:%M:%S %Z")


def _size(value: float) -> str:
    for unit in ("bytes", "KB", "MB", "GB"):
        if value < 1000:
            return f"{value:,.0f} {unit}" if unit == "bytes" else f"{value:,.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} TB"
