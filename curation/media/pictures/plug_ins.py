"""Plug-ins of Pillow that read more formats.

This imports neither Pillow nor the plug-ins: recipes are also read where they are missing.
"""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple

from curation.errors import Detail, RecipeError


class PlugIn(NamedTuple):
    """A package that adds a format to Pillow.

    Attributes:
        extra: of this project; it installs the package.
        module: is imported to add the format.
        register: function of the module that adds it; None if the import does.
        name: of the format in Pillow.
    """

    extra: str
    module: str
    register: str | None
    name: str


PLUG_INS = {
    "heic": PlugIn("heif", "pillow_heif", "register_heif_opener", "HEIF"),
    "jxl": PlugIn("jxl", "pillow_jxl", None, "JXL"),
}
"""By the format that the table `images` gives."""


def add_format(kind: str) -> None:
    """Let Pillow read a format of PLUG_INS.

    Raises:
        RecipeError: its package is not installed.
    """
    plug_in = PLUG_INS[kind]
    try:
        module = import_module(plug_in.module)
    except ImportError as error:
        raise RecipeError(
            Detail(
                f"`fetch.formats` lists {kind}, but the package that reads it cannot be imported "
                f"({error})",
                "fetch.formats",
                kind,
                fix="Install it on every machine of the run with `pip install "
                f"'curation[{plug_in.extra}]'`, or remove {kind} from `fetch.formats`; its files then "
                f"have the reason format_{kind}",
            )
        ) from error
    if plug_in.register:
        getattr(module, plug_in.register)()
