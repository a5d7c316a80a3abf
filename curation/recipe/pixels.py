"""What a recipe without pixels cannot have, and whether imported vectors fit its sources."""

from __future__ import annotations

from collections.abc import Iterator

from curation.errors import Detail
from curation.media.vectors.params import VectorIds
from curation.media.web.params import OutboundParams
from curation.recipe.model import Recipe
from curation.stages.screen.filters import FILTERS

FIX = "`fetch: {pixels: none}` leaves them out; remove it, or fetch the pixels"


def pixel_disagreements(recipe: Recipe) -> Iterator[Detail]:
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
    for place, is_set in needs.items():
        if is_set:
            yield Detail(f"it needs pixels, and {FIX}", place)
    for name in screen.filters:
        if not FILTERS[name].caption:
            yield Detail(f"{name} needs pixels, and {FIX}", "screen.filters", name)
    for name, spec in recipe.embed.encoders.items():
        if spec.of == "image" and not spec.is_imported:
            yield Detail(
                f"{spec.model} embeds images, and `fetch: {{pixels: none}}` leaves them out; bring "
                "vectors with `import` in place of `model`, or fetch the pixels",
                f"embed.encoders.{name}",
            )
    without_effect = recipe.fetch.model_fields_set - {"pixels"} - OutboundParams.model_fields.keys()
    if without_effect:
        names = ", ".join(sorted(without_effect))
        yield Detail(f"{names} has no effect on a recipe with `pixels: none`; remove it", "fetch")


def _without_images(recipe: Recipe) -> Iterator[Detail]:
    for source in recipe.sources:
        if not source.lists_images:
            yield Detail(
                "`columns` must map at least one of url, image, path to a column of the file, as in "
                "columns: {url: URL, caption: TEXT}; or set `fetch: {pixels: none}` and import "
                "vectors, if there are no images",
                f"source {source.name!r}",
            )


def import_disagreements(recipe: Recipe) -> Iterator[Detail]:
    """Yield every import of vectors that does not fit the sources."""
    for name, spec in recipe.embed.encoders.items():
        if spec.is_imported and spec.ids is not None:
            place = f"embed.encoders.{name}"
            yield from _path_disagreements(recipe, f"{place}.import", spec.vectors, spec.ids)
            yield from _id_disagreements(recipe, f"{place}.ids", spec.ids)


def _path_disagreements(
    recipe: Recipe, place: str, vectors: str | dict[str, str] | None, ids: VectorIds
) -> Iterator[Detail]:
    names = [source.name for source in recipe.sources]
    if isinstance(vectors, dict):
        for name in sorted(vectors.keys() - set(names)):
            yield Detail(f"no source {name!r}", place, name, names)
        for name in sorted(set(names) - vectors.keys()):
            yield Detail(f"no vectors for source {name!r}; add their path", place)
    elif ids.join == "rows" and len(names) > 1:
        example = ", ".join(f"{name}: PATH" for name in names)
        yield Detail(
            f"with `join: rows`, write a path for each source: import: {{{example}}}", place
        )


def _id_disagreements(recipe: Recipe, place: str, ids: VectorIds) -> Iterator[Detail]:
    for source in recipe.sources:
        is_grouped = recipe.fetch.pixels == "fetch" and source.has_remote_images
        if ids.join == "rows" and is_grouped:
            yield Detail(
                f"the rows of source {source.name!r} are grouped by host to be fetched, so they have "
                "no order; join by key or sha256, or set `fetch: {pixels: none}`",
                place,
            )
        if ids.join == "key" and not source.may_have_keys:
            yield Detail(
                f"source {source.name!r} maps no key; add `key` to its `columns`, or join by sha256 or "
                "rows",
                place,
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
    elif recipe.dedup.held_out is None:
        sentences.append(
            "dedup.held_out is null: copies of held-out images stay, so the dataset is not "
            "decontaminated."
        )
    return sentences


def _first_encoder(recipe: Recipe) -> str:
    images = recipe.embed.images
    return recipe.embed.unnamed or (images[0] if images else "NAME")
