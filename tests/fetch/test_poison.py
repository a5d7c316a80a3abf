"""A picture that ends the process that decodes it costs its own row, and the run goes on."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import psutil
import pytest

from curation.media.pictures import decoder
from curation.media.pictures.decoder_worker import Limits
from curation.stages.fetch import sample_writer
from tests.fetch.conftest import Web
from tests.fetch.helpers import encoded, fetched, picture, served
from tests.pictures import poison

ACTS = {
    "segfault": "decoder_died",
    "sleep": "decoder_timeout",
    "memory": "decoder_memory",
    "error": "error_KeyError",
}


def test_poisoned_pictures_are_reasons_and_the_others_are_stored(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample_writer, "store_picture", poison.store_picture)
    monkeypatch.setattr(decoder, "Limits", lambda: Limits(2**28, 5, 5.0))
    plain, expected, urls = encoded(picture()), [], []
    for act, reason in ACTS.items():
        urls += [served(web, f"POISON {act}".encode()), served(web, plain + act.encode())]
        expected += [reason, None]
    rows = fetched(tmp_path, urls)
    assert [row["reason"] for row in rows] == expected
    assert {row["image"] for row in rows if row["status"] == "ok"} == {plain}
    assert all(row["sha256"] and row["bytes"] for row in rows)
    # Nobody is asked twice for a picture, and no process is left over.
    assert len(list(web.requests)) == len(urls)
    assert len(running_decoders()) <= 8


def running_decoders() -> list[int]:
    """Return the decoders among the processes that this one has started."""
    decoders = []
    for child in psutil.Process(os.getpid()).children(recursive=True):
        # Spark's workers and others of this process may end meanwhile.
        with contextlib.suppress(psutil.NoSuchProcess):
            if any("decoder_worker" in word for word in child.cmdline()):
                decoders.append(child.pid)
    return decoders


def test_metadata_becomes_columns_of_images(web: Web, tmp_path: Path) -> None:
    from tests.pictures.metadata_files import SECRET, jpeg

    (row,) = fetched(tmp_path, [served(web, jpeg())], keep_metadata=["camera"], opt_out_signals=[])
    assert row["data_mining"] == "DMI-PROHIBITED-AIMLTRAINING"
    assert row["has_c2pa"] and row["credit"] == "Credit Line" and "© Iptc" in row["rights"]
    assert row["kept_metadata"] == '{"camera": "Canon; EOS"}'
    assert SECRET.encode() not in row["image"]
