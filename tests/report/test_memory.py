"""The report of many copies takes memory that does not grow with them."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from unittest.mock import patch

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from curation.inspect.report import key_counts
from curation.inspect.report.copies import (
    LARGEST_GROUPS,
    LARGEST_SIZES,
    OTHER_GROUPS,
    choose_groups,
)
from curation.inspect.report.key_counts import KeyCounts

# Few different keys, over all ranges.
KEYS = st.lists(st.integers(0, 40).map(lambda n: n * (2**64 // 41)), max_size=120)


@given(st.lists(KEYS, max_size=4), st.sampled_from([30, 10_000]))
def test_groups_are_those_of_a_count_in_memory(parts: list[list[int]], in_memory: int) -> None:
    with patch.object(key_counts, "KEYS_IN_MEMORY", in_memory), KeyCounts() as sizes:
        for part in parts:
            sizes.add(np.array(part, np.uint64))
        got = choose_groups(sizes)
        assert choose_groups(sizes) == got
    expected = Counter(key for part in parts for key in part)
    by_size = sorted(expected, key=lambda key: (-expected[key], key))
    others = sorted(by_size[LARGEST_GROUPS:])[:OTHER_GROUPS]
    assert (got.count, got.copies) == (len(expected), sum(expected.values()))
    assert got.largest == [expected[key] for key in by_size[:LARGEST_SIZES]]
    assert list(got.shown) == by_size[:LARGEST_GROUPS] + others
    assert all(got.shown[key] == expected[key] for key in got.shown)


def test_twenty_million_copies_are_counted_within_a_limit_of_memory(root: Path) -> None:
    """They and their counts would take 700 MB; 200 MB are all that there is besides what is loaded."""
    code = """
import resource
import numpy as np
from curation.inspect.report import key_counts
from curation.inspect.report.copies import choose_groups
from curation.inspect.report.key_counts import KeyCounts
loaded = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (loaded + 200 * 2**20,) * 2)
rng = np.random.default_rng(0)
with KeyCounts() as sizes:
    for _ in range(200):
        sizes.add(np.repeat(rng.integers(0, 2**64, 50_000, dtype=np.uint64), 2))
    groups = choose_groups(sizes)
print(groups.count, groups.copies)
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["10000000", "20000000"]
