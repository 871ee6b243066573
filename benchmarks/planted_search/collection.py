"""The collection that is searched: patches of images, some of which are views of one scene."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from tfthesis.inverted_index.projection import unit
from tfthesis.inverted_index.pyramid import patches_an_image

WIDTH = 64
PATCHES = patches_an_image()
CENTRES = 20_000
GROUP = 4
QUERIES = 200
BLOCK = 10_000
#: Noise of a patch around its centre.
SPREAD = 0.5
#: Noise of a view around its scene, and the share of the parts that it keeps.
MOVED, KEPT = 0.7, 0.7


def noise(generator: np.random.Generator, *shape: int) -> np.ndarray:
    """Return directions of length about one, float32 `[*shape, WIDTH]`."""
    return generator.standard_normal((*shape, WIDTH), np.float32) / np.float32(np.sqrt(WIDTH))


@dataclasses.dataclass
class Planted:
    """A collection that is drawn block by block, the same for the same seed."""

    images: int
    seed: int = 0

    def __post_init__(self):
        self._centres = noise(np.random.default_rng([self.seed, 0]), CENTRES)
        generator = np.random.default_rng([self.seed, 1])
        self.groups = min(2 * QUERIES, self.images // (5 * GROUP))
        self._scenes = self._random(generator, self.groups)
        self.rows = generator.choice(self.images, (self.groups, GROUP), replace=False)

    def _random(self, generator: np.random.Generator, count: int) -> np.ndarray:
        centres = self._centres[generator.integers(CENTRES, size=(count, PATCHES))]
        return unit(centres + SPREAD * noise(generator, count, PATCHES))

    def _views(self, generator: np.random.Generator, groups: np.ndarray) -> np.ndarray:
        """Return a view `[n, PATCHES, WIDTH]` of the scene of each of `groups` `[n]`."""
        views = unit(self._scenes[groups] + MOVED * noise(generator, len(groups), PATCHES))
        lost = generator.random((len(groups), PATCHES)) > KEPT
        lost[:, 0] = False
        return np.where(lost[..., None], self._random(generator, len(groups)), views)

    def sample(self, patches: int) -> np.ndarray:
        """Return patches like those of the collection, to train on, `[patches, WIDTH]`."""
        generator = np.random.default_rng([self.seed, 2])
        return self._random(generator, -(-patches // PATCHES)).reshape(-1, WIDTH)[:patches]

    def queries(self) -> tuple[np.ndarray, np.ndarray]:
        """Return queries `[Q, PATCHES, WIDTH]` and the rows of the four images of each, `[Q, GROUP]`."""
        groups = np.arange(min(QUERIES, self.groups))
        return self._views(np.random.default_rng([self.seed, 3]), groups), self.rows[: len(groups)]

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the first row and the patches `[n, PATCHES, WIDTH]` of each block."""
        for start in range(0, self.images, BLOCK):
            generator = np.random.default_rng([self.seed, 4, start])
            count = min(BLOCK, self.images - start)
            features = self._random(generator, count)
            groups, places = np.nonzero((self.rows >= start) & (self.rows < start + count))
            features[self.rows[groups, places] - start] = self._views(generator, groups)
            yield start, features
