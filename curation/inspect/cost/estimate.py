"""Multiplies work, rates and prices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from curation.inspect.cost.rates import Prices, Rates
from curation.inspect.cost.work import Work

TB = 1e12
SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True)
class Cost:
    """The work of a stage, the hours of one core and of one GPU that it takes, and its price."""

    work: Work
    cpu_hours: float
    gpu_hours: float
    money: float

    @property
    def device(self) -> str:
        """The device on which its models and products are planned: `GPU`, `CPU`, or neither."""
        if self.gpu_hours:
            return "GPU"
        return "CPU" if self.work.flop > self.work.cpu_flop else ""


def estimate(works: Sequence[Work], rates: Rates, prices: Prices, months: float) -> list[Cost]:
    """Return the cost of each stage, with storage paid for `months`.

    Operations of models, and products of vectors, run on GPUs if the rates have one for them;
    everything else runs on cores. Bytes that tasks move within the cluster take core time at the speed
    of tables, and cost nothing else.
    """
    return [_cost(work, rates, prices, months) for work in works]


def _cost(work: Work, rates: Rates, prices: Prices, months: float) -> Cost:
    cpu_seconds = sum(count / getattr(rates, name) for name, count in work.units_by_rate.items())
    cpu_seconds += work.cpu_flop / (rates.cpu_product_gflop * 1e9)
    cpu_seconds += (work.stored + work.moved) / (rates.table_mb * 1e6)
    gpu_seconds = 0.0
    for flop, gpu_gflop, cpu_gflop in (
        (work.model_flop, rates.gpu_gflop, rates.cpu_gflop),
        (work.product_flop, rates.gpu_product_gflop, rates.cpu_product_gflop),
        (work.cell_flop, rates.gpu_product_gflop, rates.cell_gflop),
        (work.near_cell_flop, rates.gpu_product_gflop, rates.near_cell_gflop),
    ):
        if gpu_gflop is None:
            cpu_seconds += flop / (cpu_gflop * 1e9)
        else:
            gpu_seconds += flop / (gpu_gflop * 1e9)
    cpu_hours, gpu_hours = cpu_seconds / SECONDS_PER_HOUR, gpu_seconds / SECONDS_PER_HOUR
    money = (
        cpu_hours * prices.core_hour
        + gpu_hours * prices.gpu_hour
        + work.stored / TB * prices.stored_tb_month * months
        + work.received / TB * prices.received_tb
    )
    return Cost(work, cpu_hours, gpu_hours, money)
