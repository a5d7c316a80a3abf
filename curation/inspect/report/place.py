"""Where the report of a run is."""

from __future__ import annotations

from curation.engine.table import Table
from curation.flow import run_fingerprint
from curation.inspect.lineage import Lineage
from curation.recipe import Recipe
from curation.store.digest import digest
from curation.store.reports import FOLDER, claim_report, is_written, report_suffix
from curation.store.store import DATASET, Store

KEY_DIGITS = 16
REPORT = "report.html"


def report_path(dataset: Table, suffix: str = "") -> str:
    """Return the path of a report within the store.

    Args:
        dataset: the dataset.
        suffix: of its folder: see `claim_report`. The first run with the dataset has none.
    """
    return f"{FOLDER}/{dataset.manifest.version}{suffix}/{REPORT}"


def claim_report_path(recipe: Recipe, lineage: Lineage, store: Store) -> str:
    """Return the path at which to write the report of a run."""
    dataset = lineage[DATASET]
    suffix = claim_report(store, dataset.manifest.version, _key(recipe, lineage))
    return report_path(dataset, suffix)


def finished_report(recipe: Recipe, lineage: Lineage, store: Store) -> str | None:
    """Return the path of the report of a run, or None if it is not there, in full size."""
    dataset = lineage[DATASET]
    suffix = report_suffix(store, dataset.manifest.version, _key(recipe, lineage))
    path = report_path(dataset, suffix)
    return path if is_written(store, path.rpartition("/")[0]) else None


def _key(recipe: Recipe, lineage: Lineage) -> str:
    """Return what stands for a recipe and the tables of a run."""
    versions = {name: table.manifest.version for name, table in lineage.tables.items()}
    return digest([recipe.name, run_fingerprint(recipe), versions])[:KEY_DIGITS]
