"""The kinds of head by name: each turns vectors into one score a picture.

A new kind is a file in this folder and a line in `HEADS`. See docs/extending.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from curation.engine.registry import Entry, Registry


@dataclass(frozen=True)
class HeadEntry(Entry):
    """What the recipe needs to know of a kind of head.

    Attributes:
        needs: fields of `HeadSpec` that it needs beside `kind` and `encoder`.
        takes: fields that it may have beside these.
        options: keys that it takes under `options`.
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
        "linear": HeadEntry(needs=("weights",)),
        "mlp": HeadEntry(needs=("weights",), takes=("activation", "output")),
        "similarity": HeadEntry(needs=("captions",), images=True),
        "zero_shot": HeadEntry(
            needs=("prompts",), takes=("against", "scale"), images=True, prompts=True
        ),
    },
    requires=("load",),
)
