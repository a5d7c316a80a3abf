"""Finds the tables that a dataset was made from, in the versions that were read."""

from __future__ import annotations

from dataclasses import dataclass

from curation.engine.store import DATASET, Store
from curation.engine.table import Table, open_table
from curation.errors import StoreError
from curation.flow import plan, run_fingerprint
from curation.media.encoders.params import EMBEDDINGS
from curation.recipe import Recipe


@dataclass(frozen=True)
class Lineage:
    """The tables of one run by name."""

    tables: dict[str, Table]

    def __getitem__(self, name: str) -> Table:
        return self.tables[name]

    @property
    def embeddings(self) -> dict[str, Table]:
        """The tables of vectors by the name of the encoder."""
        return EMBEDDINGS.members(self.tables)


def ancestry(dataset: Table) -> Lineage:
    """Return a dataset and the tables that it was made from, in the versions that were read.

    Raises:
        StoreError: one of these tables no longer exists.
    """
    tables = {DATASET: dataset}
    waiting = [dataset]
    while waiting:
        for name, version in sorted(waiting.pop().manifest.reads.items()):
            if name not in tables:
                tables[name] = open_table(dataset.store, name, version)
                waiting.append(tables[name])
    return Lineage(tables)


def trace(recipe: Recipe, store: Store) -> Lineage:
    """Return the dataset of a recipe and all tables that it was made from.

    The versions are those that the manifests name, since the current tables of the store may already
    belong to another recipe.

    Raises:
        StoreError: the dataset in the store is not of this recipe, or a table no longer exists.
    """
    dataset = open_table(store, DATASET)
    run, wanted = dataset.manifest.params.get("run"), run_fingerprint(recipe)
    if run != wanted:
        raise StoreError(
            f"The dataset in {store.uri} is of run {run}, but recipe {recipe.name!r} is run {wanted}. "
            "Run the recipe first (curation run RECIPE --store DIR)."
        )
    tables = dict(ancestry(dataset).tables)
    for name in (t for step in plan(recipe) for t in step.tables):
        # No table was made from the vectors of an encoder that no stage reads.
        if name not in tables:
            tables[name] = open_table(store, name)
    return Lineage(tables)
