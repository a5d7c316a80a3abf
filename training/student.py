"""The student in training: losses, moving average and batches."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from curation.media.encoders import vit_micro
from curation.media.encoders.vit_micro import VitMicro
from training.pictures import SIDE, SMALL_SIDE, TOKENS, Rows, normalise
from training.teacher import Teacher
from training.views import Views


class Distiller(nn.Module):
    """The student with what only the training needs: a patch head and the scale of the targets.

    Args:
        student: the model.
        views: give the mean and standard deviation of the targets.
        teacher: gives the classifier for one of the losses.
        is_standardised: whether the student returns standardised features, as saved weights do.
    """

    cls_mean: Tensor
    cls_std: Tensor
    patch_mean: Tensor
    patch_std: Tensor
    class_weight: Tensor
    class_bias: Tensor

    def __init__(
        self, student: VitMicro, views: Views, teacher: Teacher, is_standardised: bool
    ) -> None:
        super().__init__()
        self.student = student
        self.patch_head = nn.Linear(vit_micro.WIDTH, 192)
        sample = slice(None, None, max(1, len(views.cls) // 20_000))
        cls = torch.from_numpy(np.asarray(views.cls[sample], dtype=np.float32))
        patches = torch.from_numpy(
            np.asarray(views.patches[sample][:4000], dtype=np.float32)
        ).flatten(0, 1)
        self.register_buffer("cls_mean", cls.mean(dim=0))
        self.register_buffer("cls_std", cls.std(dim=0))
        self.register_buffer("patch_mean", patches.mean(dim=0))
        self.register_buffer("patch_std", patches.std(dim=0))
        self.register_buffer("class_weight", teacher.model.head.weight.detach().clone())
        self.register_buffer("class_bias", teacher.model.head.bias.detach().clone())
        with torch.no_grad():
            # In training, the student returns features in the scale of the teacher: see `standardised`.
            bias = student.head.bias if is_standardised else torch.zeros_like(self.cls_mean)
            student.head.bias.copy_(bias * self.cls_std + self.cls_mean)
            student.head.weight.mul_(self.cls_std[:, None])

    def standardised(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return weights of the student with which it returns standardised features.

        In training, it learns the raw feature of the teacher. Standardising each of the 192 components
        improves retrieval, and the linear head can include it.
        """
        weight = state["head.weight"] / self.cls_std[:, None]
        bias = (state["head.bias"] - self.cls_mean) / self.cls_std
        return state | {"head.weight": weight, "head.bias": bias}

    def forward(self, pixels: Tensor, cls: Tensor, patches: Tensor) -> dict[str, Tensor]:
        """Return the losses of a batch: images [B, 3, S, S], targets [B, 192] and [B, 81, 192]."""
        tokens = self.student.tokens(pixels)
        feature = self.student.embed(tokens)
        standardised = (feature - self.cls_mean) / self.cls_std
        target = (cls - self.cls_mean) / self.cls_std
        dense = self.patch_head(tokens).float()
        dense_target = (patches - self.patch_mean) / self.patch_std
        return {
            "feature": functional.smooth_l1_loss(standardised, target),
            "cosine": 1 - functional.cosine_similarity(standardised, target).mean(),
            "raw": 1 - functional.cosine_similarity(feature, cls).mean(),
            "patch": functional.smooth_l1_loss(dense, dense_target),
            "relation": relation_loss(feature, cls),
            "classes": self._class_loss(feature, cls),
        }

    def _class_loss(self, feature: Tensor, cls: Tensor) -> Tensor:
        # The classifier of the teacher weights the directions of feature space that separate classes.
        target = functional.linear(cls, self.class_weight, self.class_bias).softmax(dim=1)
        output = functional.linear(feature, self.class_weight, self.class_bias).log_softmax(dim=1)
        return functional.kl_div(output, target, reduction="batchmean")


LOSS_WEIGHTS: Final = {
    "feature": 1.0,
    "cosine": 1.0,
    "raw": 1.0,
    "patch": 0.5,
    "relation": 1.0,
    "classes": 0.2,
}


