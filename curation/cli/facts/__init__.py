"""What commands print with --json, as typed models: one entry of `FACTS` for each command.

The reference and `curation schema COMMAND` describe them. A test runs every command and compares what
it prints with its model, so a new command has an entry in `FACTS`, or one in `WITHOUT_FACTS` that says
why it prints none.
"""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from curation.cli.facts import checks, errors, files, plans, runs, tables

FACTS: dict[str, Any] = {
    "check": checks.Check,
    "plan": plans.Plan | plans.PlanCost,
    "run": runs.RunSummary,
    "report": runs.Report,
    "calibrate": plans.MeasuredRates,
    "weights": list[plans.NeededFile],
    "show": tables.ShownTable,
    "path": files.TablePaths,
    "search": tables.Search,
    "why": checks.Why,
    "sql": list[dict[str, Any]],
    "diff": tables.Difference,
    "train-filter": tables.TrainedHead,
    "plugins": plans.Members,
    "status": list[runs.RunStatus],
    "runs": list[runs.Run],
    "versions": list[files.Version],
    "gc": files.Collected,
    "tag": list[runs.Tag],
    "restore": runs.Restored,
    "forget": files.Forgotten | files.Proof,
    "opt-outs": tables.OptOuts,
    "verify-store": list[files.DamagedFile],
    "audit dedup": tables.Audit,
}
"""What each command prints with --json: a model, a list of one, or one of several."""
WITHOUT_FACTS = {
    "init": "writes a recipe; check says what it is about",
    "quickstart": "runs a recipe; run says what that made",
    "schema": "prints a JSON schema in any case",
    "where": "prints one path",
}
"""Commands that take no --json, and why."""
ERROR = errors.Error
"""What a command with --json prints to standard error when it fails."""


def schema_of(facts: Any) -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of an entry of `FACTS`, or of `ERROR`."""
    schema = TypeAdapter(facts).json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema
