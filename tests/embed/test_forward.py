"""Batches of one shape across rows without an image, out of memory, and prefetching."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from curation.errors import RecipeError
from curation.media.encoders.encoder import Encoder, load_encoder
from curation.media.encoders.forward import BatchEncoder, encode, prefetch
from curation.media.encoders.params import EncoderSpec
from curation.stages.embed.stage import windows

from .pictures import pictures


class LimitedMemory(torch.nn.Module):
    """Mean colours, on a device with memory for few images."""

    def __init__(self, max_rows: int) -> None:
        super().__init__()
        self.max_rows = max_rows
        self.shapes: list[int] = []

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        self.shapes.append(len(pixels))
        if len(pixels) > self.max_rows:
            raise torch.OutOfMemoryError("out of memory")
        return pixels.float().mean(dim=(2, 3))


def limited(rows: int) -> Encoder:
    return Encoder(
        LimitedMemory(rows), torch.as_tensor, torch.zeros((3, 4, 4), dtype=torch.uint8), 3, {}
    )


def pixels(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(1, 255, (3, 4, 4), dtype=np.uint8) for _ in range(count)]


def test_after_out_of_memory_it_continues_with_half_the_rows(
    caplog: pytest.LogCaptureFixture,
) -> None:
    encoder = limited(3)
    vectors, valid = encode(encoder, pixels(20), 16, "cpu")
    expected, _ = encode(limited(16), pixels(20), 16, "cpu")
    assert valid.all()
    np.testing.assert_array_equal(vectors, expected)
    # 16, 8 and 4 rows do not fit; 2 do, and the second batch, of 4 rows, begins with 2.
    assert encoder.model.shapes == [16, 8, 4] + [2] * (8 + 2)
    assert "continuing with 2 rows per call" in caplog.text
    with pytest.raises(torch.OutOfMemoryError):
        encode(limited(0), pixels(3), 2, "cpu")


@pytest.mark.parametrize(("batch", "expected"), [(16, [4] * 5), (6, [6, 6, 6])])
def test_a_cpu_gets_as_many_rows_a_call_as_the_encoder_says_and_none_that_only_fill_up(
    batch: int, expected: list[int]
) -> None:
    """Every call has the same shape, also where that needs a whole batch."""
    encoder = replace(limited(16), cpu_rows=4)
    vectors, valid = encode(encoder, pixels(17), batch, "cpu")
    assert encoder.model.shapes == expected and valid.all()
    whole, _ = encode(limited(32), pixels(17), 32, "cpu")
    np.testing.assert_array_equal(vectors, whole)


@pytest.mark.parametrize("model", ["vit_micro", "copy_micro"])
def test_packaged_encoders_give_the_bits_of_a_whole_batch(model: str) -> None:
    encoder = load_encoder(EncoderSpec(model=model), "cpu")
    assert encoder.cpu_rows is not None
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (80, 60 + n, 3), np.uint8) for n in range(19)]
    vectors, _ = encode(encoder, images, 2 * encoder.cpu_rows, "cpu")
    whole, _ = encode(replace(encoder, cpu_rows=None), images, 64, "cpu")
    np.testing.assert_array_equal(vectors, whole)


def test_batches_are_filled_across_rows_without_an_image() -> None:
    encoder = limited(8)
    batches = BatchEncoder(encoder, 40, 8, "cpu")
    rows = list(range(0, 40, 3))
    for row, image in zip(rows, pixels(len(rows)), strict=True):
        batches.add(row, torch.as_tensor(image))
    vectors, valid = batches.finish()
    assert np.flatnonzero(valid).tolist() == rows
    assert not vectors[~valid].any()
    assert encoder.model.shapes == [8, 8]
    expected, _ = encode(limited(8), pixels(len(rows)), 8, "cpu")
    np.testing.assert_array_equal(vectors[valid], expected)


def test_prefetching_is_limited_and_in_order() -> None:
    started, gate, six = [], threading.Event(), threading.Semaphore(0)

    def prepare(number: int) -> int:
        started.append(number)
        six.release()
        if number == 0:
            gate.wait(60)
        return number

    with ThreadPoolExecutor(8) as pool:
        results = prefetch(pool, prepare, iter(range(50)), depth=6)
        first: list[int] = []
        reader = threading.Thread(target=lambda: first.append(next(results)))
        reader.start()
        for _ in range(6):
            assert six.acquire(timeout=60)
        assert sorted(started) == list(range(6))
        gate.set()
        reader.join(60)
        assert first + list(results) == list(range(50))
    assert list(prefetch(None, prepare, range(3), depth=2)) == [0, 1, 2]


def test_windows_are_limited_in_rows_and_bytes() -> None:
    small = pa.record_batch({"image": [b"x" * 10] * 4})
    large = pa.record_batch({"image": [b"x" * 600] * 4})
    batches = [small, small, small, large, large, small]
    limited = list(windows(iter(batches), rows=8, size=4000))
    # Two small batches fill eight rows; a large one leaves no bytes for another.
    assert [[len(b) for b in window] for window in limited] == [[4, 4], [4, 4], [4, 4]]
    assert [b for window in limited for b in window] == batches
    (alone, rest) = windows(iter([large, small]), rows=8, size=1)
    assert (alone, rest) == ([large], [small])
    assert not list(windows(iter([]), rows=8, size=1))


def test_half_precision_is_close_and_in_the_identity() -> None:
    images = pictures(6)
    plain = load_encoder(EncoderSpec(model="vit_micro"), "cpu")
    half = load_encoder(EncoderSpec(model="vit_micro", precision="bf16"), "cpu")
    a, b = (encode(e, images, 4, "cpu")[0].astype(float) for e in (plain, half))
    assert (a * b).sum(axis=1).min() > 0.999
    assert not np.array_equal(a, b)
    assert half.identity == plain.identity | {"precision": "bf16"}
    with pytest.raises(ValueError, match="torchscript takes no `precision`"):
        EncoderSpec(model="torchscript", weights="w", input_size=32, precision="bf16")


def test_an_encoder_whose_parts_do_not_fit_together_is_refused() -> None:
    """(n, 1) would be repeated over the vector, one channel over all, and floats cut to bytes."""
    single = replace(limited(8), dim=5)
    with pytest.raises(RecipeError, match=r"model .* returns float32 \(3, 3\).*features \(n, 5\)"):
        encode(single, pixels(3), 3, "cpu")
    grey, floats = torch.zeros((1, 4, 4), dtype=torch.uint8), torch.zeros((3, 4, 4))
    for other in (
        replace(limited(8), preprocess=lambda _: grey),
        replace(limited(8), preprocess=lambda _: floats),
    ):
        with pytest.raises(RecipeError, match=r"preprocess .* gives uint8 \(3, 4, 4\)"):
            encode(other, pixels(3), 3, "cpu")
