"""What a pickle of weights would make, before anything is made of it.

The unpickler of torch makes only plain values, but as many as a file asks for: a byte may make a list.
And it never ends to hash a key that is a tuple of two tuples, sixty times over.
"""

from __future__ import annotations

import pickletools
from typing import IO, Any

MAX_STEPS = 2_000_000
"""Steps of the pickles of a file, and parts of a tuple: a tensor takes about forty."""
_TUPLES = ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "FROZENSET")
_GETS = ("GET", "BINGET", "LONG_BINGET")
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")
_MARK = 0


class TooManyStepsError(ValueError):
    """A pickle makes more than a state dict needs."""


def check_steps(stream: IO[bytes], pickles: int) -> None:
    """Check pickles that follow on each other. Nothing is made of them.

    Args:
        stream: begins with them.
        pickles: their number.

    Raises:
        TooManyStepsError: they make too much.
        ValueError: they are no pickles.
    """
    left = MAX_STEPS
    for _ in range(pickles):
        left = _check(stream, left)


def _check(stream: IO[bytes], left: int) -> int:
    """Check one pickle; return how many steps are left."""
    sizes: list[int] = []
    known: dict[Any, int] = {}
    for step, argument, _ in pickletools.genops(stream):
        left -= 1
        if step.name == "MEMOIZE":
            known[len(known)] = sizes[-1] if sizes else 1
        elif step.name in _PUTS:
            known[argument] = sizes[-1] if sizes else 1
        elif step.name in _GETS:
            sizes.append(known.get(argument, 1))
        elif step.name == "MARK":
            sizes.append(_MARK)
        elif step.name == "DUP":
            sizes.append(sizes[-1] if sizes else 1)
        else:
            taken = _take(sizes, step)
            made = 1 + sum(taken) if step.name in _TUPLES else 1
            sizes.extend([made] * len(step.stack_after))
            left = left if made <= MAX_STEPS else 0
        if left <= 0:
            raise TooManyStepsError(
                f"it makes more than {MAX_STEPS:,} values, as no state dict does"
            )
    return left


def _take(sizes: list[int], step: pickletools.OpcodeInfo) -> list[int]:
    """Take what a step takes from the stack, and return it."""
    taken: list[int] = []
    count = len(step.stack_before)
    if pickletools.markobject in step.stack_before:
        while sizes and (size := sizes.pop()) != _MARK:
            taken.append(size)
        count = step.stack_before.index(pickletools.markobject)
    if count:
        taken += sizes[-count:]
        del sizes[-count:]
    return taken
