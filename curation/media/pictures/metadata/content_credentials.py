"""What the manifests of C2PA in a picture say of training and data mining.

The library of C2PA reads them. It requests nothing, and judges no signature: nobody here knows who may
sign for a picture, and a forged prohibition keeps a picture out and lets none in.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from contextlib import chdir
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from curation.errors import Detail, RecipeError
from curation.media.pictures.metadata.texts import clean_text
from curation.media.web.opt_outs.training_mining import Permission

MAX_PERMISSIONS = 20
"""Uses of one picture that are kept."""
MAX_CHARACTERS = 200
"""Characters of each name, value and constraint that are kept."""
_MODULE = "c2pa"
_MARK = b"c2pa"
"""The label of the box that holds the manifests, in every format."""
_LABEL = re.compile(r"(c2pa|cawg)\.training-mining(\.v\d+)?(__\d+)?")
_NOT_HERE = ("ManifestNotFound", "Remote")
"""How messages of the library begin if a picture has no manifest, or one that is on the web."""
_CONSTRAINTS = ("constraint_info", "constraints_info")
_TYPES = {
    kind: f"image/{kind}" for kind in ("jpeg", "png", "webp", "gif", "tiff", "avif", "heic", "jxl")
}
"""Media types that the library reads, by the format in the table `images`."""
_SETTINGS = {
    "verify": {
        "verify_after_reading": False,
        "verify_trust": False,
        "verify_timestamp_trust": False,
        "ocsp_fetch": False,
        "remote_manifest_fetch": False,
    },
    "core": {
        "decode_identity_assertions": False,
        # No host, whatever else of a manifest a version of the library may want to request.
        "allowed_network_hosts": [],
        "max_decompressed_manifest_size_in_mb": 32,
    },
}


class Manifests(NamedTuple):
    """What the manifests in a picture say.

    Attributes:
        permissions: what is allowed and forbidden; what forbids training comes first.
        is_unreadable: whether there is a manifest that cannot be read.
    """

    permissions: tuple[Permission, ...] = ()
    is_unreadable: bool = False


NO_MANIFESTS = Manifests()
UNREADABLE = Manifests(is_unreadable=True)


def missing_library(place: str) -> Detail | None:
    """Return what is wrong if the library of C2PA is not installed here.

    Args:
        place: the field of the recipe that asks for it.
    """
    return None if find_spec(_MODULE) is not None else _problem(place, "it is not installed")


def may_have_manifest(content: bytes) -> bool:
    """Whether a file may hold a manifest."""
    return _MARK in content


def read_manifests(content: bytes, kind: str) -> Manifests:
    """Return what all manifests in a picture say.

    Args:
        content: the file, not trusted.
        kind: its format, as in the table `images`.

    Raises:
        RecipeError: the library is not installed, or does not work here.
    """
    if kind not in _TYPES or not may_have_manifest(content):
        return NO_MANIFESTS
    library, context = _loaded()
    try:
        with library.Reader(_TYPES[kind], io.BytesIO(content), context=context) as reader:
            manifests = json.loads(reader.json())["manifests"]
        permissions = set(_permissions(manifests))
    except Exception as error:
        # Whatever the library makes of a manifest, it costs no picture its row.
        return NO_MANIFESTS if str(error).startswith(_NOT_HERE) else UNREADABLE
    ordered = sorted(permissions, key=lambda each: (not each.forbids, each.signal is None, each))
    return Manifests(tuple(ordered[:MAX_PERMISSIONS]))


def _permissions(manifests: dict[str, Any]) -> Iterator[Permission]:
    """Yield what each manifest says: that of the picture, and those of pictures it was made from."""
    for manifest in manifests.values():
        for assertion in manifest.get("assertions", ()):
            data = assertion.get("data")
            if _LABEL.fullmatch(assertion["label"]) and isinstance(data, dict):
                # The first schema of CAWG had no `entries`.
                yield from _entries(data.get("entries", data))


def _entries(entries: Any) -> Iterator[Permission]:
    for use, entry in entries.items() if isinstance(entries, dict) else ():
        if isinstance(entry, dict) and isinstance(entry.get("use"), str):
            given = (entry[name] for name in _CONSTRAINTS if isinstance(entry.get(name), str))
            yield Permission(*map(_short, (use, entry["use"], next(given, ""))))


def _short(text: str) -> str:
    return clean_text(text)[:MAX_CHARACTERS]


@cache
def _loaded() -> tuple[Any, Any]:
    """Return the library, and its settings.

    Raises:
        RecipeError: it is not installed, or does not work here.
    """
    spec = find_spec(_MODULE)
    if spec is None or spec.origin is None:
        raise RecipeError(_problem("fetch", "it is not installed"))
    try:
        # The library looks for its shared object in the current folder first, and loads any it finds.
        with chdir(Path(spec.origin).parent):
            import c2pa
        return c2pa, c2pa.Context.from_dict(_SETTINGS)
    except Exception as error:
        raise RecipeError(_problem("fetch", str(error))) from error


def _problem(place: str, cause: str) -> Detail:
    return Detail(
        f"training_mining is asked for, but the package that reads manifests of C2PA cannot be "
        f"imported ({cause})",
        place,
        "training_mining",
        fix="Install it on every machine of the run with `pip install 'curation[c2pa]'`, or remove "
        f"training_mining from `{place}`",
    )
