"""What equivalent steps of generators against discriminators in PyTorch (the extra `bench`) share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.steps.pytorch import AVAILABLE
from tfthesis.recipe import Recipe

if AVAILABLE:
    import torch
    from torch import nn

DEVIATION, SLOPE, SECOND_BETA = 0.02, 0.2, 0.999


def mirrored(channels: int, width: int, kernel: int) -> list[nn.Module]:
    """Return a convolution that sees mirrored borders."""
    return [nn.ReflectionPad2d(kernel // 2), nn.Conv2d(channels, width, kernel)]


def rectified(layer: nn.Module) -> list[nn.Module]:
    """Return a convolution with instance normalisation and ReLU behind it."""
    return [layer, nn.InstanceNorm2d(layer.out_channels), nn.ReLU()]


def block(width: int) -> nn.Module:
    """Return a residual block: two convolutions of mirrored maps, `[B, width, H, W]` in and out."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            first, second = ([*mirrored(width, width, 3), nn.InstanceNorm2d(width)] for _ in range(2))
            self.inner = nn.Sequential(*first, nn.ReLU(), *second)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.inner(x)

    return Block()


def discriminator(filters: int, channels: int = 3) -> nn.Module:
    """Return a discriminator: images `[B, channels, H, W]` in, an answer for each patch out."""
    layers = [nn.Conv2d(channels, filters, 4, 2, 1), nn.LeakyReLU(SLOPE)]
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


def tensors(data: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Return images `[B, H, W, C]` as tensors `[B, C, H, W]`."""
    # Not with channels last: PyTorch 2.13 then gives InstanceNorm2d before a convolution wrong gradients.
    return {name: torch.from_numpy(values).permute(0, 3, 1, 2).contiguous() for name, values in data.items()}


def adam(networks: Sequence[nn.Module], recipe: Recipe) -> torch.optim.Optimizer:
    """Return an Adam for the weights of `networks`."""
    weights = [weight for network in networks for weight in network.parameters()]
    return torch.optim.Adam(weights, recipe.learning_rate, (recipe.beta, SECOND_BETA), recipe.epsilon)


def distance(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the mean absolute difference."""
    return (first - second).abs().mean()


def moved(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    """Take an optimizer's step down a loss."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
