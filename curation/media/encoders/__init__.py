"""The encoder families by the first part of a recipe's `model`, each in a file of its own.

To add a family, add a file to this folder and an entry to `ENCODERS` (see docs/extending.md). The
registry holds names only: the files import torch, and recipes are also read where it is not installed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Literal

from curation.engine.registry import Entry, Registry, display_text
from curation.errors import Detail, unknown


@dataclass(frozen=True)
class EncoderEntry(Entry):
    """What the recipe needs to know about a family.

    Attributes:
        model: how `model` is written, with an example.
        name: whether a model name follows the family after a slash.
        nested: whether that name may contain slashes.
        needs: required fields of `EncoderSpec`, each with the reason.
        takes: fields of SPECIAL that the family supports.
        options: valid keys of `options`.
        text: the family has a text tower, for `of: caption` and for prompts.
        packaged: its weights are part of this package.
        hub: models that are named without `weights` come from a model hub.
        cached_by_name: the cache of the hub has a model under the name that a recipe gives.
        program: its weights file is a program, so a recipe must give the SHA-256 of the trusted file.
    """

    model: str = display_text()
    name: Literal["none", "optional", "required"] = "none"
    nested: bool = False
    needs: tuple[tuple[str, str], ...] = ()
    takes: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    text: bool = False
    packaged: bool = False
    hub: bool = field(default=False, metadata={"display": True})
    cached_by_name: bool = False
    program: bool = False


SPECIAL = ("checkpoint", "precision")
"""Fields of `EncoderSpec` that only the families support whose entries list them."""

ENCODERS = Registry(
    "encoder",
    "curation.media.encoders",
    {
        "vit_micro": EncoderEntry(
            "curation.media.encoders.packaged",
            model="vit_micro (part of this package)",
            takes=("precision",),
            packaged=True,
        ),
        "copy_micro": EncoderEntry(
            "curation.media.encoders.packaged",
            model="copy_micro (part of this package)",
            takes=("precision",),
            packaged=True,
        ),
        "timm": EncoderEntry(
            model="timm/<name of a timm model>, as in timm/vit_small_patch14_dinov2.lvd142m",
            name="required",
            takes=("checkpoint", "precision"),
            hub=True,
            cached_by_name=True,
        ),
        "open_clip": EncoderEntry(
            model="open_clip/<architecture>[/<tag of the hub>], as in "
            "open_clip/ViT-B-32/laion2b_s34b_b79k, or open_clip with a folder under weights",
            name="optional",
            nested=True,
            takes=("precision",),
            text=True,
            hub=True,
        ),
        "torchscript": EncoderEntry(
            model="torchscript with an archive under weights",
            needs=(
                ("weights", "the path of the archive"),
                (
                    "input_size",
                    "the side in pixels that the archive was made for, which it does not contain",
                ),
            ),
            program=True,
        ),
        "onnx": EncoderEntry(
            model="onnx with a file under weights",
            needs=(("weights", "the path of the file"),),
        ),
        "imported": EncoderEntry(
            version=4,
            model="imported, or no model at all, with the path of your vectors under import",
            needs=(
                ("vectors", "the path of the vectors, as `import: vectors.npy`"),
                ("ids", "which row each vector belongs to, as `ids: {join: rows}`"),
            ),
        ),
    },
    requires=("load", "skeleton"),
)


def with_text() -> list[str]:
    """Return the families that have a text tower."""
    return [name for name, entry in ENCODERS.items() if entry.text]


def close_names(name: str, known: list[str]) -> str:
    """Return a sentence with the known names that are similar to an unknown one."""
    similar = get_close_matches(name, known, n=6, cutoff=0.5)
    if similar:
        return f"Similar names: {', '.join(similar)}."
    return f"None of the {len(known)} known names is similar."


def check_model_name(model: str) -> Detail | None:
    """Return the problem with a recipe's `model`, or None."""
    family, _, rest = model.partition("/")
    if family not in ENCODERS:
        forms = "; ".join(entry.model for entry in ENCODERS.values())
        detail = unknown("encoder", family, ENCODERS, fix=f"Write {forms}")
        return replace(detail, message=f"unknown encoder {model!r}")
    entry = ENCODERS[family]
    if entry.name == "required" and not rest:
        return Detail(
            f"{family}/ needs the name of a model", found=model, fix=f"Write {entry.model}"
        )
    if entry.name == "none" and rest:
        return Detail(f"{family!r} takes no name after the slash", found=model, valid=(family,))
    if ":" in rest or ("/" in rest and not entry.nested):
        return Detail(
            f"{rest!r} is not a model name of {family}. Repositories and folders cannot be given there",
            found=model,
            fix="Download the model, and set `weights` to its folder",
        )
    return None
