"""The blocks of an image in which it is compared."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.stages.verify.blocks import GRID, block_windows

MARGIN = 4
SIDE = st.integers(2 * GRID + 2 * MARGIN, 90)


@settings(max_examples=60, deadline=None)
@given(height=SIDE, width=SIDE, seed=st.integers(0, 99), level=st.sampled_from([0.0, 240.0]))
def test_windows_have_means_and_contrasts_of_their_pixels(
    height: int, width: int, seed: int, level: float
) -> None:
    values = level + np.random.default_rng(seed).normal(0, 5, (height, width)).astype(np.float32)
    covered = (values > level).astype(np.uint8)
    blocks = block_windows(values.shape, MARGIN)
    for windows in (blocks, blocks.enlarged(MARGIN)):
        assert len(windows.corners) == GRID**2
        parts = [values[part] for part in windows.slices()]
        assert {part.shape for part in parts} == {(windows.height, windows.width)}
        wanted = [part.std(dtype=np.float64) for part in parts]
        np.testing.assert_allclose(windows.contrasts(values), wanted, rtol=1e-6)
        shares = [covered[part].mean() for part in windows.slices()]
        assert windows.means(covered).tolist() == shares
