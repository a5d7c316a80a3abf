"""Turns the file of a row into its stored image. This runs in the process that decodes pictures."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from curation.errors import CurationError
from curation.media.pictures.decoder_messages import Header, Message, reason_of
from curation.media.pictures.jpeg import MANY_SCANS, frame_size, scans_of
from curation.media.pictures.metadata.columns import metadata_columns
from curation.media.pictures.metadata.content_credentials import (
    NO_MANIFESTS,
    UNREADABLE,
    Manifests,
    may_have_manifest,
    read_manifests,
)
from curation.media.pictures.upright import UprightImage, decode_error, make_upright
from curation.media.web.fetch_error import FetchError
from curation.media.web.opt_outs.data_mining import data_mining_opt_out
from curation.media.web.opt_outs.signals import OptOutError, is_opt_out_json
from curation.media.web.opt_outs.training_mining import training_mining_opt_out
from curation.stages.fetch.faces import Box, check_boxes, find_faces, listed_boxes
from curation.stages.fetch.params import FetchParams
from curation.stages.fetch.stored_image import MAX_SIDE, store_image

COLUMNS: dict[str, type] = {
    "format": str,
    "original_width": int,
    "original_height": int,
    "width": int,
    "height": int,
    "faces_blurred": int,
    "data_mining": str,
    "opt_out": str,
    "rights": str,
    "credit": str,
    "has_c2pa": bool,
    "kept_metadata": str,
}
"""The columns of `images` that a picture gives, and the types of their values."""
_OF_STORED = frozenset(COLUMNS) - {"data_mining", "opt_out", "rights", "credit", "kept_metadata"}
_MAX_NUMBER = 2**31 - 1
MAX_CAUSE = 200
MAX_TEXT = 16_000
"""Longest text of a column in characters."""
_IS_UNREADABLE = "manifests_are_unreadable"
_DECISIVE = (
    "max_pixels",
    "formats",
    "resize",
    "quality",
    "faces",
    "keep_metadata",
    "opt_out_signals",
)


def header_of(params: FetchParams) -> Header:
    """Return what `store_picture` must know of a recipe; the `faces` of the row are to be added."""
    return {"params": params.model_dump_json(include=set(_DECISIVE))}


def header_without_manifests(header: Header, content: bytes) -> Header | None:
    """Return the header for a picture whose manifests may have ended the process.

    None where none are read, so that something else has.
    """
    asked = _params(header["params"]).manifest_fields and may_have_manifest(content)
    return header | {_IS_UNREADABLE: True} if asked else None


def columns_of(answer: Message) -> dict[str, Any]:
    """Return the columns of an answer, and its `reason`, as far as tables can hold them.

    A decoder that a picture has taken over may answer anything.
    """
    columns, reason = answer.header.get("columns"), answer.header.get("reason")
    given: dict[str, Any] = columns if isinstance(columns, dict) else {}
    valid = {name: given[name] for name, kind in COLUMNS.items() if _is(given.get(name), kind)}
    if not is_opt_out_json(valid.get("opt_out", "")):
        valid.pop("opt_out", None)
    return valid | {"reason": None if reason is None else reason_of(reason)}


def is_stored(answer: Message, sample: dict[str, Any], max_pixels: int) -> bool:
    """Whether an answer without a reason has a stored image, and the columns that each of them has.

    Later stages decode it without limits: it is a JPEG of the size that the columns say, and of few
    scans, each of which may take as long as all pixels.
    """
    if any(sample[name] is None for name in _OF_STORED):
        return False
    width, height = sample["width"], sample["height"]
    if width * height > max_pixels or frame_size(answer.content) != (width, height):
        return False
    try:
        return scans_of(answer.content) <= MANY_SCANS
    except FetchError:
        return False


def detail_of(answer: Message) -> str | None:
    """Return the kind and text of an exception that nothing foresaw, if there was one."""
    error = answer.header.get("error")
    return _unicode(error[:MAX_CAUSE]) if isinstance(error, str) else None


def _is(value: object, kind: type) -> bool:
    if isinstance(value, str):
        return kind is str and len(value) <= MAX_TEXT and _unicode(value) == value
    if isinstance(value, bool) or not isinstance(value, int):
        return type(value) is kind
    return kind is int and 0 <= value <= _MAX_NUMBER


def _unicode(text: str) -> str:
    """Return a text without halves of surrogate pairs, which no table can hold."""
    return text.encode("utf-8", "backslashreplace").decode()


def store_picture(header: Header, content: bytes) -> Message:
    """Return the stored image of a file, with COLUMNS as far as they are known, and the `reason`.

    Args:
        header: see `header_of`, and `faces`: boxes as JSON, as the table `pairs` has them.
        content: bytes of the file, not trusted.

    Raises:
        RecipeError: a plug-in is not installed, or the weights of the detector are invalid.
    """
    columns: dict[str, Any] = {}
    try:
        stored = _store(header, content, columns)
    except FetchError as error:
        return Message({"columns": columns, "reason": error.reason}, b"")
    except CurationError:
        raise
    except Exception as error:
        # A picture costs at most its own row, whatever a library makes of it.
        return Message({"columns": columns} | _unforeseen(error), b"")
    return Message({"columns": columns, "reason": None}, stored)


def _unforeseen(error: Exception) -> Header:
    """Return the reason, with the kind of the exception, and its text."""
    is_memory = decode_error(error).reason == "decoder_memory"
    reason = "decoder_memory" if is_memory else f"error_{type(error).__name__}"
    return {"reason": reason, "error": repr(error)[:MAX_CAUSE]}


@lru_cache(maxsize=1)
def _params(text: str) -> FetchParams:
    return FetchParams.model_validate_json(text)


def _store(header: Header, content: bytes, columns: dict[str, Any]) -> bytes:
    params = _params(header["params"])
    image = make_upright(content, params.max_pixels, params.formats)
    columns |= {
        "format": image.format,
        "original_width": image.width,
        "original_height": image.height,
    }
    manifests = _manifests(header, params, content, image.format)
    columns |= metadata_columns(content, image.format, params.keep_metadata, manifests)
    opt_out = data_mining_opt_out(
        columns["data_mining"], params.opt_out_signals
    ) or training_mining_opt_out(manifests.permissions, params.opt_out_signals)
    if opt_out is not None:
        columns["opt_out"] = opt_out.as_json()
        raise OptOutError(opt_out)
    _check_sides(image, params)
    boxes = _boxes(image, header.get("faces"), params)
    stored = store_image(image, boxes, params)
    columns |= {"width": stored.width, "height": stored.height, "faces_blurred": len(boxes)}
    return stored.content


def _manifests(header: Header, params: FetchParams, content: bytes, kind: str) -> Manifests:
    if not params.manifest_fields:
        return NO_MANIFESTS
    return UNREADABLE if header.get(_IS_UNREADABLE) else read_manifests(content, kind)


def _boxes(image: UprightImage, faces: str | None, params: FetchParams) -> list[Box]:
    """Return the faces to blur: those of the list, and those of the detector."""
    listed = listed_boxes(faces, image.orientation) if params.faces.listed else []
    boxes = listed + find_faces(image.pixels, params.faces)
    check_boxes(boxes)
    return boxes


def _check_sides(image: UprightImage, params: FetchParams) -> None:
    """Raise an error for an image with a side too long for a JPEG, or too short when it is stored."""
    long, short = sorted((image.width, image.height), reverse=True)
    shrinks = params.resize.mode == "keep_ratio_largest"
    scale = min(1.0, params.resize.size / long) if shrinks else 1.0
    if long > MAX_SIDE or short * scale < 1:
        raise FetchError("bad_dimensions")
