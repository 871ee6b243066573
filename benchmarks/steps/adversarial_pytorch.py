"""An equivalent step of CycleGAN in PyTorch (the extra `bench`)."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.steps.pytorch import AVAILABLE
from tfthesis.recipe import Recipe

if AVAILABLE:
    import torch
    from torch import nn

DEVIATION, SLOPE, SECOND_BETA = 0.02, 0.2, 0.999


def block(width: int) -> nn.Module:
    """Return a residual block: two convolutions of mirrored maps, `[B, width, H, W]` in and out."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            first, second = (
                [nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width)] for _ in range(2)
            )
            self.inner = nn.Sequential(*first, nn.ReLU(), *second)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.inner(x)

    return Block()


def generator(filters: int, blocks: int) -> nn.Module:
    """Return a generator: images `[B, 3, H, W]` in and out."""
    layers = [nn.ReflectionPad2d(3), nn.Conv2d(3, filters, 7), nn.InstanceNorm2d(filters), nn.ReLU()]
    for width in (filters, 2 * filters):
        layers += [nn.Conv2d(width, 2 * width, 3, 2, 1), nn.InstanceNorm2d(2 * width), nn.ReLU()]
    layers += [block(4 * filters) for _ in range(blocks)]
    for width in (4 * filters, 2 * filters):
        layers += [nn.ConvTranspose2d(width, width // 2, 3, 2, 1, 1), nn.InstanceNorm2d(width // 2), nn.ReLU()]
    return drawn(nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(filters, 3, 7), nn.Tanh()))


def discriminator(filters: int) -> nn.Module:
    """Return a discriminator: images `[B, 3, H, W]` in, an answer for each patch out."""
    layers = [nn.Conv2d(3, filters, 4, 2, 1), nn.LeakyReLU(SLOPE)]
    for width, stride in ((filters, 2), (2 * filters, 2), (4 * filters, 1)):
        layers += [nn.Conv2d(width, 2 * width, 4, stride, 1), nn.InstanceNorm2d(2 * width), nn.LeakyReLU(SLOPE)]
    return drawn(nn.Sequential(*layers, nn.Conv2d(8 * filters, 1, 4, 1, 1)))


def drawn(network: nn.Module) -> nn.Module:
    """Return a network with weights of CycleGAN's distribution."""
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        else:
            nn.init.normal_(parameter, std=DEVIATION)
    return network


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


def build(data: dict[str, np.ndarray], recipe: Recipe) -> tuple[list[list[nn.Module]], Callable[[], torch.Tensor]]:
    """Return both chains of generators and the discriminators, and a function that takes one step.

    It returns the sum of all losses before the step; `recipe` is that of the library's model.
    """
    torch.manual_seed(0)
    to_b, to_a = ([generator(recipe.filters, recipe.blocks) for _ in range(steps)] for steps in recipe.generators)
    d_a, d_b = (discriminator(recipe.discriminator_filters) for _ in "ab")
    weights = [[p for network in networks for p in network.parameters()] for networks in ((*to_b, *to_a), (d_a, d_b))]
    betas = recipe.beta, SECOND_BETA
    adams = [torch.optim.Adam(chosen, recipe.learning_rate, betas, recipe.epsilon) for chosen in weights]
    pool_a, pool_b = Pool(recipe.pool), Pool(recipe.pool)
    # Not with channels last: PyTorch 2.13 then gives InstanceNorm2d before a convolution wrong gradients.
    a, b = (torch.from_numpy(data[name]).permute(0, 3, 1, 2).contiguous() for name in "ab")

    def take() -> torch.Tensor:
        for parameter in weights[1]:
            parameter.requires_grad_(False)
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
        moved(adams[0], total)
        for parameter in weights[1]:
            parameter.requires_grad_(True)
        loss = torch.zeros(())
        for network, real, fake, pool in ((d_a, a, fake_a, pool_a), (d_b, b, fake_b, pool_b)):
            true, false = network(torch.cat([real, pool(fake.detach())])).chunk(2)
            loss = loss + (true - 1).square().mean() + false.square().mean()
        moved(adams[1], loss)
        return (total + loss).detach()

    return [to_b, to_a, [d_a, d_b]], take


def passed(image: torch.Tensor, networks: Sequence[nn.Module]) -> list[torch.Tensor]:
    """Return what each of a chain of networks makes of an image."""
    images = []
    for network in networks:
        image = network(image)
        images.append(image)
    return images


def distance(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the mean absolute difference."""
    return (first - second).abs().mean()


def moved(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    """Take an optimizer's step down a loss."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def step(data: dict[str, np.ndarray], recipe: Recipe) -> Callable[[], None]:
    """Return a function that takes one step on `data`."""
    _, take = build(data, recipe)
    return lambda: take().item()
