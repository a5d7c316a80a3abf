"""Whether the blocks of a recipe agree with each other."""

from __future__ import annotations

from collections.abc import Iterator

from curation.errors import Detail, unknown
from curation.media.encoders import ENCODERS, check_model_name, with_text
from curation.recipe.model import Recipe, unnamed_encoder
from curation.recipe.pixels import import_disagreements, pixel_disagreements
from curation.stages.dedup.params import DedupParams, HeldOut
from curation.stages.ingest.sources.source import Role
from curation.stages.score.heads import HEADS
from curation.stages.select.params import NO_SCORES

_PACKAGED = {
    "copy": "Add `copy: {model: copy_micro}` there, the packaged copy descriptor; or name another "
    "encoder and its threshold; or leave the level out by `near: null`",
    "semantic": "Add `semantic: {model: vit_micro}` there",
}
_REASONS = ("held_out", "eligible", "ok")
"""Beside the columns of scores, outcomes of rows that no threshold gives."""


def _score_disagreements(recipe: Recipe) -> Iterator[Detail]:
    """Yield every score whose name is taken, and every threshold on a score that is not there."""
    names = [name for scores in recipe.scores.values() for name in scores]
    for name in names:
        if name in (*NO_SCORES, *_REASONS) or name.startswith(("copy_", "vector_")):
            yield Detail(
                f"{name!r} cannot be the name of a score: it is a column of a table of scores, or a "
                "reason that select gives",
                f"score.heads.{name}" if name in recipe.score.heads else "screen.filters",
                name,
                fix="Write another name, which does not begin with copy_ or vector_",
            )
    for name in sorted({name for name in names if names.count(name) > 1}):
        tables = [table for table, scores in recipe.scores.items() if name in scores]
        yield Detail(
            f"the score {name!r} is defined more than once, in the tables {' and '.join(tables)}",
            found=name,
            fix="Rename the head or the list of words",
        )
    types = {name: kind for scores in recipe.scores.values() for name, kind in scores.items()}
    for name, threshold in recipe.select.items():
        kind = types.get(name)
        if kind is None:
            fix = "Add it to screen.filters or score.heads to have it computed"
            yield unknown("score", name, names, f"select.{name}", fix)
        elif (kind == "text") != (threshold.one_of is not None):
            bounds = ("one_of",) if kind == "text" else ("at_least", "at_most")
            score = "text" if kind == "text" else "a number"
            message = f"wants {' or '.join(bounds)}, since its score is {score}"
            yield Detail(message, f"select.{name}", valid=bounds)


def _head_disagreements(recipe: Recipe) -> Iterator[Detail]:
    """Yield every head whose encoders cannot give what it needs."""
    encoders = recipe.embed.encoders
    for name, head in recipe.score.heads.items():
        place, kind = f"score.heads.{name}", HEADS[head.kind]
        encoder, caption_encoder = encoders.get(head.encoder), encoders.get(head.captions or "")
        if encoder is None or (head.captions and caption_encoder is None):
            # Names that point at nothing are reported elsewhere.
            continue
        if kind.images and encoder.of != "image":
            yield _of_captions(f"{place}.encoder", head.encoder, recipe)
        if kind.prompts and encoder.family in ENCODERS and not ENCODERS[encoder.family].text:
            yield Detail(
                f"{head.encoder} ({encoder.model}) has no text tower for the prompts",
                f"{place}.encoder",
                head.encoder,
                fix=f"Name an encoder of a family with one: {', '.join(with_text())}",
            )
        if caption_encoder is not None and caption_encoder.of != "caption":
            message = f"{head.captions} embeds images"
            fix = "Give it `of: caption`"
            yield Detail(message, f"{place}.captions", head.captions, fix=fix)
        elif caption_encoder is not None and (caption_encoder.model, caption_encoder.weights) != (
            encoder.model,
            encoder.weights,
        ):
            yield Detail(
                f"{head.encoder} and {head.captions} are not of one model with the same weights, so "
                "their vectors cannot be compared",
                place,
                [head.encoder, head.captions],
                fix="Give both the same `model` and `weights`",
            )


def _encoder_disagreements(recipe: Recipe) -> Iterator[Detail]:
    """Yield every block that names no encoder of images where it needs one."""
    encoders, levels = list(recipe.embed.encoders), recipe.dedup.vector_levels
    of_images = {"cluster.encoder": recipe.cluster.encoder, "match.encoder": recipe.match.encoder}
    of_images |= {f"dedup.{name}.encoder": level.encoder for name, level in levels.items()}
    heads = recipe.score.heads.items()
    uses = of_images | {f"score.heads.{n}.encoder": head.encoder for n, head in heads}
    uses |= {f"score.heads.{n}.captions": head.captions for n, head in heads}
    for place, encoder in uses.items():
        if encoder is not None and encoder not in encoders:
            message = f"no encoder {encoder!r} under embed.encoders"
            yield Detail(message, place, encoder, encoders, _PACKAGED.get(encoder, ""))
        elif encoder is not None and place in of_images and encoder not in recipe.embed.images:
            yield _of_captions(place, encoder, recipe)
    if recipe.cluster.encoder is None and recipe.embed.unnamed is None:
        yield unnamed_encoder(recipe.embed.images)


def _of_captions(place: str, encoder: str, recipe: Recipe) -> Detail:
    """Return the detail of an encoder of captions where one of images is needed."""
    message = f"{encoder} embeds captions; name an encoder of images"
    return Detail(message, place, encoder, recipe.embed.images)


