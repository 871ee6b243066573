"""An equivalent step of SwapGAN in PyTorch (the extra `bench`)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from benchmarks.steps.adversarial_pytorch import (
    SLOPE,
    adam,
    block,
    discriminator,
    distance,
    drawn,
    mirrored,
    moved,
    rectified,
    tensors,
)
from benchmarks.steps.pytorch import AVAILABLE
from tfthesis.recipe import Recipe
from tfthesis.swapping.networks import mask_steps

if AVAILABLE:
    import torch
    from torch import nn
    from torch.nn import functional

# Generator III's maps have at most so many times the first filters.
LARGEST = 8


def generator(channels: int, filters: int, blocks: int) -> nn.Module:
    """Return Generator I or II: `[B, channels, H, W]` in, images `[B, 3, H, W]` out."""
    widths = [filters, 2 * filters, 4 * filters]

    class Generator(nn.Module):
        def __init__(self):
            super().__init__()
            pad, first = mirrored(channels, filters, 7)
            smaller = [rectified(nn.Conv2d(width, 2 * width, 3, 2, 1)) for width in widths]
            self.encoder = nn.ModuleList(nn.Sequential(*layers) for layers in ([pad, *rectified(first)], *smaller))
            self.blocks = nn.Sequential(*(block(8 * filters) for _ in range(blocks)))
            # Behind the first one, each sees twice its maps: what is enlarged, and the encoder's.
            pairs = ((8 * filters, 4 * filters), (8 * filters, 2 * filters), (4 * filters, filters))
            self.decoder = nn.ModuleList(
                nn.Sequential(*rectified(nn.Conv2d(*pair, 1)), nn.UpsamplingNearest2d(scale_factor=2)) for pair in pairs
            )
            self.last = nn.Sequential(*mirrored(2 * filters, 3, 7), nn.Tanh())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            skips = []
            for layer in self.encoder:
                x = layer(x)
                skips.append(x)
            x = self.blocks(x)
            for layer, skip in zip(self.decoder, reversed(skips[:-1]), strict=True):
                x = torch.cat([layer(x), skip], dim=1)
            return self.last(x)

    return drawn(Generator())


def mask_generator(side: int, filters: int) -> nn.Module:
    """Return Generator III: images `[B, 3, side, side]` in, masks `[B, 1, side, side]` out."""
    widths = [filters * min(2**number, LARGEST) for number in range(mask_steps(side, side))]

    def normalised(x: torch.Tensor) -> torch.Tensor:
        return x if x.shape[-1] == 1 else functional.instance_norm(x)

    class MaskGenerator(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.ModuleList(nn.Conv2d(*pair, 4, 2) for pair in pairwise([3, *widths]))
            # Behind the first one, each sees twice its maps: what is enlarged, and the encoder's.
            enlarged = widths[-2::-1]
            pairs = zip([widths[-1], *(2 * width for width in enlarged)], [*enlarged, 1], strict=True)
            self.decoder = nn.ModuleList(nn.ConvTranspose2d(*pair, 4, 2, 1) for pair in pairs)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            maps = []
            for number, layer in enumerate(self.encoder):
                # An odd side, that of one pixel too, has one zero more behind it.
                behind = 1 + x.shape[-1] % 2
                x = layer(functional.pad(x, (1, behind, 1, behind)))
                x = functional.leaky_relu(normalised(x) if number else x, SLOPE)
                maps.append(x)
            for layer, skip in zip(self.decoder, maps[-2::-1], strict=False):
                x = layer(x)[..., : skip.shape[-2], : skip.shape[-1]]
                x = torch.cat([normalised(x).relu(), skip], dim=1)
            return self.decoder[-1](x).sigmoid()

    return drawn(MaskGenerator())


def build(data: dict[str, np.ndarray], recipe: Recipe) -> tuple[list[nn.Module], Callable[[], torch.Tensor]]:
    """Return Generators I, II and III and the discriminator, and a function that takes one step.

    It returns the sum of all losses before the step; `recipe` is that of the library's model.
    """
    torch.manual_seed(0)
    given = tensors(data)
    reference, condition, pose, segments = (given[name] for name in ("reference", "condition", "pose", "segments"))
    first, second = (generator(3 + maps.shape[1], recipe.filters, recipe.blocks) for maps in (pose, segments))
    third, judge = mask_generator(recipe.height, recipe.mask_filters), discriminator(recipe.discriminator_filters, 6)
    generators, discriminators = adam([first, second, third], recipe), adam([judge], recipe)

    def take() -> torch.Tensor:
        judge.requires_grad_(False)
        generated = first(torch.cat([condition, pose], dim=1))
        restored = second(torch.cat([generated, segments], dim=1))
        false, other = torch.cat([generated, condition], dim=1), torch.cat([reference, restored], dim=1)
        total = (judge(false) - 1).square().mean() + (judge(other) - 1).square().mean()
        masks = distance(third(generated), given["reference_mask"]) + distance(third(restored), given["condition_mask"])
        total = total + recipe.mask_weight * masks
        moved(generators, total)
        judge.requires_grad_(True)
        pairs = torch.cat([torch.cat([reference, condition], dim=1), false.detach(), other.detach()])
        true, false, other = judge(pairs).chunk(3)
        loss = (true - 1).square().mean() + false.square().mean() + other.square().mean()
        moved(discriminators, loss)
        return (total + loss).detach()

    return [first, second, third, judge], take
