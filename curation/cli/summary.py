"""What stages did, as values that JSON can hold: for schedulers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from curation.runner.step import StepResult
from curation.store.dataset_files import dataset_folder
from curation.store.manifest import Manifest
from curation.store.store import DATASET, Store

CLAIMS = "claims"


def summarise(
    results: Iterable[StepResult], store: Store, report: str | None = None
) -> dict[str, Any]:
    """Return the rows, reasons and tables of each stage, and where the dataset and the report are.

    Args:
        results: of the stages that ended.
        store: where their tables are.
        report: path of the report within the store.
    """
    results = list(results)
    summary: dict[str, Any] = {"stages": [_stage(result, store) for result in results]}
    claims = _claims(results, store)
    if claims is not None:
        rows = claims.stats["composition"]
        summary["shortfalls"] = {r["arm"]: r["shortfall"] for r in rows if r["shortfall"]}
    for manifest in (m for result in results for m in result.manifests):
        if manifest.table == DATASET:
            summary[DATASET] = {
                "version": manifest.version,
                "rows": manifest.rows,
                "address": store.address(_folder(manifest)),
            }
    if report is not None:
        summary["report"] = store.address(report)
    return summary


def _claims(results: Sequence[StepResult], store: Store) -> Manifest | None:
    """Return the claims that the stages made, or those that the dataset was made from."""
    for result in reversed(results):
        for manifest in result.manifests:
            if manifest.table == CLAIMS:
                return manifest
        if CLAIMS in result.reads:
            return store.manifest(CLAIMS, result.reads[CLAIMS])
    return None


def _folder(manifest: Manifest) -> str:
    """Return the folder with the files of a table; for the dataset, that of its version."""
    if manifest.table == DATASET:
        return dataset_folder(manifest.version)
    return f"tables/{manifest.table}"


def _stage(result: StepResult, store: Store) -> dict[str, Any]:
    return {
        "stage": result.step.name,
        "rows": result.rows,
        "outcomes": dict(result.outcomes),
        "seconds": round(result.seconds, 1),
        "computed": result.computed,
        "reused": result.reused,
        "tables": {m.table: store.address(_folder(m)) for m in result.manifests},
        "versions": {m.table: m.version for m in result.manifests},
    }
