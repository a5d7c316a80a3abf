"""The edit makes a file of its own of an image."""

import io

import numpy as np
from PIL import Image

from curation.inspect.audit.edits import EDITS, apply_edit

image = Image.fromarray(np.full((40, 60, 3), (250, 20, 100), np.uint8))
assert EDITS["negative"].strength == "hard"
copy = Image.open(io.BytesIO(apply_edit(image, "negative", "a" * 32, 0)))
np.testing.assert_allclose(np.asarray(copy)[20, 30], (5, 235, 155), atol=4)
