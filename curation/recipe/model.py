"""The recipe: what to compute, typed and strict."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, SerializeAsAny, ValidationError, field_validator, model_validator

from curation.engine.explain import explain
from curation.engine.params_base import Name, StrictModel
from curation.engine.stage import ScoreType
from curation.errors import Detail, InvalidValueError, RecipeError
from curation.media.encoders.params import EncoderSpec
from curation.recipe.expect import ExpectParams
from curation.recipe.pixel_defaults import defaults_without_pixels, has_no_pixels
from curation.stages.assemble.params import AssembleParams, KeptPixels
from curation.stages.cluster.params import ClusterParams
from curation.stages.dedup.params import DedupParams
from curation.stages.embed.params import EmbedParams
from curation.stages.fetch.params import FetchParams
from curation.stages.ingest.params import IngestParams
from curation.stages.ingest.sources.source import Role, Source
from curation.stages.match.params import MatchParams
from curation.stages.retrieve.params import BalanceParams
from curation.stages.retrieve.strategies import EVERYTHING, STRATEGIES
from curation.stages.retrieve.strategies.arm import Arm
from curation.stages.score.heads import HEADS
from curation.stages.score.params import ScoreParams
from curation.stages.screen.params import ScreenParams
from curation.stages.select.params import Threshold
from curation.stages.tally.params import SCORES as TALLIED


class Recipe(StrictModel):
    """Everything that decides what a run computes."""

    name: Name
    """Name of the recipe: lower-case letters, digits, `-` and `_`."""
    seed: int = Field(default=0, ge=0)
    """Seed of all random choices; the same recipe, data and seed give the same dataset."""
    plugins: list[str] = []
    """Plug-ins that are loaded before the rest of the recipe is read: paths of Python files, modules,
    or names of installed entry points."""
    sources: Annotated[list[Source], Field(min_length=1)]
    """What goes in: uncurated pools, curated seed sets and held-out evaluation sets."""
    ingest: IngestParams = IngestParams()
    """How lists become rows, and which URLs are dropped."""
    fetch: FetchParams = FetchParams()
    """How images are downloaded and stored."""
    screen: ScreenParams = ScreenParams()
    """Which scores of images and captions are computed."""
    embed: EmbedParams = EmbedParams()
    """Which encoders embed images and captions."""
    score: ScoreParams = ScoreParams()
    """Which scores are computed from vectors."""
    dedup: DedupParams = DedupParams()
    """Which images are copies of each other or of held-out images."""
    select: dict[str, Threshold] = {}
    """Thresholds by score; a pool row that fails one of them is dropped. Seeds are not filtered."""
    cluster: ClusterParams = ClusterParams()
    """How the eligible pool is clustered."""
    match: MatchParams = MatchParams()
    """How the pool is searched for the neighbours of seed images."""
    retrieve: list[SerializeAsAny[Arm]] = []
    """Arms: each claims images for the dataset by one strategy. Without any, the arm `everything`
    claims all eligible images of the pool: those that are no copies and pass `select`."""
    balance: BalanceParams = BalanceParams()
    """Caps over all arms, and a target for the whole dataset."""
    assemble: AssembleParams = AssembleParams()
    """What the dataset holds."""
    expect: ExpectParams = ExpectParams()
    """What must hold of the dataset, or else the run fails."""

    @model_validator(mode="before")
    @classmethod
    def _defaults_without_pixels(cls, spec: Any) -> Any:
        return defaults_without_pixels(spec) if has_no_pixels(spec) else spec

    @field_validator("retrieve", mode="before")
    @classmethod
    def _typed_arms(cls, arms: Any) -> Any:
        return [_typed_arm(a) for a in arms] if isinstance(arms, list) else arms

    def with_role(self, role: Role) -> list[Source]:
        """Return the sources of one role, in recipe order."""
        return [s for s in self.sources if s.role == role]

    @property
    def semantic_encoder(self) -> str:
        """The encoder of clusters, and of matches unless they name another.

        Raises:
            RecipeError: the recipe has several image encoders and does not name one.
        """
        name = self.cluster.encoder or self.embed.unnamed
        if name is None:
            raise RecipeError(unnamed_encoder(self.embed.images))
        return name

    @property
    def match_encoder(self) -> str:
        """The encoder of matches."""
        return self.match.encoder or self.semantic_encoder

    @property
    def thresholds(self) -> dict[str, Threshold]:
        """The thresholds in the order of `screen.filters`, then by name: keys have no order."""
        place = {name: number for number, name in enumerate(self.screen.filters)}
        names = sorted(self.select, key=lambda name: (place.get(name, len(place)), name))
        return {name: self.select[name] for name in names}

    @property
    def score_tables(self) -> dict[str, str]:
        """The table of each score that a threshold bounds."""
        tables = {name: table for table, scores in self.scores.items() for name in scores}
        return {name: tables[name] for name in self.select}

    @property
    def scores(self) -> dict[str, dict[str, ScoreType]]:
        """The type of each score by the table that holds it: what `select` may bound."""
        return {
            "scores": self.screen.scores(),
            "head_scores": self.score.scores(),
            "tallies": TALLIED,
        }

    @property
    def arms(self) -> list[Arm]:
        """The arms of `retrieve`; without any, the one arm that claims the whole eligible pool."""
        return self.retrieve or [_typed_arm({"name": EVERYTHING, "strategy": EVERYTHING})]

    @property
    def kept_pixels(self) -> KeptPixels:
        """Whose stored images the dataset holds."""
        if self.fetch.pixels == "none":
            return "none"
        if self.assemble.pixels is None:
            has_local = any(not source.has_remote_images for source in self.sources)
            return "without_url" if has_local else "none"
        return "all" if self.assemble.pixels else "none"

    @property
    def neighbours_needed(self) -> dict[str, int]:
        """The most neighbours that any arm needs of a seed image, by seed set."""
        return {
            source.name: max(
                (a.neighbours_needed() for a in self.arms if a.seeds in (source.name, None)),
                default=0,
            )
            for source in self.with_role("seed")
        }

    @property
    def prompted_encoders(self) -> dict[str, EncoderSpec]:
        """The encoders whose text towers heads need."""
        heads = self.score.heads.values()
        return {h.encoder: self.embed.encoders[h.encoder] for h in heads if HEADS[h.kind].prompts}


def unnamed_encoder(encoders: list[str]) -> Detail:
    """Return what is wrong with a recipe that does not say which of its encoders clusters use.

    Args:
        encoders: names of the image encoders.
    """
    if not encoders:
        return Detail(
            "none of them embeds images",
            "embed.encoders",
            fix="Add one, as `semantic: {model: vit_micro}`",
        )
    example = "semantic" if "semantic" in encoders else encoders[0]
    return Detail(
        f"is missing, and embed.encoders has several encoders of images: {', '.join(encoders)}",
        "cluster.encoder",
        valid=encoders,
        fix="Name the one whose vectors are clustered and searched, as "
        f"`cluster: {{encoder: {example}}}`; `match: {{encoder: …}}` may name another",
    )


def _typed_arm(arm: Any) -> Any:
    if not isinstance(arm, dict):
        return arm
    place = str(arm.get("name") or "?")
    try:
        model: type[Arm] = STRATEGIES.load(STRATEGIES.check(arm.get("strategy"))).StrategyArm
    except InvalidValueError as error:
        raise InvalidValueError(*(d.below(f"{place}.strategy") for d in error.details)) from error
    try:
        return model.model_validate(arm)
    except ValidationError as error:
        raise InvalidValueError(*(d.below(place) for d in explain(error, model))) from error
