"""What stages did, as values that JSON can hold: for schedulers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from curation.runner.step import StepResult
from curation.store.manifest import Manifest
from curation.store.store import DATASET, Store

CLAIMS = "claims"


def summarise(
    outcomes: Iterable[StepResult], store: Store, report: str | None = None
) -> dict[str, Any]:
    """Return the rows, reasons and tables of each stage, and where the dataset and the report are.

    Args:
        outcomes: of the stages that ended.
        store: where their tables are.
        report: path of the report within the store.
    """
    outcomes = list(outcomes)
    summary: dict[str, Any] = {"stages": [_stage(outcome, store) for outcome in outcomes]}
    claims = _claims(outcomes, store)
    if claims is not None:
        rows = claims.stats["composition"]
        summary["shortfalls"] = {r["arm"]: r["shortfall"] for r in rows if r["shortfall"]}
    for manifest in (m for outcome in outcomes for m in outcome.manifests):
        if manifest.table == DATASET:
            summary[DATASET] = {
                "version": manifest.version,
                "rows": manifest.rows,
                "address": store.address(f"{DATASET}/{manifest.version}"),
            }
    if report is not None:
        summary["report"] = store.address(report)
    return summary


def _claims(outcomes: Sequence[StepResult], store: Store) -> Manifest | None:
    """Return the claims that the stages made, or those that the dataset was made from."""
    for outcome in reversed(outcomes):
        for manifest in outcome.manifests:
            if manifest.table == CLAIMS:
                return manifest
        if CLAIMS in outcome.reads:
            return store.manifest(CLAIMS, outcome.reads[CLAIMS])
    return None


def _stage(outcome: StepResult, store: Store) -> dict[str, Any]:
    return {
        "stage": outcome.step.name,
        "rows": outcome.rows,
        "outcomes": dict(outcome.outcomes),
        "seconds": round(outcome.seconds, 1),
        "computed": outcome.computed,
        "reused": outcome.reused,
        "tables": {m.table: store.address(f"tables/{m.table}") for m in outcome.manifests},
        "versions": {m.table: m.version for m in outcome.manifests},
    }
