"""The block `dedup` of a recipe: which levels find copies, and what happens to them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from curation.algorithms.knn.params import HammingParams, JoinParams
from curation.engine.params_base import Name, StrictModel, execution_only
from curation.engine.stage import Read, Stage


class Near(JoinParams):
    """Copies by the vectors of a copy descriptor: cosine similarity of at least `at_least`.

    The default fits `copy_micro`. Any other encoder needs its own threshold (LVD-142M: 0.6 with SSCD),
    which `curation audit dedup` suggests.
    """

    encoder: str = "copy"
    at_least: float = Field(default=0.75, ge=-1, le=1)

    @model_validator(mode="after")
    def _above_floor(self) -> Near:
        if self.at_least < self.floor:
            raise ValueError(
                f"at_least {self.at_least} is under floor {self.floor}. Neighbours under the floor are "
                "not stored, so lower the floor too"
            )
        return self


class Semantic(JoinParams):
    """Images of the same content by a semantic encoder: cosine similarity above 1 − `epsilon`.

    SemDeDup (Abbas et al. 2023) drops 30 % of LAION-440M at an epsilon of 0.00095 and half of it at
    0.03, with CLIP's vectors and comparisons within one cell only.
    """

    encoder: str = "semantic"
    epsilon: float = Field(default=0.03, gt=0, lt=1)

    @model_validator(mode="after")
    def _above_floor(self) -> Semantic:
        if 1 - self.epsilon < self.floor:
            raise ValueError(
                f"1 − epsilon is {1 - self.epsilon:g}, under floor {self.floor}. Neighbours under the "
                "floor are not stored, so lower the floor too"
            )
        return self


class Verify(StrictModel):
    """Near pairs are copies only if their pixels agree (see `curation/stages/verify/compare.py`).

    Pixels are compared for the `k` nearest of each pool image, and for all neighbours of held-out and
    seed images; by vectors, only for a similarity of at least `floor`. The other fields are the bounds
    within which a pair agrees. They were set on the edited copies and look-alikes of
    benchmarks/results/copies.md. Images of which more than `flat` is flat, as drawings are, differ
    little, so that a larger share of them must agree: `flat_agreement`.
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
    """Parameters of one held-out set. A null value takes that of all sets."""

    at_least: float | None = Field(default=None, ge=-1, le=1)
    whole_component: bool | None = None


class HeldOut(StrictModel):
    """Pool and seed images that copy a held-out image are contaminated (LVD-142M: cosine > 0.45, SSCD).

    `at_least` is the smallest cosine similarity of a copy. With `whole_component`, all images in the
    component of a copy are contaminated too. `sets` gives single held-out sets other values.
    """

    at_least: float = Field(default=0.75, ge=-1, le=1)
    whole_component: bool = True
    sets: dict[Name, HeldOutSet] = {}

    def of(self, name: str) -> tuple[float, bool]:
        """Return the threshold of a set, and whether whole components are contaminated."""
        override = self.sets.get(name, HeldOutSet())
        at_least = self.at_least if override.at_least is None else override.at_least
        if override.whole_component is None:
            return at_least, self.whole_component
        return at_least, override.whole_component


Criterion = Literal["pixels", "caption", "bytes"]


class DedupParams(StrictModel):
    """Which levels find copies. Thresholds are valid for one encoder only: 0.6 and 0.45 are SSCD's.

    The image that represents its copies is the first by the criteria of `representative` (most pixels,
    longest caption, largest file), then by the smallest image_id. `chains: cut` leaves in a component
    only images with an edge to the representative. Above `rows_at_once` rows, which need about 310
    bytes each on the driver, the decision runs in parts on workers, with the same result.
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
    def _above_verify_floor(self) -> DedupParams:
        if self.verify and self.near and self.near.at_least < self.verify.floor:
            raise ValueError(
                f"near.at_least {self.near.at_least} is under verify.floor {self.verify.floor}. Pairs "
                "under that floor are not compared, so lower it too, or set verify: null"
            )
        return self

    @field_validator("representative")
    @classmethod
    def _distinct(cls, criteria: list[Criterion]) -> list[Criterion]:
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
