"""The tables that a dataset was made from, in the very versions that were read."""

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
    """Tables by name, those of one run."""

    tables: dict[str, Table]

    def __getitem__(self, name: str) -> Table:
        return self.tables[name]

    @property
    def embeddings(self) -> dict[str, Table]:
        """The tables of vectors by encoder."""
        return EMBEDDINGS.members(self.tables)


def ancestry(dataset: Table) -> Lineage:
    """Return a dataset with the tables that it was made from, in the versions that were read.

    Raises:
        StoreError: a table it was made from is gone.
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
    """Return the dataset of a recipe with everything it was made from.

    Versions come from what manifests say they read: the current tables of the store may already be
    those of another recipe.

    Raises:
        StoreError: the store's dataset is not of this recipe, or a table it was made from is gone.
    """
    dataset = open_table(store, DATASET)
    found, wanted = dataset.manifest.params.get("run"), run_fingerprint(recipe)
    if found != wanted:
        raise StoreError(
            f"The dataset in {store.uri} is of run {found}, recipe {recipe.name!r} is run {wanted}. "
            "Run the recipe (curation run RECIPE --store DIR), then report on it."
        )
    tables = dict(ancestry(dataset).tables)
    for name in (t for step in plan(recipe) for t in step.tables):
        # An encoder that no stage reads is in nobody's lineage.
        if name not in tables:
            tables[name] = open_table(store, name)
    return Lineage(tables)
