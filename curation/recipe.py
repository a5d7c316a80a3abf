"""The recipe: what to compute, typed and strict, from one YAML.

Imports only the standard library, pydantic and yaml, since schedulers parse recipes again and again.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, get_args

import yaml
from pydantic import Field, SerializeAsAny, ValidationError, field_validator, model_validator

from curation.engine.params_base import Name, StrictModel
from curation.errors import RecipeError
from curation.media.encoders import WITH_TEXT, check_model_name
from curation.media.encoders.params import EncoderSpec
from curation.stages.assemble.params import AssembleParams
from curation.stages.cluster.params import ClusterParams
from curation.stages.dedup.params import DedupParams
from curation.stages.embed.params import EmbedParams
from curation.stages.fetch.params import FetchParams
from curation.stages.ingest.params import IngestParams
from curation.stages.ingest.sources.source import Role, Source
from curation.stages.match.params import MatchParams
from curation.stages.retrieve.params import BalanceParams
from curation.stages.retrieve.strategies import STRATEGIES
from curation.stages.retrieve.strategies.arm import Arm
from curation.stages.score.heads import WITH_PROMPTS
from curation.stages.score.params import ScoreParams
from curation.stages.screen.filters import TEXTS
from curation.stages.screen.params import ScreenParams
from curation.stages.select.params import COUNTED, Threshold


class Recipe(StrictModel):
    """Everything that decides what a run computes."""

    name: Name
    seed: int = 0
    sources: Annotated[list[Source], Field(min_length=1)]
    ingest: IngestParams = IngestParams()
    fetch: FetchParams = FetchParams()
    screen: ScreenParams = ScreenParams()
    embed: EmbedParams = EmbedParams()
    score: ScoreParams = ScoreParams()
    dedup: DedupParams = DedupParams()
    select: dict[str, Threshold] = {}
    cluster: ClusterParams = ClusterParams()
    match: MatchParams = MatchParams()
    retrieve: list[SerializeAsAny[Arm]] = []
    balance: BalanceParams = BalanceParams()
    assemble: AssembleParams = AssembleParams()

    @field_validator("retrieve", mode="before")
    @classmethod
    def _typed_arms(cls, arms: Any) -> Any:
        return [_typed_arm(a) for a in arms] if isinstance(arms, list) else arms

    @model_validator(mode="after")
    def _names_agree(self) -> Recipe:
        problems = list(_disagreements(self))
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def with_role(self, role: Role) -> list[Source]:
        """Return the sources of one role, in recipe order."""
        return [s for s in self.sources if s.role == role]

    @property
    def semantic_encoder(self) -> str:
        """The encoder of clusters, and of matches unless they name another."""
        return self.cluster.encoder or next(iter(self.embed.encoders))

    @property
    def match_encoder(self) -> str:
        """The encoder of matches."""
        return self.match.encoder or self.semantic_encoder

    @property
    def largest_k(self) -> int:
        """The most neighbours that any arm needs of a seed image."""
        return max((arm.neighbours_needed() for arm in self.retrieve), default=0)

    @property
    def prompted_encoders(self) -> dict[str, EncoderSpec]:
        """The encoders whose text towers heads need."""
        heads = self.score.heads.values()
        return {h.encoder: self.embed.encoders[h.encoder] for h in heads if h.kind in WITH_PROMPTS}


def _typed_arm(arm: Any) -> Any:
    if not isinstance(arm, dict):
        return arm
    strategy = arm.get("strategy")
    if strategy not in STRATEGIES:
        raise ValueError(
            f"arm {arm.get('name')!r}: unknown strategy {strategy!r}"
            f"{_did_you_mean(strategy, STRATEGIES)}. Valid: {', '.join(STRATEGIES)}"
        )
    model: type[Arm] = import_module(STRATEGIES[strategy]).StrategyArm
    try:
        return model.model_validate(arm)
    except ValidationError as error:
        raise ValueError(f"arm {arm.get('name')!r}: {explain(error, model)}") from error


_EMBEDDED = {
    "copy": "; add `copy: {model: copy_micro}` there, the embedded copy descriptor, name another "
    "encoder with a threshold of its own, or leave the level out by `near: null`",
    "semantic": "; add `semantic: {model: vit_micro}` there",
}


def _head_disagreements(recipe: Recipe) -> Iterator[str]:
    """Yield every head whose encoders cannot give what it needs."""
    encoders = recipe.embed.encoders
    for name, head in recipe.score.heads.items():
        place, own = f"score.heads.{name}", encoders.get(head.encoder)
        texts = encoders.get(head.captions or "")
        if own is None or (head.captions and texts is None):
            continue
        if head.kind in (*WITH_PROMPTS, "similarity") and own.of != "image":
            yield f"{place}.encoder: {head.encoder} embeds captions; name an encoder of pictures"
        if head.kind in WITH_PROMPTS and own.model.partition("/")[0] not in WITH_TEXT:
            yield (
                f"{place}.encoder: {head.encoder} ({own.model}) has no text tower for the prompts; "
                f"families with one: {', '.join(WITH_TEXT)}"
            )
        if texts is not None and texts.of != "caption":
            yield f"{place}.captions: {head.captions} embeds pictures; give it `of: caption`"
        elif texts is not None and (texts.model, texts.weights) != (own.model, own.weights):
            yield (
                f"{place}: {head.encoder} and {head.captions} are not of one model with the same "
                "weights, so their vectors cannot be compared"
            )


def _disagreements(recipe: Recipe) -> Iterator[str]:
    """Yield every name that points at nothing."""
    names = [s.name for s in recipe.sources]
    yield from _repeated("source", names)
    yield from _repeated("arm", [a.name for a in recipe.retrieve])
    if not recipe.with_role("pool"):
        yield "sources: at least one source needs role: pool"
    encoders = list(recipe.embed.encoders)
    uses = {"cluster.encoder": recipe.cluster.encoder, "match.encoder": recipe.match.encoder}
    near = {"near": recipe.dedup.near, "semantic": recipe.dedup.semantic}
    uses |= {f"dedup.{n}.encoder": level.encoder for n, level in near.items() if level}
    uses |= {f"score.heads.{n}.encoder": h.encoder for n, h in recipe.score.heads.items()}
    uses |= {f"score.heads.{n}.captions": h.captions for n, h in recipe.score.heads.items()}
    for place, encoder in uses.items():
        if encoder is not None and encoder not in encoders:
            yield (
                f"{place}: no encoder {encoder!r} under embed.encoders. Valid: {', '.join(encoders)}"
                f"{_EMBEDDED.get(encoder, '')}"
            )
    for name, spec in recipe.embed.encoders.items():
        problem = check_model_name(spec.model)
        if problem:
            yield f"embed.encoders.{name}.model: {problem}"
    words = [f"words_{name}" for name in recipe.screen.words]
    scores = [*recipe.screen.filters, *words, *recipe.score.heads, *COUNTED]
    for name, threshold in recipe.select.items():
        if name not in scores:
            yield (
                f"select.{name}: no such score. Valid: {', '.join(scores)} "
                "(add it to screen.filters or score.heads to have it computed)"
            )
        elif (name in TEXTS) != (threshold.one_of is not None):
            bound = "one_of" if name in TEXTS else "at_least or at_most"
            yield f"select.{name}: wants {bound}, since its score is " + (
                "text" if name in TEXTS else "a number"
            )
    yield from _head_disagreements(recipe)
    yield from _balance_disagreements(recipe)
    yield from _held_out_disagreements(recipe)
    seeds = [s.name for s in recipe.with_role("seed")]
    levels = {f"retrieve.{a.name}.level": getattr(a, "level", 0) for a in recipe.retrieve}
    for place, level in (levels | {"balance.level": recipe.balance.level}).items():
        if level >= len(recipe.cluster.levels):
            yield (
                f"{place}: no level {level}; cluster.levels has {len(recipe.cluster.levels)}, "
                "and 0 is the finest"
            )
    for arm in recipe.retrieve:
        if arm.seeds is not None and arm.seeds not in seeds:
            yield (
                f"retrieve.{arm.name}.seeds: no source {arm.seeds!r} with role: seed. "
                f"Valid: {', '.join(seeds) or 'none'}"
            )


def _held_out_disagreements(recipe: Recipe) -> Iterator[str]:
    held_out, near = recipe.dedup.held_out, recipe.dedup.near
    if held_out is None:
        return
    valid = [s.name for s in recipe.with_role("held_out")]
    for name in held_out.sets:
        if name not in valid:
            yield (
                f"dedup.held_out.sets: no source {name!r} with role: held_out"
                f"{_did_you_mean(name, valid)}. Valid: {', '.join(valid) or 'none'}"
            )
    verify = recipe.dedup.verify
    floors = {"dedup.near.floor": near.floor} if near else {}
    if near and verify:
        floors["dedup.verify.floor"] = verify.floor
    for name in valid:
        at_least, _ = held_out.of(name)
        for place, floor in floors.items():
            if at_least < floor:
                yield (
                    f"dedup.held_out: at_least {at_least} for {name!r} is under {place} {floor}, "
                    "below which no pair is kept; lower that floor too"
                )


def _balance_disagreements(recipe: Recipe) -> Iterator[str]:
    arms = [a.name for a in recipe.retrieve]
    seeds = [s.name for s in recipe.with_role("seed")]
    sources = [s.name for s in recipe.sources if s.role != "held_out"]
    uses = {
        "priority": (recipe.balance.priority, arms, "arm"),
        "per_seed_set": (list(recipe.balance.per_seed_set), seeds, "source with role: seed"),
        "weights": (list(recipe.balance.weights), sources, "source of pool or seeds"),
    }
    for key, (names, valid, what) in uses.items():
        for name in names:
            if name not in valid:
                yield (
                    f"balance.{key}: no {what} {name!r}{_did_you_mean(name, valid)}. "
                    f"Valid: {', '.join(valid) or 'none'}"
                )


def _repeated(what: str, names: list[str]) -> Iterator[str]:
    for name in sorted({n for n in names if names.count(n) > 1}):
        yield f"{what} name {name!r} is used more than once"


def _did_you_mean(word: Any, valid: Any) -> str:
    close = difflib.get_close_matches(str(word), list(valid), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _fields_at(model: Any, place: tuple[Any, ...]) -> list[str]:
    """Return the keys that are valid at `place` within a model."""
    for step in place:
        if isinstance(model, type) and issubclass(model, StrictModel):
            info = model.model_fields.get(step)
            model = info.annotation if info else None
        models = [a for a in _flatten(model) if isinstance(a, type) and issubclass(a, StrictModel)]
        model = models[0] if models else model
    return (
        list(model.model_fields)
        if isinstance(model, type) and issubclass(model, StrictModel)
        else []
    )


def _flatten(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from _flatten(part)


def explain(error: ValidationError, model: type[StrictModel]) -> str:
    """Say in one line a problem what was found, what is valid and how to mend it."""
    lines = []
    for problem in error.errors():
        place = ".".join(str(p) for p in problem["loc"])
        if problem["type"] == "extra_forbidden":
            valid = _fields_at(model, problem["loc"][:-1])
            key = problem["loc"][-1]
            lines.append(
                f"unknown key {place!r}{_did_you_mean(key, valid)}. Valid: {', '.join(valid)}"
            )
        elif problem["type"] == "missing":
            lines.append(f"{place!r} is missing; it has no default")
        else:
            found = (
                "" if isinstance(problem["input"], dict | list) else f", found {problem['input']!r}"
            )
            message = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{place}: {message}{found}" if place else message)
    return "\n  ".join(lines)


def parse_recipe(spec: Any, where: str = "recipe") -> Recipe:
    """Return the recipe in `spec` (what YAML gave).

    Raises:
        RecipeError: an unknown key, a wrong type or an impossible value, with the valid ones.
    """
    if not isinstance(spec, dict):
        raise RecipeError(f"{where}: a recipe is a mapping with at least `name` and `sources`.")
    # A block whose lines are all commented out is a block with its defaults.
    spec = {key: value for key, value in spec.items() if value is not None}
    try:
        return Recipe.model_validate(spec)
    except ValidationError as error:
        raise RecipeError(f"{where}:\n  {explain(error, Recipe)}") from error


def load_recipe(path: str | Path) -> Recipe:
    """Return the recipe in the YAML file `path`.

    Raises:
        RecipeError: no such file, not YAML, or not a valid recipe.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"Cannot read the recipe {str(path)!r}: {error}") from error
    try:
        return parse_recipe(yaml.safe_load(text), str(path))
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not YAML: {error}") from error
