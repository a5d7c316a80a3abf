"""Units that one call computes together, because each of them would read all of a large table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from curation.engine.parallel import Parallel
from curation.engine.task_groups import split_by_size
from curation.engine.units import Unit

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

TASKS_PER_SLOT = 2
"""Tasks for each worker, if there are as many units, so that all workers have work to the end."""


def join_units(units: Sequence[Unit], parallel: Parallel) -> list[Unit]:
    """Return units that compute what some units compute, in few calls.

    Only what is missing is joined, so nothing that is finished is computed again for its neighbours.

    Args:
        units: those that are computed, in order; all of one function.
        parallel: the workers.
    """
    if not units or units[0].joint_call is None:
        return list(units)
    slots = parallel.gpu_slots if units[0].gpu else parallel.slots
    share = sum(map(_bytes_of, units)) // (TASKS_PER_SLOT * (slots or 1))
    at_most = min(units[0].joint_call.at_most, share)
    return [_joined(group) for group in split_by_size(units, _bytes_of, at_most)]


def _bytes_of(unit: Unit) -> int:
    return unit.joint_call.bytes if unit.joint_call else 0


def _joined(units: Sequence[Unit]) -> Unit:
    """Return one unit with the fragment of each of some units as an output, by the unit's name."""
    first, last = units[0], units[-1]
    by_unit = first.joint_call.by_unit if first.joint_call else ()
    mappings: dict[str, Any] = {
        name: {unit.name: unit.arguments[name] for unit in units} for name in by_unit
    }
    outputs = {}
    for unit in units:
        (output,) = unit.outputs.values()
        outputs[unit.name] = replace(output, name=unit.name)
    name = first.name if first is last else f"{first.name} to {last.name}"
    arguments = {**first.arguments, **mappings}
    return replace(first, name=name, arguments=arguments, outputs=outputs, joint_call=None)
