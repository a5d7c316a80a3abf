"""What the comparisons of `benchmarks.gpu` share: the machine, and the sides of a comparison."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

Halves = npt.NDArray[np.float16]

DENSE_BF16 = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Published peaks in dense bfloat16 products, FLOP/s (H100 and H200: SXM)."""
PRODUCT_SIDE = 8192


@dataclass(frozen=True)
class Machine:
    """Where the sides run.

    Attributes:
        device: of torch.
        name: of the device.
        peak: FLOP/s to which rates are compared.
        measured: FLOP/s of a large product, by its type.
    """

    device: torch.device
    name: str
    peak: float
    measured: dict[torch.dtype, float]

    @classmethod
    def of(cls, device: str) -> Machine:
        """Measure a device."""
        on = torch.device(device)
        side = PRODUCT_SIDE if on.type == "cuda" else 512
        rates = {kind: product_rate(on, kind, side) for kind in (torch.bfloat16, torch.float32)}
        if on.type != "cuda":
            return cls(on, "CPU", max(rates.values()), rates)
        name = torch.cuda.get_device_name(on)
        published = [peak for part, peak in DENSE_BF16.items() if part in name]
        return cls(on, name, published[0] if published else rates[torch.bfloat16], rates)

    @property
    def has_faiss(self) -> bool:
        """Whether FAISS can use the device."""
        try:
            import faiss
        except ImportError:
            return False
        return self.device.type == "cpu" or hasattr(faiss, "StandardGpuResources")

    def wait(self) -> None:
        """Wait until the device has done its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def rates(self) -> str:
        """Return the rates of large products in words."""
        listed = ", ".join(
            f"{str(kind).removeprefix('torch.')} {rate / 1e12:.3g} TFLOP/s"
            for kind, rate in self.measured.items()
        )
        return f"Large square products on it: {listed}. Peak for shares: {self.peak / 1e12:.3g}."


def product_rate(device: torch.device, kind: torch.dtype, side: int) -> float:
    """Return the FLOP/s of square products; the best of five."""
    left = torch.randn(side, side, device=device).to(kind)
    best = float("inf")
    for _ in range(6):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        started = time.perf_counter()
        left @ left
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best


@dataclass
class Comparison:
    """Sides that do the same work.

    Attributes:
        title: what they do.
        flop: operations of the work.
        sides: by name; each does the work once.
        checks: by name of a side, what a check of its result gave.
    """

    title: str
    flop: float
    sides: dict[str, Callable[[], object]]
    checks: dict[str, str] = field(default_factory=dict)


def random_units(rows: int, dim: int, machine: Machine, seed: int) -> Halves:
    """Return unit vectors (rows, dim) around random centres, made on the device."""
    made = torch.Generator(machine.device).manual_seed(seed)
    centres = torch.randn(2000, dim, device=machine.device, generator=made)
    vectors = np.empty((rows, dim), np.float16)
    for start in range(0, rows, 65_536):
        count = min(65_536, rows - start)
        chosen = torch.randint(2000, (count,), device=machine.device, generator=made)
        noise = torch.randn(count, dim, device=machine.device, generator=made)
        units = torch.nn.functional.normalize(centres[chosen] + 0.7 * noise)
        vectors[start : start + count] = units.half().cpu().numpy()
    return vectors
