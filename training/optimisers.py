"""The optimisers Muon and AdamW."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from curation.media.encoders.vit_micro import VitMicro


def orthogonal(matrix: Tensor, rounds: int = 5) -> Tensor:
    """Return approximately the orthogonal matrix nearest to [M, N], by Newton-Schulz iterations."""
    wide = matrix.bfloat16() if matrix.shape[0] <= matrix.shape[1] else matrix.bfloat16().T
    wide = wide / (wide.norm() + 1e-7)
    for _ in range(rounds):
        gram = wide @ wide.T
        wide = 3.4445 * wide + (-4.7750 * gram + 2.0315 * gram @ gram) @ wide
    result: Tensor = wide if matrix.shape[0] <= matrix.shape[1] else wide.T
    return result


class Muon(torch.optim.Optimizer):
    """The optimiser Muon: momentum with orthogonalised updates of matrices and convolutions.

    Updates are scaled to about the size of those of AdamW, so that one learning rate fits both.
    """

    def __init__(self, parameters: list[nn.Parameter], rate: float, decay: float) -> None:
        super().__init__(parameters, {"lr": rate, "decay": decay, "momentum": 0.95})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for value in group["params"]:
                state = self.state[value]
                if not state:
                    state["momentum"] = torch.zeros_like(value)
                average = state["momentum"].lerp_(value.grad, 1 - group["momentum"])
                change = value.grad.lerp(average, group["momentum"]).flatten(1)
                scale = 0.2 * math.sqrt(max(change.shape))
                value.mul_(1 - group["lr"] * group["decay"])
                value.sub_(orthogonal(change).view(value.shape), alpha=group["lr"] * scale)


def optimisers_for(
    network: VitMicro, parameters: Iterable[nn.Parameter], rate: float
) -> list[torch.optim.Optimizer]:
    """Return Muon for the inner matrices of the network, and AdamW for all other parameters.

    These are its first and last layers, norms and biases, and parameters that only the training uses.
    """
    inner = [
        value
        for name, value in network.named_parameters()
        if value.ndim > 1 and not name.startswith(("stem.maps.0", "head"))
    ]
    inner_ids = {id(value) for value in inner}
    outer = [value for value in parameters if id(value) not in inner_ids]
    return [
        Muon(inner, 2 * rate, 0.05),
        torch.optim.AdamW(outer, lr=rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True),
    ]
