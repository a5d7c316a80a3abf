"""The work of a stage, and what it follows from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from curation.algorithms.knn.choice import SearchChoice, choose_search
from curation.engine.params_base import StrictModel
from curation.inspect.cost.counts import ExpectedCounts
from curation.inspect.cost.encoder_profiles import EncoderProfile
from curation.inspect.cost.rates import Assumptions
from curation.recipe import Recipe

PART_ON_DRIVER = 8 * 1024
"""Bytes of the driver for a fragment, or a part of an exchange: its unit of work, memo and record. A
stage that works fragment by fragment takes half of that (tests/cost/test_driver_bytes.py)."""


def rows_at_once(params: type[StrictModel]) -> int:
    """Return the largest number of rows that the driver of a stage decides alone, by default."""
    rows: int = params.model_fields["rows_at_once"].default
    return rows


def read_vectors(images: float, dim: int) -> dict[str, float]:
    """Return the work of reading the float16 vectors of images, of which a sample may be taken."""
    return {"table_mb": images * 2 * dim / 1e6}


@dataclass(frozen=True)
class Work:
    """The whole work of one stage.

    Attributes:
        stage: name of the stage.
        rows: rows that it writes.
        stored: bytes that it writes.
        moved: bytes that its tasks read beyond their own fragments.
        received: bytes that come from outside, over the network.
        cpu_flop: operations on cores.
        model_flop: operations of models, on GPUs where there are any.
        product_flop: operations of products of vectors, on GPUs where there are any.
        cell_flop: operations of searches within lists, on GPUs where there are any.
        near_cell_flop: operations of joins within cells, above a floor, on GPUs where there are any.
        driver: bytes of the driver's memory.
        units_by_rate: how much of what a rate measures it does: {"screen_images": 5e9}.
    """

    stage: str
    rows: float
    stored: float = 0
    moved: float = 0
    received: float = 0
    cpu_flop: float = 0
    model_flop: float = 0
    product_flop: float = 0
    cell_flop: float = 0
    near_cell_flop: float = 0
    driver: float = 0
    units_by_rate: Mapping[str, float] = field(default_factory=dict)

    @property
    def flop(self) -> float:
        """Operations of all kinds."""
        in_cells = self.cell_flop + self.near_cell_flop
        return self.cpu_flop + self.model_flop + self.product_flop + in_cells


@dataclass(frozen=True)
class CostInputs:
    """What the work of every stage follows from.

    Attributes:
        recipe: with `count` on every source.
        counts: expected rows and images.
        encoders: profiles of the encoders by their names in the recipe.
        assumptions: what only the data can show.
    """

    recipe: Recipe
    counts: ExpectedCounts
    encoders: Mapping[str, EncoderProfile]
    assumptions: Assumptions

    @property
    def semantic_dim(self) -> int:
        """Dimensions of the vectors that are clustered."""
        return self.encoders[self.recipe.semantic_encoder].dim

    @property
    def match_dim(self) -> int:
        """Dimensions of the vectors that are searched."""
        return self.encoders[self.recipe.match_encoder].dim

    @property
    def search_choice(self) -> SearchChoice:
        """How the stage match will search."""
        queries, eligible = sum(self.queries.values()), int(self.counts.eligible)
        return choose_search(self.recipe.match, queries, eligible, self.match_dim)

    @property
    def queries(self) -> dict[int, int]:
        """Number of images whose neighbours are searched, by the number of neighbours."""
        needed = self.recipe.neighbours_needed
        queries: dict[int, int] = {}
        for source in self.recipe.with_role("seed"):
            if k := needed[source.name]:
                queries[k] = queries.get(k, 0) + (source.count or 0)
        return queries
