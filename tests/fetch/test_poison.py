"""A picture that ends the process that decodes it costs its own row, and the run goes on."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from curation.media.pictures import decoder
from curation.media.pictures.decoder_messages import Message
from curation.media.pictures.decoder_worker import Limits
from curation.media.web.fetch_error import FetchError
from curation.stages.fetch import decoding_times, sample_writer
from curation.stages.fetch.decoding_times import DecodingTimes
from tests.fetch.conftest import HOSTS, Web, answer
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


class _Slow(decoder.Decoder):
    """A decoder that waits for poisoned pictures, by a clock of its own."""

    def ask(self, request: Message, done: Any, otherwise: Message | None = None) -> None:
        if not request.content.startswith(b"POISON"):
            super().ask(request, done, otherwise)
            return
        self.waited_s = 20.0
        done(FetchError("decoder_timeout"))


def test_a_host_of_poisoned_pictures_does_not_keep_the_decoder_from_others(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample_writer, "Decoder", _Slow)
    good = [served(web, encoded(picture()) + bytes(n)) for n in range(8)]
    web.pages |= {f"/bad{n}": answer(b"POISON") for n in range(30)}
    bad = [web.url(f"/bad{n}", HOSTS[1]) for n in range(30)]
    reasons = Counter(row["reason"] for row in fetched(tmp_path, [*bad, *good]))
    assert reasons == {"decoder_timeout": 7, "host_too_slow": 23, None: 8}


@pytest.mark.parametrize("act", ["sleep", None])
def test_a_decoder_says_how_long_it_was_waited_for(act: str | None) -> None:
    waited: list[float] = []
    limits = Limits(2**28, 5, 1.0 if act else 60.0)
    with decoder.Decoder(poison.act, limits) as decoding:
        decoding.ask(Message({"act": act}, b"x"), lambda _: waited.append(decoding.waited_s))
    (seconds,) = waited
    assert seconds >= 0.9 if act else 0 < seconds < 30


def test_time_is_kept_for_hosts_whose_pictures_are_stored() -> None:
    times = DecodingTimes()
    times.note("slow.example", 10_000.0, is_stored=True)
    for _ in range(1_000):
        times.note("pages.example", 0.5, is_stored=False)
    assert times.may_decode("pages.example")
    for _ in range(6):
        assert times.may_decode("bad.example") and times.may_decode("slow.example")
        times.note("bad.example", 20.0, is_stored=False)
    refused = [times.may_decode("bad.example") for _ in range(3)]
    assert refused == [False, True, True]
    times.note("bad.example", 20.25, is_stored=False)
    assert [times.may_decode("bad.example") for _ in range(100)].index(True) == 81
    for _ in range(10):
        times.note("both.example", 5.0, is_stored=True)
    times.note("both.example", 129.5, is_stored=False)
    assert times.may_decode("both.example")
    times.note("both.example", 1.0, is_stored=False)
    assert not times.may_decode("both.example")
    for number in range(decoding_times.MAX_HOSTS + 5):
        times.note(f"h{number}.example", 0.1, is_stored=True)
    assert len(times._left) == decoding_times.MAX_HOSTS


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
