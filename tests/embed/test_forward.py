"""Passes of one shape over rows with gaps, out of memory, and what is prepared ahead."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest
import torch

from curation.media.encoders.encoder import Encoder, load_encoder
from curation.media.encoders.forward import Passes, ahead, encode
from curation.media.encoders.params import EncoderSpec
from curation.stages.embed.stage import windows

from .test_embed import pictures


class Tight(torch.nn.Module):
    """Mean colours, on a device that has room for a few pictures."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room, self.shapes = room, []

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        self.shapes.append(len(pixels))
        if len(pixels) > self.room:
            raise torch.OutOfMemoryError("no room")
        return pixels.float().mean(dim=(2, 3))


def tight(room: int) -> Encoder:
    return Encoder(Tight(room), torch.as_tensor, torch.zeros((3, 4, 4), dtype=torch.uint8), 3, {})


def given(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(1, 255, (3, 4, 4), dtype=np.uint8) for _ in range(count)]


def test_out_of_memory_halves_what_goes_at_once_and_goes_on(caplog):
    encoder = tight(3)
    found, valid = encode(encoder, given(20), 16, "cpu")
    expected, _ = encode(tight(16), given(20), 16, "cpu")
    assert valid.all()
    np.testing.assert_array_equal(found, expected)
    # 16, 8 and 4 do not fit; then 2 at once, and no larger try in the second pass.
    assert encoder.model.shapes == [16, 8, 4] + [2] * 16
    assert "going on with 2 rows at once" in caplog.text
    with pytest.raises(torch.OutOfMemoryError):
        encode(tight(0), given(3), 2, "cpu")


def test_batches_are_filled_across_rows_without_a_picture():
    encoder = tight(8)
    passes = Passes(encoder, 40, 8, "cpu")
    rows = list(range(0, 40, 3))
    for row, picture in zip(rows, given(len(rows)), strict=True):
        passes.add(row, torch.as_tensor(picture))
    vectors, valid = passes.finish()
    assert np.flatnonzero(valid).tolist() == rows
    assert not vectors[~valid].any()
    assert encoder.model.shapes == [8, 8]
    expected, _ = encode(tight(8), given(len(rows)), 8, "cpu")
    np.testing.assert_array_equal(vectors[valid], expected)


def test_what_is_prepared_ahead_is_bounded_and_in_order():
    begun, gate, six = [], threading.Event(), threading.Semaphore(0)

    def prepare(number: int) -> int:
        begun.append(number)
        six.release()
        if number == 0:
            gate.wait(60)
        return number

    with ThreadPoolExecutor(8) as pool:
        found = ahead(pool, prepare, iter(range(50)), depth=6)
        first: list[int] = []
        reader = threading.Thread(target=lambda: first.append(next(found)))
        reader.start()
        for _ in range(6):
            assert six.acquire(timeout=60)
        assert sorted(begun) == list(range(6))
        gate.set()
        reader.join(60)
        assert first + list(found) == list(range(50))
    assert list(ahead(None, prepare, range(3), depth=2)) == [0, 1, 2]


def test_windows_are_bounded_in_rows_and_bytes():
    small = pa.record_batch({"image": [b"x" * 10] * 4})
    large = pa.record_batch({"image": [b"x" * 600] * 4})
    batches = [small, small, small, large, large, small]
    found = list(windows(iter(batches), rows=8, size=4000))
    # Two small ones fill eight rows; a large one takes more bytes than there is room for beside it.
    assert [[len(b) for b in window] for window in found] == [[4, 4], [4, 4], [4, 4]]
    assert [b for window in found for b in window] == batches
    (alone, rest) = windows(iter([large, small]), rows=8, size=1)
    assert (alone, rest) == ([large], [small])
    assert not list(windows(iter([]), rows=8, size=1))


def test_half_precision_is_near_and_tells_itself_apart():
    images = pictures(6)
    plain = load_encoder(EncoderSpec(model="vit_micro"), "cpu")
    half = load_encoder(EncoderSpec(model="vit_micro", precision="bf16"), "cpu")
    a, b = (encode(e, images, 4, "cpu")[0].astype(float) for e in (plain, half))
    assert (a * b).sum(axis=1).min() > 0.999
    assert not np.array_equal(a, b)
    assert half.identity == plain.identity | {"precision": "bf16"}
    with pytest.raises(ValueError, match="computes as its file says"):
        EncoderSpec(model="torchscript", weights="w", input_size=32, precision="bf16")
