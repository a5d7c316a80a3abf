"""Runs many schedules, on several processes:

    python -m tests.simulation --first 0 --schedules 10000 --processes 2

It prints the seed and the error of each schedule that fails, how far it is, and ends with status 1 if
one fails. A schedule runs again, alone and the same, with `--first SEED --schedules 1`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from .schedules import run_schedules

CHUNK = 50
"""Schedules that a process gets at a time."""
SHOWN_EVERY = 500
ORDER_OF_SETS = "0"
"""Sets are gone through in the same order in each process, so that a seed gives one schedule."""


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; return 1 if a schedule failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--schedules", type=int, default=10_000, help="the number of seeds")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args(arguments)
    os.environ.setdefault("PYTHONHASHSEED", ORDER_OF_SETS)
    begun, total, failed = time.monotonic(), Counter[str](), 0
    end = options.first + options.schedules
    chunks = [range(s, min(s + CHUNK, end)) for s in range(options.first, end, CHUNK)]
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        for happened, problems in pool.map(run_schedules, chunks):
            total += happened
            failed += len(problems)
            print(*problems, sep="\n", end="\n" if problems else "", flush=True)
            if total["schedules"] % SHOWN_EVERY == 0:
                seconds = time.monotonic() - begun
                print(f"{total['schedules']:,} schedules in {seconds:.0f} s", flush=True)
    seconds = time.monotonic() - begun
    for name, count in sorted(total.items()):
        print(f"{name:<28}{count:>9,}")
    print(f"{failed} failed; {seconds:.0f} s, {options.schedules / seconds:.1f} schedules a second")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
