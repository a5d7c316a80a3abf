"""The encoders by the first part of a recipe's `model`: a file each, and a line below.

Names only: the files import torch, and a recipe is read where torch may be missing.
"""

ENCODERS = {
    "vit_micro": "curation.embed.encoders.embedded",
    "copy_micro": "curation.embed.encoders.embedded",
    "timm": "curation.embed.encoders.timm",
    "torchscript": "curation.embed.encoders.torchscript",
}
PROGRAMS = ("torchscript",)
"""Families whose weights file is a program: a recipe must say by its sum which one it trusts."""


def check_model_name(model: str) -> str | None:
    """Say what is wrong with a recipe's `model`, or None."""
    family, _, rest = model.partition("/")
    if family not in ENCODERS:
        return (
            f"unknown encoder {model!r}. Valid: vit_micro and copy_micro (embedded), "
            "timm/<name of a timm model>, as in timm/vit_small_patch14_dinov2.lvd142m, or "
            "torchscript with an archive under weights"
        )
    if family == "timm" and not rest:
        return "timm/ needs the name of a model, as in timm/vit_small_patch14_dinov2.lvd142m"
    if family != "timm" and rest:
        return f"{family!r} takes no name after the slash"
    return None
