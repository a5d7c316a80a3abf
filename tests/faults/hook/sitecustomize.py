"""Python imports this module by itself in every process of a run, if its folder is on PYTHONPATH."""

import os

if "CURATION_FAULT" in os.environ:
    import fault_hook  # type: ignore[import-not-found]

    fault_hook.install()
