"""A Vision Transformer as a feature extractor: all blocks and the final norm, tokens as maps.

Dosovitskiy et al. 2021, arXiv:2010.11929, and DeiT (Touvron et al. 2021, arXiv:2012.12877) without
its distillation token. Parameter names are timm's, so a state dict of timm's ``vit_small_patch16``
or ``deit_small_patch16`` loads here without its head; timm itself is not needed to run one.

At 224 pixels the small one has 43 MB in half precision, more than ``training.release`` lets a file
have; the tiny one has 11.

The mean over the patch tokens goes into one linear layer (timm: ``global_pool="avg"``,
``fc_norm=False``), so the closed form of ``core.explain`` is Grad-CAM at the final norm.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, interpolate, scaled_dot_product_attention

from core.architectures import VIT_SMALL, VIT_TINY
from core.errors import SettingsInvalid

PATCH = 16
DEPTH = 12
SIZES = {VIT_TINY: (192, 3), VIT_SMALL: (384, 6)}  # width, heads
_EPSILON = 1e-6


class Attention(nn.Module):
    """Multi-head self-attention: BxNxD in and out."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        split = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).reshape(batch, tokens, width))


class Mlp(nn.Module):
    """Two linear layers around a GELU: BxNxD in and out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(gelu(self.fc1(x)))


class Block(nn.Module):
    """Attention and MLP, each on its normalised input and added to it: BxNxD in and out."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width, _EPSILON), Attention(width, heads)
        self.norm2, self.mlp = nn.LayerNorm(width, _EPSILON), Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Patches(nn.Module):
    """A picture cut into squares of PATCH pixels, each one token: Bx3xSxS -> Bx(S/16)²xD."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH, PATCH)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class VisionTransformer(nn.Module):
    """Bx3xSxS -> BxDx(S/16)x(S/16). size: S, a multiple of 16; the position embedding is for it."""

    def __init__(self, size: int, width: int, heads: int, depth: int = DEPTH) -> None:
        super().__init__()
        if size % PATCH:
            raise SettingsInvalid(
                f"A Vision Transformer needs a side that is a multiple of {PATCH}, not {size}."
            )
        self.side = size // PATCH
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.side**2, width))
        self.patch_embed = Patches(width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, _EPSILON)

    def early(self, stages: int) -> list[nn.Module]:
        """The patches and a third of the blocks for each stage."""
        return [self.patch_embed, *list(self.blocks)[: stages * DEPTH // 3]]

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch_embed(x)
        tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], 1)
        tokens = self.norm(self.blocks(tokens + self.pos_embed))
        return tokens[:, 1:].transpose(1, 2).unflatten(2, (self.side, self.side))


def resized(state: dict[str, Tensor], size: int) -> dict[str, Tensor]:
    """A state dict whose position embedding is for a canvas of ``size``, as timm resamples it."""
    positions = state["pos_embed"]
    first, grid = positions[:, :1], positions[:, 1:]
    before, after = round(grid.shape[1] ** 0.5), size // PATCH
    if before == after:
        return state
    maps = grid.transpose(1, 2).unflatten(2, (before, before)).float()
    maps = interpolate(maps, (after, after), mode="bicubic", antialias=True)
    return state | {"pos_embed": torch.cat([first, maps.flatten(2).transpose(1, 2)], 1)}
