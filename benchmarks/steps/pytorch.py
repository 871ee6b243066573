"""An equivalent step in PyTorch (the extra `bench`)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

try:
    import torch
    from torch import nn
    from torch.nn import functional
except ModuleNotFoundError:
    AVAILABLE = False
else:
    AVAILABLE = True

WIDTHS, DIMENSION = (2048, 512, 512, 512), 2048
MARGIN, ALPHA, NEGATIVES = 0.1, 2.0, 20
BETA = 0.5 / NEGATIVES
RATE, FUSION_RATE, MOMENTUM, DECAY, EPSILON, FRESH, DEVIATION = 0.02, 0.002, 0.9, 0.0005, 1e-5, 0.1, 0.01


def _branch(width: int, dropout: float) -> nn.Module:
    """Return the layers of one modality as a module with a forward pass of its own."""

    def norm(channels: int) -> nn.Module:
        return nn.BatchNorm1d(channels, eps=EPSILON, momentum=FRESH)

    class Branch(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Sequential(norm(width), nn.Linear(width, WIDTHS[0]), nn.ReLU(), nn.Dropout(dropout))
            pairs = pairwise(WIDTHS)
            self.rest = nn.ModuleList(nn.Sequential(nn.Linear(a, b), norm(b), nn.ReLU()) for a, b in pairs)
            self.fusion, self.fusion_norm = nn.Conv1d(3, 1, 1), norm(1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x, hidden = self.first(x), []
            for layer in self.rest:
                x = layer(x)
                hidden.append(x)
            return self.fusion_norm(self.fusion(torch.stack(hidden, dim=1)))[:, 0]

    return Branch()


def build(
    data: dict[str, np.ndarray], classes: int, dropout: float = 0.5
) -> tuple[nn.ModuleList, list, list, Callable[[], torch.Tensor]]:
    """Return both branches and the classifier, the hashes, the signs, and a function for the loss of `data`."""
    torch.manual_seed(0)
    image_branch, text_branch = (_branch(data[name].shape[1], dropout) for name in ("image", "text"))
    classifier = nn.Linear(DIMENSION, classes, bias=False)
    hashes = [torch.randint(DIMENSION, (512,)) for _ in range(2)]
    signs = [torch.randint(2, (512,)) * 2.0 - 1 for _ in range(2)]
    modules = nn.ModuleList([image_branch, text_branch, classifier])
    for module in modules.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=DEVIATION)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv1d):
            nn.init.constant_(module.weight, 1 / 3)
            nn.init.zeros_(module.bias)
    image, text, ids, labels = (torch.from_numpy(data[name]) for name in ("image", "text", "image_id", "label"))

    def sketch(x: torch.Tensor, number: int) -> torch.Tensor:
        return torch.zeros(len(x), DIMENSION).index_add(1, hashes[number], x * signs[number])

    def loss() -> torch.Tensor:
        f, g = image_branch(image), text_branch(text)
        pooled = torch.fft.irfft(torch.fft.rfft(sketch(f, 0)) * torch.fft.rfft(sketch(g, 1)), n=DIMENSION)
        pooled = functional.normalize(pooled.sign() * (pooled.abs() + 1e-8).sqrt(), dim=1)
        total = BETA * functional.cross_entropy(classifier(pooled), labels, reduction="none")
        f, g = functional.normalize(f, dim=1), functional.normalize(g, dim=1)
        similarity = f @ g.T
        negative = (ids[:, None] != ids[None, :]).float()
        matching = (f * g).sum(dim=1, keepdim=True)
        for scores, weight in ((similarity, 1.0), (similarity.T, ALPHA)):
            hinges = torch.relu(scores - matching + MARGIN) * negative
            total = total + weight * hinges.topk(NEGATIVES, dim=1, sorted=False).values.sum(dim=1) / NEGATIVES
        return total.mean()

    return modules, hashes, signs, loss


def step(data: dict[str, np.ndarray], classes: int) -> Callable[[], None]:
    """Return a function that takes one joint step on `data`."""
    modules, _, _, loss = build(data, classes)
    groups: dict[tuple[float, float], list] = {}
    for name, parameter in modules.named_parameters():
        decay = DECAY if parameter.dim() > 1 else 0.0
        rate = FUSION_RATE if ".fusion." in name else RATE
        groups.setdefault((decay, rate), []).append(parameter)
    options = [{"params": params, "weight_decay": decay, "lr": rate} for (decay, rate), params in groups.items()]
    optimizer = torch.optim.SGD(options, lr=RATE, momentum=MOMENTUM)

    def take() -> None:
        optimizer.zero_grad(set_to_none=True)
        value = loss()
        value.backward()
        optimizer.step()
        value.item()

    return take
