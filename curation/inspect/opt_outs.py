"""Counts the pictures that were withheld, by signal and host."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from curation.engine.table import Table, open_table
from curation.errors import Detail, StoreError
from curation.flow import plan
from curation.inspect.lineage import finished_table, recipe_tables
from curation.media.web.opt_outs.signals import is_opt_out
from curation.media.web.urls import host_in
from curation.recipe import Recipe
from curation.store.run_log import find_run
from curation.store.run_record import RunRecord
from curation.store.store import Store

_COLUMNS = ("url", "status", "reason", "opt_out", "rsl_license")
_EXAMPLES = 3
NO_HOST = "(files)"
"""Stands for the host of pictures that are not on the web."""


@dataclass
class OptOuts:
    """The opt-outs of a version of `images`.

    Attributes:
        rows: pictures that a host or a file was asked for.
        by_signal: withheld pictures by signal.
        by_host: withheld pictures by host and signal.
        examples: some places and texts by signal.
        licensed: stored pictures whose host names a licence of RSL.
    """

    rows: int = 0
    by_signal: Counter[str] = field(default_factory=Counter)
    by_host: dict[str, Counter[str]] = field(default_factory=dict)
    examples: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    licensed: int = 0

    def as_json(self, hosts: int) -> dict[str, Any]:
        """Return it as values that JSON can hold, with the hosts that withhold most pictures."""
        return {
            "rows": self.rows,
            "withheld": self.by_signal.total(),
            "licensed": self.licensed,
            "signals": dict(self.by_signal.most_common()),
            "hosts": {host: dict(signals) for host, signals in self.top_hosts(hosts)},
            "examples": self.examples,
        }

    def top_hosts(self, count: int) -> list[tuple[str, Counter[str]]]:
        """Return the hosts that withhold most pictures, with their counts by signal."""
        ordered = sorted(self.by_host.items(), key=lambda item: (-item[1].total(), item[0]))
        return ordered[:count]


def images_of(store: Store, run: str | None, recipe: Recipe | None) -> Table:
    """Return the table `images` of a recipe, or of a run.

    Raises:
        StoreError: there is none, or the run has not fetched what the recipe asks for.
    """
    if recipe is None:
        return open_table(store, "images", None, run)
    if run is not None:
        _check_run(store, find_run(store, run), recipe)
        return open_table(store, "images", None, run)
    finished = finished_table(recipe, store, "images")
    return finished or recipe_tables(recipe, store, ["images"])["images"]


def _check_run(store: Store, record: RunRecord, recipe: Recipe) -> None:
    """Check that a run has the images of a recipe, so that neither of the two is passed over.

    Raises:
        StoreError: they are of another recipe, or of an earlier form of this one.
    """
    step = next(step for step in plan(recipe) if "images" in step.tables)
    if record.steps.get("images") != step.fingerprint:
        message = (
            f"The images of run {record.run} in {store.uri} (recipe {record.recipe!r}) are not those "
            f"that recipe {recipe.name!r} asks for now"
        )
        fix = "Leave out the recipe, or name a run of it"
        raise StoreError(Detail(message, "--run", record.run, fix=fix))


def count_opt_outs(images: Table) -> OptOuts:
    """Return the opt-outs of a version of `images`."""
    counts = OptOuts()
    for fragment in images.fragments.values():
        for batch in fragment.batches(_COLUMNS):
            counts.rows += batch.num_rows - batch.column("status").to_pylist().count("skipped")
            for row in _withheld_or_licensed(batch.to_pylist()):
                _count(counts, row)
    return counts


def _withheld_or_licensed(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the rows that are withheld, and those with a licence."""
    for row in rows:
        if row["rsl_license"] is not None or is_opt_out(row["reason"] or ""):
            yield row


def _count(counts: OptOuts, row: dict[str, Any]) -> None:
    if row["status"] == "ok":
        counts.licensed += 1
    elif row["opt_out"] is not None:
        opt_out: dict[str, str] = json.loads(row["opt_out"])
        signal = opt_out.pop("signal")
        counts.by_signal[signal] += 1
        host = (host_in(row["url"]) if row["url"] else None) or NO_HOST
        counts.by_host.setdefault(host, Counter())[signal] += 1
        examples = counts.examples.setdefault(signal, [])
        if opt_out not in examples and len(examples) < _EXAMPLES:
            examples.append(opt_out)