def disagreements(recipe: Recipe) -> Iterator[Detail]:
    """Yield everything in which the blocks of a recipe do not agree with each other."""
    names = [s.name for s in recipe.sources]
    yield from _repeated("source", names)
    yield from _repeated("arm", [a.name for a in recipe.retrieve])
    if not recipe.with_role("pool"):
        fix = "Give the source of uncurated pairs `role: pool`"
        yield Detail("at least one source needs role: pool", "sources", fix=fix)
    yield from _encoder_disagreements(recipe)
    yield from pixel_disagreements(recipe)
    yield from import_disagreements(recipe)
    for name, spec in recipe.embed.encoders.items():
        problem = check_model_name(spec.model)
        if problem:
            yield problem.below(f"embed.encoders.{name}.model")
    yield from _score_disagreements(recipe)
    yield from _head_disagreements(recipe)
    yield from _balance_disagreements(recipe)
    yield from _hash_disagreements(recipe)
    yield from _rules_without_source(recipe)
    yield from _held_out_disagreements(recipe)
    yield from _expect_disagreements(recipe)
    seeds = [s.name for s in recipe.with_role("seed")]
    levels = {f"retrieve.{a.name}.level": a.level_of_clusters() for a in recipe.retrieve}
    for place, level in (levels | {"balance.level": recipe.balance.level}).items():
        if level >= len(recipe.cluster.levels):
            count = len(recipe.cluster.levels)
            message = f"no level {level}; cluster.levels has {count}, and 0 is the finest"
            yield Detail(message, place, level, [str(number) for number in range(count)])
    for arm in recipe.retrieve:
        if arm.seeds is not None and arm.seeds not in seeds:
            yield _no_source(f"retrieve.{arm.name}.seeds", arm.seeds, seeds, "seed")


def _hash_disagreements(recipe: Recipe) -> Iterator[Detail]:
    if recipe.dedup.perceptual is not None and not recipe.screen.perceptual_hash:
        yield Detail(
            "it compares perceptual hashes, but screen.perceptual_hash is false",
            "dedup.perceptual",
            fix="Set screen.perceptual_hash: true, or dedup.perceptual: null",
        )


def _rules_without_source(recipe: Recipe) -> Iterator[Detail]:
    """Yield every rule of `dedup` on the images of a role that no source has."""
    dedup = recipe.dedup
    # The sets that it names are looked for below.
    held_out = dedup.held_out and dedup.held_out.model_copy(update={"sets": {}})
    rules: dict[Role, tuple[str, bool]] = {
        "held_out": ("held_out", held_out not in (None, HeldOut())),
        "seed": ("seed_copies", dedup.seed_copies != DedupParams().seed_copies),
    }
    for role, (name, is_set) in rules.items():
        if is_set and not recipe.with_role(role):
            message = f"it has no effect, since no source has role: {role}"
            yield Detail(message, f"dedup.{name}", fix="Add such a source, or leave it out")


def _held_out_disagreements(recipe: Recipe) -> Iterator[Detail]:
    held_out, near = recipe.dedup.held_out, recipe.dedup.near
    if held_out is None:
        return
    valid = [s.name for s in recipe.with_role("held_out")]
    for name in held_out.sets:
        if name not in valid:
            yield _no_source("dedup.held_out.sets", name, valid, "held_out")
    verify = recipe.dedup.verify
    floors = {"dedup.near.floor": near.floor} if near else {}
    if near and verify:
        floors["dedup.verify.floor"] = verify.floor
    for name in valid:
        at_least, _ = held_out.of(name)
        for place, floor in floors.items():
            if at_least < floor:
                yield Detail(
                    f"at_least {at_least} for {name!r} is under {place} {floor}, below which no pair "
                    "is kept; lower that floor too",
                    "dedup.held_out",
                    at_least,
                )


def _expect_disagreements(recipe: Recipe) -> Iterator[Detail]:
    arms = [arm.name for arm in recipe.arms]
    for name in recipe.expect.arms:
        if name not in arms:
            yield Detail(f"no arm {name!r}", "expect.arms", name, arms)


def _balance_disagreements(recipe: Recipe) -> Iterator[Detail]:
    arms = [a.name for a in recipe.arms]
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
                none = "" if valid else "; there is none"
                yield Detail(f"no {what} {name!r}{none}", f"balance.{key}", name, valid)
    yield from _unused_of_balance(recipe, seeds)


def _unused_of_balance(recipe: Recipe, seeds: list[str]) -> Iterator[Detail]:
    """Yield every cap and weight of a seed set whose images no arm claims."""
    starts = {arm.seeds for arm in recipe.arms}
    claimed = {arm.seeds for arm in recipe.arms if arm.claims_seeds}
    for name in seeds:
        if name in recipe.balance.per_seed_set and name not in starts:
            fix = "Add an arm, or leave it out"
            message = f"it has no effect, since no arm starts from {name!r}"
            yield Detail(message, f"balance.per_seed_set.{name}", fix=fix)
        if name in recipe.balance.weights and name not in claimed:
            fix = "Add an arm of strategy as_is, or leave it out"
            message = f"it has no effect, since no arm claims images of {name!r} themselves"
            yield Detail(message, f"balance.weights.{name}", fix=fix)


def _repeated(what: str, names: list[str]) -> Iterator[Detail]:
    for name in sorted({n for n in names if names.count(n) > 1}):
        fix = "Give each another name"
        yield Detail(f"{what} name {name!r} is used more than once", found=name, fix=fix)


def _no_source(place: str, name: str, valid: list[str], role: str) -> Detail:
    none = "" if valid else "; there is none"
    return Detail(f"no source {name!r} with role: {role}{none}", place, name, valid)
