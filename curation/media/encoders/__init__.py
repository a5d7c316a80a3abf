"""The encoders by the first part of a recipe's `model`: a file each, and a line below.

Names only: the files import torch, and a recipe is read where torch may be missing.
"""

from difflib import get_close_matches

ENCODERS = {
    "vit_micro": "curation.media.encoders.embedded",
    "copy_micro": "curation.media.encoders.embedded",
    "timm": "curation.media.encoders.timm",
    "open_clip": "curation.media.encoders.open_clip",
    "torchscript": "curation.media.encoders.torchscript",
    "onnx": "curation.media.encoders.onnx",
}
PACKAGED = ("vit_micro", "copy_micro")
"""Encoders whose weights come with the package."""
WITH_TEXT = ("open_clip",)
"""Families that have a text tower, for `of: caption`."""
PROGRAMS = ("torchscript",)
"""Families whose weights file is a program: a recipe must say by its sum which one it trusts."""


def close_names(name: str, known: list[str]) -> str:
    """Say which known names are like one that is not."""
    near = get_close_matches(name, known, n=6, cutoff=0.5)
    return f"Close names: {', '.join(near)}" if near else f"There are {len(known)} others"


def check_model_name(model: str) -> str | None:
    """Say what is wrong with a recipe's `model`, or None."""
    family, _, rest = model.partition("/")
    if family not in ENCODERS:
        return (
            f"unknown encoder {model!r}. Valid: vit_micro and copy_micro (embedded), "
            "timm/<name of a timm model>, as in timm/vit_small_patch14_dinov2.lvd142m, "
            "open_clip/<architecture>[/<tag of the hub>], as in open_clip/ViT-B-32/laion2b_s34b_b79k, "
            "open_clip with a folder under weights, torchscript with an archive, or onnx with a file"
        )
    if family == "timm" and not rest:
        return "timm/ needs the name of a model, as in timm/vit_small_patch14_dinov2.lvd142m"
    if ":" in rest or (family == "timm" and "/" in rest):
        return (
            f"{rest!r} is no name that {family} itself has; repositories and folders are not named "
            "there. Download the model and name its folder under `weights`"
        )
    if family not in ("timm", "open_clip") and rest:
        return f"{family!r} takes no name after the slash"
    return None
