"""The encoder families by the first part of a recipe's `model`, each in a file of its own.

A new family is a file in this folder and an entry in `ENCODERS`. See docs/extending.md. The registry
holds names only: the files import torch, and a recipe is read where torch may be missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from curation.engine.registry import Entry, Registry


@dataclass(frozen=True)
class EncoderEntry(Entry):
    """What the recipe needs to know of a family.

    Attributes:
        model: how `model` is written, with an example.
        name: whether a name follows the family after a slash.
        nested: whether that name may have slashes of its own.
        needs: fields of `EncoderSpec` that the family needs, and why.
        takes: fields of `EncoderSpec` that it takes beside those that all families take.
        options: keys that it takes under `options`.
        text: it has a text tower, for `of: caption` and for prompts.
        packaged: its weights come with the package.
        program: its weights file is a program, so that a recipe must name the one it trusts by SHA-256.
    """

    model: str = ""
    name: Literal["none", "optional", "required"] = "none"
    nested: bool = False
    needs: tuple[tuple[str, str], ...] = ()
    takes: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    text: bool = False
    packaged: bool = False
    program: bool = False


SPECIAL = ("checkpoint", "precision")
"""Fields of `EncoderSpec` that a family takes only where its entry says so."""

ENCODERS = Registry(
    "encoder",
    "curation.media.encoders",
    {
        "vit_micro": EncoderEntry(
            "curation.media.encoders.embedded",
            model="vit_micro (embedded)",
            takes=("precision",),
            packaged=True,
        ),
        "copy_micro": EncoderEntry(
            "curation.media.encoders.embedded",
            model="copy_micro (embedded)",
            takes=("precision",),
            packaged=True,
        ),
        "timm": EncoderEntry(
            model="timm/<name of a timm model>, as in timm/vit_small_patch14_dinov2.lvd142m",
            name="required",
            takes=("checkpoint", "precision"),
        ),
        "open_clip": EncoderEntry(
            model="open_clip/<architecture>[/<tag of the hub>], as in "
            "open_clip/ViT-B-32/laion2b_s34b_b79k, or open_clip with a folder under weights",
            name="optional",
            nested=True,
            takes=("precision",),
            text=True,
        ),
        "torchscript": EncoderEntry(
            model="torchscript with an archive under weights",
            needs=(
                ("weights", "the path of the archive"),
                (
                    "input_size",
                    "the side in pixels that the archive was made for: it does not tell",
                ),
            ),
            program=True,
        ),
        "onnx": EncoderEntry(
            model="onnx with a file under weights",
            needs=(("weights", "the path of the file"),),
        ),
    },
    requires=("load", "skeleton"),
)


def with_text() -> list[str]:
    """Return the families that have a text tower."""
    return [name for name, entry in ENCODERS.items() if entry.text]


def close_names(name: str, known: list[str]) -> str:
    """Return the known names that are like one that is not known, as a sentence."""
    near = get_close_matches(name, known, n=6, cutoff=0.5)
    return f"Close names: {', '.join(near)}" if near else f"There are {len(known)} others"


def check_model_name(model: str) -> str | None:
    """Return what is wrong with a recipe's `model`, or None."""
    family, _, rest = model.partition("/")
    if family not in ENCODERS:
        forms = "; ".join(entry.model for entry in ENCODERS.values())
        return f"unknown encoder {model!r}. Valid: {forms}"
    entry = ENCODERS[family]
    if entry.name == "required" and not rest:
        return f"{family}/ needs the name of a model: {entry.model}"
    if entry.name == "none" and rest:
        return f"{family!r} takes no name after the slash"
    if ":" in rest or ("/" in rest and not entry.nested):
        return (
            f"{rest!r} is not a name of {family}. Repositories and folders are not named there: "
            "download the model and name its folder under `weights`"
        )
    return None
