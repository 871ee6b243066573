"""An equivalent step of CycleGAN in PyTorch (the extra `bench`)."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.steps.adversarial_pytorch import (
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

if AVAILABLE:
    import torch
    from torch import nn


def generator(filters: int, blocks: int) -> nn.Module:
    """Return a generator: images `[B, 3, H, W]` in and out."""
    pad, first = mirrored(3, filters, 7)
    layers = [pad, *rectified(first)]
    for width in (filters, 2 * filters):
        layers += rectified(nn.Conv2d(width, 2 * width, 3, 2, 1))
    layers += [block(4 * filters) for _ in range(blocks)]
    for width in (4 * filters, 2 * filters):
        layers += rectified(nn.ConvTranspose2d(width, width // 2, 3, 2, 1, 1))
    return drawn(nn.Sequential(*layers, *mirrored(filters, 3, 7), nn.Tanh()))


class Pool:
    """Generated images that are shown again."""

    def __init__(self, size: int):
        self.size, self.kept = size, []

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Return one generated image, or an earlier one whose place it takes."""
        if len(self.kept) < self.size:
            self.kept.append(image)
        elif random.random() < 0.5:
            slot = random.randrange(self.size)
            image, self.kept[slot] = self.kept[slot], image
        return image


def build(data: dict[str, np.ndarray], recipe: Recipe) -> tuple[list[nn.Module], Callable[[], torch.Tensor]]:
    """Return the generators to b, those to a and both discriminators, and a function that takes one step.

    It returns the sum of all losses before the step; `recipe` is that of the library's model.
    """
    torch.manual_seed(0)
    to_b, to_a = ([generator(recipe.filters, recipe.blocks) for _ in range(steps)] for steps in recipe.generators)
    d_a, d_b = (discriminator(recipe.discriminator_filters) for _ in "ab")
    generators, discriminators = adam([*to_b, *to_a], recipe), adam([d_a, d_b], recipe)
    pool_a, pool_b = Pool(recipe.pool), Pool(recipe.pool)
    images = tensors(data)
    a, b = images["a"], images["b"]

    def take() -> torch.Tensor:
        for network in (d_a, d_b):
            network.requires_grad_(False)
        fakes_b, fakes_a = passed(a, to_b), passed(b, to_a)
        fake_b, fake_a = fakes_b[-1], fakes_a[-1]
        total = (d_b(fake_b) - 1).square().mean() + (d_a(fake_a) - 1).square().mean()
        cycles = distance(passed(fake_b, to_a)[-1], a) + distance(passed(fake_a, to_b)[-1], b)
        if recipe.inner_cycles:
            for m in range(1, len(to_b)):
                cycles = cycles + distance(passed(fakes_b[m - 1], to_a[-m:])[-1], a)
                cycles = cycles + distance(passed(fakes_a[m - 1], to_b[-m:])[-1], b)
        total = total + recipe.cycle_weight * cycles
        if recipe.similarity_weight:
            total = total + recipe.similarity_weight * distance(fakes_b[0], fakes_a[0])
        moved(generators, total)
        for network in (d_a, d_b):
            network.requires_grad_(True)
        loss = torch.zeros(())
        for network, real, fake, pool in ((d_a, a, fake_a, pool_a), (d_b, b, fake_b, pool_b)):
            true, false = network(torch.cat([real, pool(fake.detach())])).chunk(2)
            loss = loss + (true - 1).square().mean() + false.square().mean()
        moved(discriminators, loss)
        return (total + loss).detach()

    return [*to_b, *to_a, d_a, d_b], take


def passed(image: torch.Tensor, networks: Sequence[nn.Module]) -> list[torch.Tensor]:
    """Return what each of a chain of networks makes of an image."""
    images = []
    for network in networks:
        image = network(image)
        images.append(image)
    return images
