"""An equivalent step of CFN-A or CNN-A in PyTorch (the extra `bench`)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.steps.pytorch import AVAILABLE

if AVAILABLE:
    import torch
    from torch import nn
    from torch.nn import functional

CHANNELS, WIDTH, BRANCHES = 64, 192, 3
LENGTH = 55.0
RATE, BIAS_FACTOR, FUSION_FACTOR, MOMENTUM, DECAY = 0.1, 2.0, 0.1, 0.9, 0.0001


def network(classes: int, fused: bool, dropout: float = 0.5) -> nn.Module:
    """Return the network: images `[B, 3, 32, 32]` in, logits out."""

    def convolution(channels: int, width: int, kernel: int) -> nn.Conv2d:
        layer = nn.Conv2d(channels, width, kernel, padding=kernel // 2)
        nn.init.normal_(layer.weight, std=0.05)
        nn.init.zeros_(layer.bias)
        return layer

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2, self.conv3 = (convolution(n, CHANNELS, 5) for n in (3, CHANNELS, CHANNELS))
            # Windows that reach over the edge are taken too, and means leave out what lies beyond it.
            self.pool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
            self.pool2 = nn.AvgPool2d(3, 2, ceil_mode=True, count_include_pad=False)
            self.main = convolution(CHANNELS, WIDTH, 1)
            if fused:
                self.side1, self.side2 = convolution(CHANNELS, WIDTH, 1), convolution(CHANNELS, WIDTH, 1)
                self.fusion_weight = nn.Parameter(torch.full((BRANCHES, WIDTH), 1 / BRANCHES))
                self.fusion_bias = nn.Parameter(torch.zeros(WIDTH))
            self.drop = nn.Dropout(dropout)
            self.prediction = nn.Linear(WIDTH, classes)
            nn.init.normal_(self.prediction.weight, std=0.1)
            nn.init.zeros_(self.prediction.bias)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            image = image - image.mean(dim=(1, 2, 3), keepdim=True)
            image = LENGTH * image / image.square().sum(dim=(1, 2, 3), keepdim=True).sqrt()
            first = self.drop(self.pool1(self.conv1(image).relu()))
            second = self.drop(self.pool2(self.conv2(first).relu()))
            vector = self.branch(self.main, self.conv3(second).relu())
            if fused:
                vectors = (self.branch(self.side1, first), self.branch(self.side2, second), vector)
                weighted = (weight * each for weight, each in zip(self.fusion_weight, vectors, strict=True))
                vector = (sum(weighted) + self.fusion_bias).relu()
            return self.prediction(self.drop(vector))

        def branch(self, layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
            return layer(x).relu().mean(dim=(2, 3))

    return Network()


def build(
    data: dict[str, np.ndarray], classes: int, fused: bool, dropout: float = 0.5
) -> tuple[nn.Module, Callable[[], torch.Tensor]]:
    """Return the network, and a function that takes one step on `data` and returns the loss before it."""
    torch.manual_seed(0)
    # Of the two orders of a map's values this is the faster one here.
    model = network(classes, fused, dropout).to(memory_format=torch.channels_last)
    image = torch.from_numpy(data["image"]).permute(0, 3, 1, 2)
    label = torch.from_numpy(data["label"])
    groups: dict[tuple[float, float], list] = {}
    for name, parameter in model.named_parameters():
        is_bias = name.endswith("bias")
        factor = (BIAS_FACTOR if is_bias else 1.0) * (FUSION_FACTOR if name.startswith("fusion") else 1.0)
        groups.setdefault((0.0 if is_bias else DECAY, RATE * factor), []).append(parameter)
    options = [{"params": params, "weight_decay": decay, "lr": rate} for (decay, rate), params in groups.items()]
    optimizer = torch.optim.SGD(options, lr=RATE, momentum=MOMENTUM)

    def take() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = functional.cross_entropy(model(image), label)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return model, take


def step(data: dict[str, np.ndarray], classes: int, fused: bool) -> Callable[[], None]:
    """Return a function that takes one step on `data`."""
    _, take = build(data, classes, fused)
    return lambda: take().item()
