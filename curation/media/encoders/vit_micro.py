"""`vit_micro`: a small vision transformer whose weights are part of this package.

A first run and the tests need no model hub with it. It has 3.4 million parameters, an input of 192 px
and an embedding of 192 dimensions. `weights/MODEL_CARD.md` describes its training and its limits.
"""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn

INPUT_SIZE = 192
"""Side of the square input, in pixels."""
CROP_PCT = 0.9
"""Side of the centre crop divided by the resized shorter side, int(INPUT_SIZE / CROP_PCT) = 213 px."""
INTERPOLATION = "bicubic"
MEAN = (0.5, 0.5, 0.5)
"""Is subtracted from each RGB channel, after scaling to 0..1."""
STD = (0.5, 0.5, 0.5)
"""Each RGB channel is divided by it, after the mean is subtracted."""
DIM = 192
"""Dimension of the embedding."""
WEIGHTS = Path(__file__).parent / "weights" / "vit_micro.safetensors"

WIDTH = 192
DEPTH = 6
HEADS = 3
STEM = (32, 64, 128)
"""Channels at a half, a quarter and an eighth of the side of the input."""


def _conv(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


class Residual(nn.Module):
    """A residual block of 3 x 3 convolutions on feature maps [B, C, H, W]."""

    def __init__(self, channels: int, convolutions: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(*(_conv(channels, channels) for _ in range(convolutions)))

    def forward(self, maps: Tensor) -> Tensor:
        result: Tensor = maps + self.branch(maps)
        return result


class ConvStem(nn.Module):
    """From an image [B, 3, S, S] to tokens [B, (S / 16)^2, WIDTH].

    Convolutions need far fewer training images than a plain patch projection. Their padding also gives
    each token its position, so no position embedding is needed.
    """

    def __init__(self) -> None:
        super().__init__()
        first, second, third = STEM
        self.maps = nn.Sequential(
            _conv(3, first, stride=2),
            _conv(first, second, stride=2),
            Residual(second, convolutions=1),
            _conv(second, third, stride=2),
            Residual(third, convolutions=2),
        )
        self.project = nn.Conv2d(third, WIDTH, 3, stride=2, padding=1)

    def forward(self, pixels: Tensor) -> Tensor:
        tokens: Tensor = self.project(self.maps(pixels)).flatten(2).transpose(1, 2)
        return tokens


class Block(nn.Module):
    """A pre-norm transformer block over tokens [B, T, WIDTH]."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.project = nn.Linear(WIDTH, WIDTH)
        self.norm_mlp = nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, 4 * WIDTH), nn.Hardswish(), nn.Linear(4 * WIDTH, WIDTH)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        batch, count, width = tokens.shape
        heads = self.qkv(self.norm_attention(tokens)).view(batch, count, 3, HEADS, width // HEADS)
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)
        # With 144 tokens, plain products train several times faster on a CPU than the fused operator.
        weights = (query * (width // HEADS) ** -0.5) @ key.transpose(-2, -1)
        attended = weights.softmax(dim=-1).to(value.dtype) @ value
        tokens = tokens + self.project(attended.transpose(1, 2).reshape(batch, count, width))
        result: Tensor = tokens + self.mlp(self.norm_mlp(tokens))
        return result


class VitMicro(nn.Module):
    """A conv stem, six transformer blocks, the mean of the tokens and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvStem()
        self.blocks = nn.Sequential(*(Block() for _ in range(DEPTH)))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, DIM)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def tokens(self, pixels: Tensor) -> Tensor:
        """Return patch tokens [B, (S / 16)^2, WIDTH] of normalised images [B, 3, S, S], row by row."""
        tokens: Tensor = self.norm(self.blocks(self.stem(pixels)))
        return tokens

    def embed(self, tokens: Tensor) -> Tensor:
        """Return the embedding [B, DIM] of patch tokens [B, T, WIDTH], not normalised."""
        embedding: Tensor = self.head(tokens.mean(dim=1))
        return embedding.float()

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the embedding of normalised images [B, 3, S, S]: [B, DIM], float32, not normalised."""
        return self.embed(self.tokens(pixels))


def load_vit_micro(weights: Path = WEIGHTS) -> VitMicro:
    """Return the model with its packaged weights, in eval mode, float32 on the CPU."""
    stored = load_file(weights)
    state = {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in stored.items()
    }
    model = VitMicro()
    model.load_state_dict(state, strict=True)
    return model.eval()
