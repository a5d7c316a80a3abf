"""A version that is computed anew gets the name that it had."""

from __future__ import annotations

from dataclasses import replace

from curation.store.manifest import version_of

from ..tables import hand_made


def test_measured_times_do_not_name_a_version() -> None:
    manifest = hand_made("matches", "", [], {})
    names = {
        version_of(replace(manifest, stats={"recall": recall, "search_seconds": seconds}))
        for recall in (0.9, 1.0)
        for seconds in (0.1, 0.2)
    }
    assert len(names) == 2
