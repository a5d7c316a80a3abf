"""The kinds of head by name: each turns vectors into one score a picture.

A new kind is a file here and a line below, with the fields of a recipe's head that it needs.
"""

from typing import NamedTuple


class Kind(NamedTuple):
    """Where a kind of head is, and which fields it needs and may have beside `kind` and `encoder`."""

    module: str
    needs: tuple[str, ...]
    takes: tuple[str, ...] = ()


HEADS = {
    "linear": Kind("curation.stages.score.heads.linear", needs=("weights",)),
    "mlp": Kind(
        "curation.stages.score.heads.mlp", needs=("weights",), takes=("activation", "output")
    ),
    "similarity": Kind("curation.stages.score.heads.similarity", needs=("captions",)),
    "zero_shot": Kind(
        "curation.stages.score.heads.zero_shot", needs=("prompts",), takes=("against", "scale")
    ),
}
WITH_PROMPTS = ("zero_shot",)
"""Kinds that embed texts of the recipe with the text tower of their encoder."""
