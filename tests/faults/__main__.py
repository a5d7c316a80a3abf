"""Runs many cases:

    python -m tests.faults --first 0 --cases 150

It prints each case that fails, then a table of faults and workers. A case runs again, alone and the
same, with `--first SEED --cases 1`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .cases import WORKERS, case_of
from .world import built_world, run_case


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; return 1 if a case failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--cases", type=int, default=150, help="the number of seeds")
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--workers", choices=WORKERS, help="instead of those of the seeds")
    options = parser.parse_args(arguments)
    begun = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="curation-faults-") as folder,
        built_world(Path(folder)) as world,
    ):
        seeds = range(options.first, options.first + options.cases)
        cases = [case_of(seed, world.operations, options.workers) for seed in seeds]
        with ThreadPoolExecutor(options.at_once) as pool:
            problems = dict(
                zip(cases, pool.map(lambda case: run_case(world, case), cases), strict=True)
            )
    for case, problem in problems.items():
        if problem:
            print(f"{case}: {problem}")
    counts = Counter((case.fault, case.workers, case.store) for case in cases)
    print("| fault | workers | store | cases | failed |\n|---|---|---|---|---|")
    for (fault, workers, store), count in sorted(counts.items()):
        failed = sum(
            bool(p) and (c.fault, c.workers, c.store) == (fault, workers, store)
            for c, p in problems.items()
        )
        print(f"| {fault} | {workers} | {store} | {count} | {failed} |")
    failures = sum(map(bool, problems.values()))
    print(f"{failures} of {len(cases)} failed; {time.monotonic() - begun:.0f} s")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
