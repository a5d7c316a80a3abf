"""The block `dedup` of a recipe: which levels find copies, and what happens to them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from curation.algorithms.knn.params import HammingParams, JoinParams
from curation.engine.params_base import Name, StrictModel, execution_only
from curation.engine.stage import Read, Stage


class Near(JoinParams):
    """Copies by the vectors of a copy descriptor.

    A threshold is valid for one encoder only: 0.75 is for `copy_micro`, and LVD-142M takes 0.6 with
    SSCD. `curation audit dedup` suggests one.
    """

    encoder: str = "copy"
    """Name of the encoder under `embed.encoders` whose vectors are compared, a copy descriptor."""
    at_least: float = Field(default=0.75, ge=-1, le=1)
    """Smallest cosine similarity of two copies. That of equal vectors may be 0.999 or 1.001, because
    they are stored as float16: at 1 many of these are no copies."""

    @model_validator(mode="after")
    def _above_floor(self) -> Near:
        if self.at_least < self.floor:
            raise ValueError(
                f"at_least {self.at_least} is under floor {self.floor}. Neighbours under the floor are "
                "not stored, so lower the floor too"
            )
        return self


class Semantic(JoinParams):
    """Images of the same content by the vectors of a semantic encoder (SemDeDup, Abbas et al. 2023).

    With vectors of CLIP, SemDeDup drops 30 % of LAION-440M at an epsilon of 0.00095 and half of it at
    0.03. It compares vectors within one cell only.
    """

    encoder: str = "semantic"
    """Name of the encoder under `embed.encoders` whose vectors are compared."""
    epsilon: float = Field(default=0.03, gt=0, lt=1)
    """Largest cosine distance of two copies; their cosine similarity is at least 1 − epsilon."""

    @property
    def at_least(self) -> float:
        """Smallest cosine similarity of two copies."""
        # 1 - 0.07 is 0.9299999999999999.
        return round(1 - self.epsilon, 12)

    @model_validator(mode="after")
    def _above_floor(self) -> Semantic:
        if self.at_least < self.floor:
            raise ValueError(
                f"1 − epsilon is {self.at_least:g}, under floor {self.floor}. Neighbours under the "
                "floor are not stored, so lower the floor too"
            )
        return self


class Verify(StrictModel):
    """Near pairs are copies only if their pixels agree (see `curation/stages/verify/compare.py`).

    The images of a pair are aligned and compared in 8 × 8 blocks. The default bounds were set on the
    edited copies and look-alikes of benchmarks/results/copies.md.
    """

    floor: float = Field(default=0.75, ge=-1, le=1)
    """Smallest cosine similarity of a pair of near vectors whose pixels are compared."""
    k: int = Field(default=8, ge=1, le=1024)
    """Number of nearest neighbours per pool image whose pixels are compared; for held-out and seed
    images all are compared."""
    agreement: float = Field(default=0.85, ge=0, le=1)
    """Smallest share of textured blocks that correlate above 0.7 at the same place."""
    inside: float = Field(default=0.95, ge=0, le=1)
    """Smallest share of one of the two images that the other one covers; a crop has 1."""
    steady: float = Field(default=0.75, ge=0, le=1)
    """Smallest share of agreeing blocks whose best match is at most one pixel from their place; it is
    low for two photographs of one scene."""
    hue: float = Field(default=12.0, ge=0, le=180)
    """Largest median difference of hue between the two images, in degrees, after one change of all
    colours: a grey, brown or warmer copy has none."""
    colour: float = Field(default=15.0, ge=0)
    """Largest difference of hue and saturation in CIELAB, of nine tenths of the pixels, after the same
    change. In graphics a third of it is allowed."""
    flat: float = Field(default=0.5, ge=0, le=1)
    """Share of pixels without a gradient above which an image counts as flat, as drawings do; flat
    images must reach `flat_agreement`."""
    flat_agreement: float = Field(default=0.95, ge=0, le=1)
    """Smallest agreement of flat images, if it is above `agreement`, and the smallest correlation of
    all but a tenth of their textured blocks."""
    drawn: float = Field(default=0.7, ge=0, le=1)
    """Share of pixels without texture, among those without an edge, from which two images count as
    graphics. In other colours or with another symbol they are other images. Between 0.5, where an image
    counts as a photograph, and this share the bounds on colours and details narrow to a third."""
    detail_colour: float = Field(default=5.0, ge=0)
    """Largest difference of colour of a detail of a graphic, in CIELAB; three times as much at 0.5."""
    detail_shape: float = Field(default=0.8, ge=-1, le=1)
    """Smallest correlation of a detail of a graphic; three times as far from 1 at 0.5."""


class HeldOutSet(StrictModel):
    """Parameters of one held-out set. A null value takes that of all sets."""

    at_least: float | None = Field(default=None, ge=-1, le=1)
    """Smallest cosine similarity of a copy of an image of this set; null takes that of all sets."""
    whole_component: bool | None = None
    """Whether all copies of such a copy are removed too; null takes the value of all sets."""


class HeldOut(StrictModel):
    """Copies of held-out images are removed from the pool and the seeds.

    LVD-142M removes images with a cosine similarity above 0.45 (SSCD).
    """

    at_least: float = Field(default=0.75, ge=-1, le=1)
    """Smallest cosine similarity to a held-out image, by the vectors of `near`, at which an image is
    removed."""
    whole_component: bool = True
    """Whether all copies of a removed image are removed too. Otherwise they stay, and the best of them
    represents them. Images of equal pixels or equal hashes are removed together in any case."""
    sets: dict[Name, HeldOutSet] = {}
    """Other values for single held-out sets, by the name of the source."""

    @property
    def has_thresholds(self) -> bool:
        """Whether a similarity is set, of all sets or of one."""
        single = any(each.at_least is not None for each in self.sets.values())
        return single or self.at_least != HeldOut().at_least

    def of(self, name: str) -> tuple[float, bool]:
        """Return the threshold of a set, and whether whole components are contaminated."""
        override = self.sets.get(name, HeldOutSet())
        at_least = self.at_least if override.at_least is None else override.at_least
        if override.whole_component is None:
            return at_least, self.whole_component
        return at_least, override.whole_component


Criterion = Literal["pixels", "caption", "bytes"]


class DedupParams(StrictModel):
    """Which pairs of images are copies. Connected components of such pairs keep one image each."""

    exact: bool = True
    """Whether images with the same bytes are copies."""
    pixels: bool = True
    """Whether images with the same stored pixels are copies."""
    perceptual: HammingParams | None = HammingParams()
    """How copies are found by perceptual hashes; null does not compare hashes."""
    near: Near | None = Near()
    """How copies are found by a copy descriptor; null does not compare its vectors."""
    semantic: Semantic | None = None
    """How images of the same content are found by a semantic encoder; null keeps them."""
    verify: Verify | None = Verify()
    """How pairs of `perceptual` and `near` are verified pixel by pixel; null trusts the hashes and
    vectors."""
    representative: list[Criterion] = ["pixels", "caption"]
    """Which image of a component is kept, by these criteria in order: most `pixels` of the original,
    longest `caption`, most `bytes` of the file; ties go to the smallest `image_id`."""
    chains: Literal["join", "cut"] = "join"
    """`join` takes whole connected components; `cut` keeps with a representative only the images that
    form a pair with it, and splits the rest into components of their own."""
    held_out: HeldOut | None = HeldOut()
    """How copies of held-out images are removed; null keeps them."""
    seed_copies: Literal["keep", "drop"] = "keep"
    """Whether pool images that are copies of a seed image are kept or dropped."""
    rows_at_once: int = execution_only(8_000_000, ge=1)
    """Largest number of rows that the driver decides alone, at about 310 bytes each; more are decided
    on workers, with the same result."""

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

    @model_validator(mode="after")
    def _bounds_have_an_effect(self) -> DedupParams:
        if self.near is None and self.held_out is not None and self.held_out.has_thresholds:
            raise ValueError(
                "held_out.at_least bounds the vectors of `near`, which is null. Set near, or leave "
                "at_least out"
            )
        finds_none = self.near is None and self.perceptual is None
        if finds_none and self.verify not in (None, Verify()):
            raise ValueError(
                "verify compares pairs of `near` and `perceptual`, which are both null. Set one of "
                "them, or leave verify out"
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
    version=6,
)
