"""The files of weights that a recipe names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from curation.media.encoders import ENCODERS
from curation.recipe.model import Recipe


class Weights(NamedTuple):
    """A file of weights in a recipe.

    Attributes:
        place: of its fields in the recipe.
        path: where it is wanted; None for weights that the name of a model stands for.
        sha256: that it must have.
        address: where it is downloaded from.
        program: whether it is a program, so that it must have a checksum.
        model: name of the model, of an encoder.
    """

    place: str
    path: str | None
    sha256: str | None
    address: str | None
    program: bool = False
    model: str = ""


def weights_of(recipe: Recipe) -> Iterator[Weights]:
    """Yield the weights that a recipe names: of encoders, of heads, and of the face detector."""
    for name, spec in recipe.embed.encoders.items():
        if spec.is_imported:
            continue
        program = ENCODERS[spec.family].program
        place = f"embed.encoders.{name}"
        yield Weights(place, spec.weights, spec.sha256, spec.weights_from, program, spec.model)
    for name, head in recipe.score.heads.items():
        if head.weights is not None:
            yield Weights(f"score.heads.{name}", head.weights, head.sha256, head.weights_from)
    faces = recipe.fetch.faces
    if faces.weights is not None:
        yield Weights("fetch.faces", faces.weights, faces.sha256, faces.weights_from)
