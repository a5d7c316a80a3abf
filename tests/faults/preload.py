"""Imports what a run imports, for processes that are forked from this one."""

import os
from importlib import import_module

# The work is small: threads that wait for each other would cost most of the time.
os.environ["OMP_NUM_THREADS"] = "1"

from curation.flow import STAGES

for _stage in STAGES.values():
    _stage.function.load()
for _name in ("vit_micro", "encoder", "packaged"):
    import_module(f"curation.media.encoders.{_name}")
for _name in ("cv2", "faiss", "obstore", "pandas", "PIL.Image", "scipy.sparse.csgraph", "torch"):
    import_module(_name)
