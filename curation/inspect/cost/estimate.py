"""Work times rates times prices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from curation.inspect.cost.rates import Prices, Rates
from curation.inspect.cost.workload import Work

TB = 1e12
HOUR = 3600.0


@dataclass(frozen=True)
class Cost:
    """What a stage takes: hours of one core and of one GPU, and money by what it is for."""

    work: Work
    cpu_hours: float
    gpu_hours: float
    money: float


def estimate(works: Sequence[Work], rates: Rates, prices: Prices, months: float) -> list[Cost]:
    """Return the cost of each stage; what is stored is paid for `months`.

    Products of a model run on GPUs where the rates have one, everything else on cores. What tasks
    move within the cluster takes time of a core at the speed of tables, and no money.
    """
    return [_cost(work, rates, prices, months) for work in works]


def _cost(work: Work, rates: Rates, prices: Prices, months: float) -> Cost:
    seconds = sum(amount / getattr(rates, name) for name, amount in (work.seconds_of or {}).items())
    seconds += work.cpu_flop / (rates.cpu_gflop * 1e9)
    seconds += (work.stored + work.moved) / (rates.table_mb * 1e6)
    gpu_seconds = 0.0
    if rates.gpu_gflop is None:
        seconds += work.model_flop / (rates.cpu_gflop * 1e9)
    else:
        gpu_seconds = work.model_flop / (rates.gpu_gflop * 1e9)
    cpu_hours, gpu_hours = seconds / HOUR, gpu_seconds / HOUR
    money = (
        cpu_hours * prices.core_hour
        + gpu_hours * prices.gpu_hour
        + work.stored / TB * prices.stored_tb_month * months
        + work.received / TB * prices.received_tb
    )
    return Cost(work, cpu_hours, gpu_hours, money)
