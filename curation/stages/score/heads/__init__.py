"""The kinds of heads by name: each turns vectors into one score per image.

To add a kind, add a file to this folder and a line to `HEADS` (see docs/extending.md).
"""

from __future__ import annotations

from dataclasses import dataclass

from curation.engine.registry import Entry, Registry


@dataclass(frozen=True)
class HeadEntry(Entry):
    """What the recipe needs to know about a kind of head.

    Attributes:
        needs: required fields of `HeadSpec`, other than `kind` and `encoder`.
        takes: optional fields of `HeadSpec`.
        options: valid keys of `options`.
        images: its `encoder` must embed images.
        prompts: it embeds texts of the recipe with the text tower of its encoder.
    """

    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    images: bool = False
    prompts: bool = False


HEADS = Registry(
    "head",
    "curation.stages.score.heads",
    {
        "linear": HeadEntry(needs=("weights",), takes=("sha256",)),
        "mlp": HeadEntry(needs=("weights",), takes=("activation", "output", "sha256")),
        "similarity": HeadEntry(needs=("captions",), images=True),
        "zero_shot": HeadEntry(
            needs=("prompts",), takes=("against", "scale"), images=True, prompts=True
        ),
    },
    requires=("load",),
)