def relation_loss(feature: Tensor, target: Tensor, temperature: float = 0.1) -> Tensor:
    """Return how much the similarities within a batch differ between student and teacher."""
    mask = torch.eye(len(feature), dtype=torch.bool, device=feature.device)
    logits = []
    for vectors in (feature, target):
        unit = functional.normalize(vectors.float(), dim=1)
        logits.append((unit @ unit.T / temperature).masked_fill(mask, -1e4))
    return functional.kl_div(logits[0].log_softmax(1), logits[1].softmax(1), reduction="batchmean")


class MovingAverage:
    """The exponential moving average of a model's parameters and buffers."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.state = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self.steps += 1
        decay = min(self.decay, self.steps / (self.steps + 10))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.state[name].lerp_(value, 1 - decay)
            else:
                self.state[name].copy_(value)


def draw_batch(
    views: Views, candidates: Rows, size: int, rng: np.random.Generator, device: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Return a random batch of some rows: half of it mirrored, with random brightness and contrast."""
    rows = np.sort(rng.choice(candidates, size, replace=False))
    pixels = normalise(torch.from_numpy(views.pixels[rows]).to(device))
    cls = torch.from_numpy(views.cls[rows]).to(device).float()
    patches = torch.from_numpy(views.patches[rows]).to(device).float()
    half = size // 2
    order = torch.from_numpy(rng.permutation(size)).to(device)
    pixels, cls, patches = pixels[order], cls[order], patches[order]
    pixels[:half] = pixels[:half].flip(3)
    # Mirroring hardly changes the feature of the teacher, but it mirrors the grid of patches.
    grid = patches[:half].reshape(half, TOKENS, TOKENS, -1)
    patches[:half] = grid.flip(2).flatten(1, 2)
    gain = torch.from_numpy(rng.uniform(0.9, 1.1, (size, 1, 1, 1)).astype(np.float32)).to(device)
    shift = torch.from_numpy(rng.uniform(-0.08, 0.08, (size, 1, 1, 1)).astype(np.float32)).to(
        device
    )
    pixels = (pixels * gain + shift).contiguous(memory_format=torch.channels_last)
    return pixels, cls, patches


def random_windows(
    pixels: Tensor, cls: Tensor, patches: Tensor, least: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the batch with each image cropped to a random window of at least `least` of its side.

    The feature of the teacher is for the whole view, so it is only approximately right for the window.
    Without windows, a long training overfits the views.
    """
    size = len(pixels)
    scale = rng.uniform(least, 1.0, (size, 1))
    centre = rng.uniform(-1.0, 1.0, (size, 2)) * (1 - scale)
    theta = np.zeros((size, 2, 3), dtype=np.float32)
    theta[:, 0, 0] = theta[:, 1, 1] = scale[:, 0]
    theta[:, :, 2] = centre
    windows = torch.from_numpy(theta).to(pixels.device)
    grid = functional.affine_grid(windows, [size, 3, SIDE, SIDE], align_corners=False)
    pixels = functional.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)
    tokens = patches.transpose(1, 2).reshape(size, -1, TOKENS, TOKENS)
    grid = functional.affine_grid(windows, [size, 1, TOKENS, TOKENS], align_corners=False)
    tokens = functional.grid_sample(tokens, grid, padding_mode="border", align_corners=False)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    return pixels, cls, tokens.flatten(2).transpose(1, 2)


def reduced(pixels: Tensor, cls: Tensor, patches: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the batch at SMALL_SIDE pixels: half the work, for the first part of a training."""
    pixels = functional.interpolate(pixels, SMALL_SIDE, mode="bilinear", antialias=True)
    grid = patches.transpose(1, 2).reshape(len(patches), -1, TOKENS, TOKENS)
    grid = functional.interpolate(grid, SMALL_SIDE // 16, mode="bilinear", antialias=True)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    return pixels, cls, grid.flatten(2).transpose(1, 2)
