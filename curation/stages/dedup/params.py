"""The block `dedup` of a recipe: which levels find copies, and what becomes of them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from curation.algorithms.knn.params import HammingParams, JoinParams
from curation.engine.params_base import Name, StrictModel, execution_only
from curation.engine.stage import Read, Stage


class Near(JoinParams):
    """Copies by the vectors of a copy descriptor: cosine similarity `at_least`.

    The default suits `copy_micro`; any other encoder needs a threshold of its own (LVD-142M: 0.6 with
    SSCD), which `curation audit dedup` suggests.
    """

    encoder: str = "copy"
    at_least: float = Field(default=0.75, ge=-1, le=1)

    @model_validator(mode="after")
    def _above_floor(self) -> Near:
        if self.at_least < self.floor:
            raise ValueError(
                f"at_least {self.at_least} is under floor {self.floor}, below which no neighbour "
                "is kept; lower the floor too"
            )
        return self


class Semantic(JoinParams):
    """Pictures of the same by a semantic encoder: cosine similarity above 1 − `epsilon`.

    SemDeDup (Abbas et al. 2023) drops 30 % of LAION-440M at an epsilon of 0.00095 and half of it at
    0.03, with CLIP's vectors; and compares within one cell alone.
    """

    encoder: str = "semantic"
    epsilon: float = Field(default=0.03, gt=0, lt=1)

    @model_validator(mode="after")
    def _above_floor(self) -> Semantic:
        if 1 - self.epsilon < self.floor:
            raise ValueError(
                f"1 − epsilon is {1 - self.epsilon:g}, under floor {self.floor}, below which no "
                "neighbour is kept; lower the floor too"
            )
        return self


class Verify(StrictModel):
    """Near pairs count as copies only if their pixels agree (see `curation/stages/verify/compare.py`).

    Looked at are, by vectors from the similarity `floor` on, each pool picture's `k` nearest, and all
    neighbours of held-out pictures and seeds. The bounds were
    set on edited copies and look-alikes of benchmarks/results/copies.md. Pictures of which more than
    `flat` is flat, as drawings, differ in little, so nearly all of it must agree.
    """

    floor: float = Field(default=0.75, ge=-1, le=1)
    k: int = Field(default=8, ge=1, le=1024)
    agreement: float = Field(default=0.85, ge=0, le=1)
    inside: float = Field(default=0.95, ge=0, le=1)
    steady: float = Field(default=0.75, ge=0, le=1)
    hue: float = Field(default=12.0, ge=0, le=180)
    flat: float = Field(default=0.5, ge=0, le=1)
    flat_agreement: float = Field(default=0.95, ge=0, le=1)


class HeldOutSet(StrictModel):
    """What differs for one held-out set."""

    at_least: float | None = Field(default=None, ge=-1, le=1)
    whole_component: bool | None = None


class HeldOut(StrictModel):
    """What copies a held-out picture leaves the pool and the seeds (LVD-142M: cosine > 0.45, SSCD).

    With `whole_component` all copies of what touches a held-out picture leave too. `sets` gives single
    sets thresholds of their own.
    """

    at_least: float = Field(default=0.75, ge=-1, le=1)
    whole_component: bool = True
    sets: dict[Name, HeldOutSet] = {}

    def of(self, name: str) -> tuple[float, bool]:
        """Return the threshold of a set, and whether whole components leave."""
        own = self.sets.get(name, HeldOutSet())
        at_least = self.at_least if own.at_least is None else own.at_least
        whole = self.whole_component if own.whole_component is None else own.whole_component
        return at_least, whole


Criterion = Literal["pixels", "caption", "bytes"]


class DedupParams(StrictModel):
    """Which ties make copies. Thresholds hold for one encoder only: 0.6 and 0.45 are SSCD's.

    The picture that stands for its copies is the first by the criteria of `representative`: most
    pixels, longest caption, largest file; then the smallest image_id. `chains: cut` leaves in a
    component only what is tied to that picture itself. Beyond `rows_at_once` rows, of about 310 bytes
    each on the driver, parts of them are decided on workers, with the same result.
    """

    exact: bool = True
    pixels: bool = True
    perceptual: HammingParams | None = HammingParams()
    near: Near | None = Near()
    semantic: Semantic | None = None
    verify: Verify | None = Verify()
    representative: list[Criterion] = ["pixels", "caption"]
    chains: Literal["join", "cut"] = "join"
    held_out: HeldOut | None = HeldOut()
    seed_copies: Literal["keep", "drop"] = "keep"
    rows_at_once: int = execution_only(20_000_000, ge=1)

    @property
    def vector_levels(self) -> dict[str, Near | Semantic]:
        """The levels that compare vectors, by their name."""
        levels = {"near": self.near, "semantic": self.semantic}
        return {name: level for name, level in levels.items() if level is not None}

    @model_validator(mode="after")
    def _looks_far_enough(self) -> DedupParams:
        if self.verify and self.near and self.near.at_least < self.verify.floor:
            raise ValueError(
                f"near.at_least {self.near.at_least} is under verify.floor {self.verify.floor}, below "
                "which no pair is looked at; lower that floor too, or set verify: null"
            )
        return self

    @field_validator("representative")
    @classmethod
    def _once(cls, criteria: list[Criterion]) -> list[Criterion]:
        if len(set(criteria)) != len(criteria):
            raise ValueError("a criterion is named more than once")
        return criteria


STAGE = Stage(
    number=45,
    name="dedup",
    kind="global",
    params=DedupParams,
    writes="copies",
    reads=(Read("images"), Read("scores"), Read("neighbours"), Read("verified")),
    version=2,
)
