"""Chains of generators between two domains that lead back to where they began."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfthesis.layers.image_pool import ImagePool
from tfthesis.losses.least_squares_gan import discriminator_rows, distance_rows, generator_rows
from tfthesis.models.adversarial_model import GENERATOR, AdversarialModel

_NETWORKS = ("to_b", "to_a", "discriminator_a", "discriminator_b")


@keras.saving.register_keras_serializable("tfthesis")
class CycleConsistentGAN(AdversarialModel):
    """CycleGAN with M generators in the chain from A to B and N in the one from B to A.

    (1, 1) is the vanilla CycleGAN, longer chains are Long CycleGAN (Eq 8.4-8.6), and with the parts `inner` and
    `similarity` it is Nest CycleGAN (Eq 8.7-8.11). Loss parts, each a sum over both domains:

    - `adversarial`: the last image of a chain against its discriminator, as LSGAN has it (Eq 8.1).
    - `cycle`: the distance of an image from what both whole chains make of it (Eq 8.2).
    - `inner`: likewise for each m below M and up to N: the first m generators of a chain, then the last m of the other
      (Eq 8.7-8.9, whose m = M is the cycle).
    - `similarity`: the distance of the first image of either chain, of whatever images meet (Eq 8.11).
    - `identity`: the distance of an image from what the chain INTO its domain makes of it; not in the thesis.
    - `discriminator`: real images against those of a pool (Eq 8.1).

    Args:
        to_b, to_a: the generators of each chain, or one that a chain passes several times.
        discriminator_a, discriminator_b: of the domains.
        steps: M and N; None takes the numbers of generators.
        pool: images in the pool of each domain, or the two pools.

    Call arguments:
        inputs: "a" and "b" `[B, H, W, 3]`, one of them or both, in -1..1.

    Returns:
        "to_b" and "to_a": the last images of the chains.

    Raises:
        ValueError: a chain whose generators are neither one nor as many as its steps.

    Source: Liu 2018, section 8.1.
    """

    generator_parts = ("adversarial", "cycle", "inner", "similarity", "identity")

    def __init__(
        self,
        to_b: Sequence[keras.Model],
        to_a: Sequence[keras.Model],
        discriminator_a: keras.Model,
        discriminator_b: keras.Model,
        steps: tuple[int, int] | None = None,
        pool: int | Sequence[ImagePool] = 50,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.to_b, self.to_a = list(to_b), list(to_a)
        self.discriminator_a, self.discriminator_b = discriminator_a, discriminator_b
        self.steps = tuple(steps or (len(self.to_b), len(self.to_a)))
        for name, chain, count in zip(("to_b", "to_a"), (self.to_b, self.to_a), self.steps, strict=True):
            if count < 1 or len(chain) not in (1, count):
                raise ValueError(f"{name}: expected 1 generator or as many as steps, {count}, got {len(chain)}")
        pools = [ImagePool(pool, name=f"pool_{domain}") for domain in "ab"] if isinstance(pool, int) else pool
        self.pool_a, self.pool_b = pools
        for images, network in ((self.pool_a, self.discriminator_a), (self.pool_b, self.discriminator_b)):
            if not images.built:
                images.build(network.input_shape)

    def networks(self, kind: str) -> Sequence[keras.Model]:
        """Return the generators or the discriminators."""
        return [*self.to_b, *self.to_a] if kind == GENERATOR else [self.discriminator_a, self.discriminator_b]

    def chain(self, target: str) -> list[keras.Model]:
        """Return the generators that lead to domain `target`, "a" or "b", one for each step."""
        networks, count = (self.to_b, self.steps[0]) if target == "b" else (self.to_a, self.steps[1])
        return networks if len(networks) == count else networks * count

    def translate(self, image: tf.Tensor, target: str, training: bool = False) -> list[tf.Tensor]:
        """Return what each step of the chain to `target` makes of images `[B, H, W, 3]`, the last one at the end."""
        return _passed(image, self.chain(target), training)

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> dict[str, tf.Tensor]:
        """Return the translations of what is given."""
        targets = {"a": "b", "b": "a"}
        return {
            f"to_{target}": self.translate(inputs[domain], target, training)[-1]
            for domain, target in targets.items()
            if domain in inputs
        }

    def forward(self, inputs: Mapping[str, tf.Tensor], training: bool) -> dict[str, Any]:
        """Return the images of both chains, step by step."""
        return {f"to_{t}": self.translate(inputs[s], t, training) for s, t in (("a", "b"), ("b", "a"))}

    def generator_rows(self, inputs: Mapping[str, tf.Tensor], outputs: dict[str, Any]) -> dict[str, tf.Tensor]:
        """Return the rows `[n]` of each part; see the class."""
        to_b, to_a = outputs["to_b"], outputs["to_a"]
        computed = {
            "adversarial": lambda: (
                generator_rows(self.discriminator_b(to_b[-1], training=False))
                + generator_rows(self.discriminator_a(to_a[-1], training=False))
            ),
            "cycle": lambda: (
                distance_rows(_passed(to_b[-1], self.chain("a"), True)[-1], inputs["a"])
                + distance_rows(_passed(to_a[-1], self.chain("b"), True)[-1], inputs["b"])
            ),
            "inner": lambda: self._inner(to_b, "a", inputs["a"]) + self._inner(to_a, "b", inputs["b"]),
            "similarity": lambda: distance_rows(to_b[0], to_a[0]),
            "identity": lambda: (
                distance_rows(self.translate(inputs["b"], "b", True)[-1], inputs["b"])
                + distance_rows(self.translate(inputs["a"], "a", True)[-1], inputs["a"])
            ),
        }
        return {name: computed[name]() for name in self.loss_weights if name in computed}

    def _inner(self, images: list[tf.Tensor], back: str, original: tf.Tensor) -> tf.Tensor:
        """Return the rows of the inner cycles that begin with the chain of `images`."""
        chain, rows = self.chain(back), tf.zeros(tf.shape(original)[:1], original.dtype)
        for count in range(1, min(len(images) - 1, len(chain)) + 1):
            rows += distance_rows(_passed(images[count - 1], chain[-count:], True)[-1], original)
        return rows

    def shown(self, outputs: dict[str, Any], training: bool) -> dict[str, tf.Tensor]:
        """Return the last images of both chains or, in training, what the pools make of them."""
        last = {"a": outputs["to_a"][-1], "b": outputs["to_b"][-1]}
        return {"a": self.pool_a(last["a"]), "b": self.pool_b(last["b"])} if training else last

    def discriminator_rows(
        self, inputs: Mapping[str, tf.Tensor], shown: dict[str, tf.Tensor], training: bool
    ) -> tf.Tensor:
        """Return the rows `[n]` of both discriminators."""
        rows = []
        for domain, network in (("a", self.discriminator_a), ("b", self.discriminator_b)):
            # Together, so that a power iteration counts once; no example touches another.
            answers = network(tf.concat([inputs[domain], shown[domain]], axis=0), training=training)
            rows.append(discriminator_rows(*tf.split(answers, 2)))
        return tf.add_n(rows)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        networks = {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in _NETWORKS}
        pools = [keras.saving.serialize_keras_object(pool) for pool in (self.pool_a, self.pool_b)]
        return {"name": self.name, "steps": list(self.steps), "pool": pools, **networks}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> CycleConsistentGAN:
        """Rebuild a model from `get_config`."""
        built = {name: keras.saving.deserialize_keras_object(config[name]) for name in (*_NETWORKS, "pool")}
        return cls(**{**config, **built})


def _passed(image: tf.Tensor, networks: Sequence[keras.Model], training: bool) -> list[tf.Tensor]:
    images = []
    for network in networks:
        image = network(image, training=training)
        images.append(image)
    return images
