"""Metadata of HEIC and JPEG XL, which the plug-ins of Pillow write and read."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from curation.media.pictures.formats import pillow_formats
from curation.media.pictures.metadata.columns import metadata_columns
from curation.media.pictures.plug_ins import PLUG_INS
from curation.stages.fetch.params import FetchParams
from curation.stages.fetch.picture import header_of, store_picture
from tests.pictures.files import PICTURE, RGB, encode
from tests.pictures.metadata_files import ALL, PACKET, SECRET, exif


def file_of(kind: str, **options: Any) -> bytes:
    """A picture with EXIF, a place in it, and XMP; the test is skipped without the plug-in."""
    pytest.importorskip(PLUG_INS[kind].module)
    pillow_formats((kind,))
    options |= {"quality": 95, "exif": exif().tobytes(), "xmp": PACKET}
    content = encode(PICTURE, PLUG_INS[kind].name, **options)
    with Image.open(io.BytesIO(content)) as image:
        # The plug-in does not read what it has compressed.
        assert image.getexif().get_ifd(0x8825) or "compress_metadata" in options
    return content + SECRET.encode()


@pytest.mark.parametrize("size", [16, 512])
@pytest.mark.parametrize("kind", PLUG_INS)
def test_pictures_of_plug_ins_are_stored_without_metadata(kind: str, size: int) -> None:
    content = file_of(kind)
    recipe = FetchParams.model_validate(
        {"formats": [kind], "resize": {"size": size}, "opt_out_signals": []}
    )
    answer = store_picture(header_of(recipe), content)
    assert answer.header["reason"] is None
    with Image.open(io.BytesIO(answer.content)) as image:
        assert image.format == "JPEG"
        assert not image.getexif() and "xmp" not in image.info and "comment" not in image.info
        if size == 512:
            difference = np.asarray(image).astype(int) - RGB
            assert np.abs(difference).mean() < 6
    for text in (SECRET.encode(), b"DMI-", b"Exif", b"ICC_PROFILE"):
        assert text not in answer.content, text


@pytest.mark.parametrize("kind", PLUG_INS)
def test_opt_outs_in_pictures_of_plug_ins_are_read(kind: str) -> None:
    answer = store_picture(header_of(FetchParams(formats=[kind])), file_of(kind))
    assert answer.header["reason"] == "opted_out_data_mining" and answer.content == b""


def test_opt_outs_in_compressed_boxes_are_read() -> None:
    content = file_of("jxl", compress_metadata=True)
    assert b"brob" in content and b"rdf:RDF" not in content
    answer = store_picture(header_of(FetchParams(formats=["jxl"])), content)
    assert answer.header["reason"] == "opted_out_data_mining" and answer.content == b""
    columns = metadata_columns(content, "jxl", ALL)
    assert columns["credit"] is None and SECRET in str(columns["kept_metadata"])
