"""Whether the blocks of a recipe agree with each other."""

from __future__ import annotations

from collections.abc import Iterator

from curation.engine.registry import did_you_mean
from curation.media.encoders import ENCODERS, check_model_name, with_text
from curation.recipe.model import Recipe, unnamed_encoder
from curation.stages.score.heads import HEADS

_PACKAGED = {
    "copy": "; add `copy: {model: copy_micro}` there, the packaged copy descriptor; or name another "
    "encoder and its threshold; or leave the level out by `near: null`",
    "semantic": "; add `semantic: {model: vit_micro}` there",
}


def _score_disagreements(recipe: Recipe) -> Iterator[str]:
    """Yield every score of two tables, and every threshold on a score that is not there."""
    names = [name for scores in recipe.scores.values() for name in scores]
    for name in sorted({name for name in names if names.count(name) > 1}):
        tables = [table for table, scores in recipe.scores.items() if name in scores]
        yield (
            f"the score {name!r} is defined more than once, in the tables {' and '.join(tables)}. "
            "Rename the head or the list of words"
        )
    types = {name: kind for scores in recipe.scores.values() for name, kind in scores.items()}
    for name, threshold in recipe.select.items():
        kind = types.get(name)
        if kind is None:
            yield (
                f"select.{name}: no such score{did_you_mean(name, names)}. Valid: {', '.join(names)} "
                "(add it to screen.filters or score.heads to have it computed)"
            )
        elif (kind == "text") != (threshold.one_of is not None):
            bound = "one_of" if kind == "text" else "at_least or at_most"
            yield f"select.{name}: wants {bound}, since its score is " + (
                "text" if kind == "text" else "a number"
            )


def _head_disagreements(recipe: Recipe) -> Iterator[str]:
    """Yield every head whose encoders cannot give what it needs."""
    encoders = recipe.embed.encoders
    for name, head in recipe.score.heads.items():
        place, kind = f"score.heads.{name}", HEADS[head.kind]
        encoder, caption_encoder = encoders.get(head.encoder), encoders.get(head.captions or "")
        if encoder is None or (head.captions and caption_encoder is None):
            # Names that point at nothing are reported elsewhere.
            continue
        if kind.images and encoder.of != "image":
            yield f"{place}.encoder: {head.encoder} embeds captions; name an encoder of images"
        if kind.prompts and encoder.family in ENCODERS and not ENCODERS[encoder.family].text:
            yield (
                f"{place}.encoder: {head.encoder} ({encoder.model}) has no text tower for the prompts; "
                f"families with one: {', '.join(with_text())}"
            )
        if caption_encoder is not None and caption_encoder.of != "caption":
            yield f"{place}.captions: {head.captions} embeds images; give it `of: caption`"
        elif caption_encoder is not None and (caption_encoder.model, caption_encoder.weights) != (
            encoder.model,
            encoder.weights,
        ):
            yield (
                f"{place}: {head.encoder} and {head.captions} are not of one model with the same "
                "weights, so their vectors cannot be compared"
            )


def _encoder_disagreements(recipe: Recipe) -> Iterator[str]:
    """Yield every block that names no encoder of images where it needs one."""
    encoders, levels = list(recipe.embed.encoders), recipe.dedup.vector_levels
    of_images = {"cluster.encoder": recipe.cluster.encoder, "match.encoder": recipe.match.encoder}
    of_images |= {f"dedup.{name}.encoder": level.encoder for name, level in levels.items()}
    heads = recipe.score.heads.items()
    uses = of_images | {f"score.heads.{n}.encoder": head.encoder for n, head in heads}
    uses |= {f"score.heads.{n}.captions": head.captions for n, head in heads}
    for place, encoder in uses.items():
        if encoder is not None and encoder not in encoders:
            yield (
                f"{place}: no encoder {encoder!r} under embed.encoders. Valid: {', '.join(encoders)}"
                f"{_PACKAGED.get(encoder, '')}"
            )
        elif encoder is not None and place in of_images and encoder not in recipe.embed.images:
            yield (
                f"{place}: {encoder} embeds captions; name an encoder of images. "
                f"Valid: {', '.join(recipe.embed.images) or 'none'}"
            )
    if recipe.cluster.encoder is None and recipe.embed.unnamed is None:
        yield unnamed_encoder(recipe.embed.images)


def disagreements(recipe: Recipe) -> Iterator[str]:
    """Yield everything in which the blocks of a recipe do not agree with each other."""
    names = [s.name for s in recipe.sources]
    yield from _repeated("source", names)
    yield from _repeated("arm", [a.name for a in recipe.retrieve])
    if not recipe.with_role("pool"):
        yield "sources: at least one source needs role: pool"
    yield from _encoder_disagreements(recipe)
    for name, spec in recipe.embed.encoders.items():
        problem = check_model_name(spec.model)
        if problem:
            yield f"embed.encoders.{name}.model: {problem}"
    yield from _score_disagreements(recipe)
    yield from _head_disagreements(recipe)
    yield from _balance_disagreements(recipe)
    yield from _held_out_disagreements(recipe)
    yield from _expect_disagreements(recipe)
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
                f"{did_you_mean(name, valid)}. Valid: {', '.join(valid) or 'none'}"
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


def _expect_disagreements(recipe: Recipe) -> Iterator[str]:
    arms = [arm.name for arm in recipe.arms]
    for name in recipe.expect.arms:
        if name not in arms:
            yield f"expect.arms: no arm {name!r}{did_you_mean(name, arms)}. Valid: {', '.join(arms)}"


def _balance_disagreements(recipe: Recipe) -> Iterator[str]:
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
                yield (
                    f"balance.{key}: no {what} {name!r}{did_you_mean(name, valid)}. "
                    f"Valid: {', '.join(valid) or 'none'}"
                )


def _repeated(what: str, names: list[str]) -> Iterator[str]:
    for name in sorted({n for n in names if names.count(n) > 1}):
        yield f"{what} name {name!r} is used more than once"
