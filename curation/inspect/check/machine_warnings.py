"""What in a recipe does not fit the machine: one function for each kind of warning."""

from __future__ import annotations

from collections.abc import Iterator

from curation.inspect.check.findings import Facts, Finding

MEMORY_SHARE = 0.8
"""Share of the memory that a run may plan for."""
SLOW = 2
"""How many times as long as in fp32 a layer may take in the precision of an encoder."""


def slow_precisions(facts: Facts) -> Iterator[Finding]:
    """Yield the encoders whose precision makes the processor slower, not faster."""
    for name, spec in facts.recipe.embed.encoders.items():
        times = facts.slow_precisions.get(spec.precision, 0)
        if times > SLOW:
            yield Finding(
                "slow_precision",
                f"embed.encoders.{name}.precision",
                f"this machine has no GPU, and a layer takes {times:,.0f} times as long in "
                f"{spec.precision} as in fp32",
                "Set precision: fp32, or run `embed` on machines with GPUs. Vectors of another "
                "precision are computed anew",
            )


def scarce_machine(facts: Facts) -> Iterator[Finding]:
    """Yield that the run needs more disk or memory than there is."""
    machine, estimate = facts.machine, facts.estimate
    if machine is None or estimate is None:
        return
    if machine.disk is not None and estimate.stored > machine.disk:
        yield Finding(
            "disk",
            "store",
            f"the run writes about {estimate.stored / 1e9:,.1f} GB, and {machine.disk / 1e9:,.1f} GB "
            "are free",
            "Choose another place for the store, store smaller pictures (fetch.resize), or add disk",
        )
    if estimate.memory > MEMORY_SHARE * machine.memory:
        yield Finding(
            "memory",
            "sources",
            f"the driver needs about {estimate.memory / 1e9:,.1f} GB of memory, and the machine has "
            f"{machine.memory / 1e9:,.1f} GB",
            "Use a larger machine, or a smaller pool",
        )
