"""What a recipe without pixels cannot have, and whether imported vectors fit its sources."""

from __future__ import annotations

from collections.abc import Iterator

from curation.engine.registry import did_you_mean
from curation.media.vectors.params import VectorIds
from curation.media.web.params import OutboundParams
from curation.recipe.model import Recipe
from curation.stages.screen.filters import FILTERS

FIX = "`fetch: {pixels: none}` leaves them out; remove it, or fetch the pixels"


def pixel_disagreements(recipe: Recipe) -> Iterator[str]:
    """Yield what needs pixels in a recipe without any, and sources without images in others."""
    if recipe.fetch.pixels == "fetch":
        yield from _without_images(recipe)
        return
    dedup, screen = recipe.dedup, recipe.screen
    needs = {
        "dedup.verify": dedup.verify is not None,
        "dedup.perceptual": dedup.perceptual is not None,
        "dedup.pixels": dedup.pixels,
        "screen.perceptual_hash": screen.perceptual_hash,
        "assemble.pixels": recipe.assemble.pixels,
    }
    yield from (f"{place}: it needs pixels, and {FIX}" for place, is_set in needs.items() if is_set)
    for name in screen.filters:
        if not FILTERS[name].caption:
            yield f"screen.filters: {name} needs pixels, and {FIX}"
    for name, spec in recipe.embed.encoders.items():
        if spec.of == "image" and not spec.is_imported:
            yield (
                f"embed.encoders.{name}: {spec.model} embeds images, and `fetch: {{pixels: none}}` "
                "leaves them out; bring vectors with `import` in place of `model`, or fetch the pixels"
            )
    without_effect = recipe.fetch.model_fields_set - {"pixels"} - OutboundParams.model_fields.keys()
    if without_effect:
        yield (
            f"fetch: {', '.join(sorted(without_effect))} has no effect on a recipe with `pixels: "
            "none`; remove it"
        )


def _without_images(recipe: Recipe) -> Iterator[str]:
    for source in recipe.sources:
        if not source.lists_images:
            yield (
                f"source {source.name!r}: `columns` must map at least one of url, image, path to a "
                "column of the file, as in columns: {url: URL, caption: TEXT}; or set `fetch: {pixels: "
                "none}` and import vectors, if there are no images"
            )


def import_disagreements(recipe: Recipe) -> Iterator[str]:
    """Yield every import of vectors that does not fit the sources."""
    for name, spec in recipe.embed.encoders.items():
        if spec.is_imported and spec.ids is not None:
            place = f"embed.encoders.{name}"
            yield from _path_disagreements(recipe, f"{place}.import", spec.vectors, spec.ids)
            yield from _id_disagreements(recipe, f"{place}.ids", spec.ids)


def _path_disagreements(
    recipe: Recipe, place: str, vectors: str | dict[str, str] | None, ids: VectorIds
) -> Iterator[str]:
    names = [source.name for source in recipe.sources]
    if isinstance(vectors, dict):
        for name in sorted(vectors.keys() - set(names)):
            yield f"{place}: no source {name!r}{did_you_mean(name, names)}. Valid: {', '.join(names)}"
        for name in sorted(set(names) - vectors.keys()):
            yield f"{place}: no vectors for source {name!r}; add their path"
    elif ids.join == "rows" and len(names) > 1:
        example = ", ".join(f"{name}: PATH" for name in names)
        yield f"{place}: with `join: rows`, write a path for each source: import: {{{example}}}"


def _id_disagreements(recipe: Recipe, place: str, ids: VectorIds) -> Iterator[str]:
    for source in recipe.sources:
        is_grouped = recipe.fetch.pixels == "fetch" and source.has_remote_images
        if ids.join == "rows" and is_grouped:
            yield (
                f"{place}: the rows of source {source.name!r} are grouped by host to be fetched, so "
                "they have no order; join by key or sha256, or set `fetch: {pixels: none}`"
            )
        if ids.join == "key" and not source.may_have_keys:
            yield (
                f"{place}: source {source.name!r} maps no key; add `key` to its `columns`, or join by "
                "sha256 or rows"
            )


def left_out(recipe: Recipe) -> list[str]:
    """Return what a recipe leaves out because its sources do not have it, a sentence each."""
    sentences = []
    if recipe.fetch.pixels == "none":
        sentences.append(
            "No pixels are fetched: perceptual hashes, equal pixels, verify, filters of images and "
            "pictures in the report are left out."
        )
        if not recipe.dedup.vector_levels:
            sentences.append(
                "No vectors are compared for copies: only rows with the same URL or SHA-256 are. Set "
                f"`dedup: {{near: {{encoder: {_first_encoder(recipe)}, at_least: 0.95}}}}`, with a "
                "threshold that fits your vectors."
            )
    if not any(source.may_have_captions for source in recipe.sources):
        sentences.append("No source maps captions: filters of captions have no use.")
    if not recipe.with_role("seed"):
        sentences.append("No source has the role seed: nothing is retrieved by seed images.")
    if not recipe.with_role("held_out"):
        sentences.append("No source has the role held_out: the dataset is not decontaminated.")
    return sentences


def _first_encoder(recipe: Recipe) -> str:
    images = recipe.embed.images
    return recipe.embed.unnamed or (images[0] if images else "NAME")
