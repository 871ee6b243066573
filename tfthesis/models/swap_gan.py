"""SwapGAN: a person dressed in the clothes of another photo, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfthesis.losses.least_squares_gan import discriminator_rows, distance_rows, generator_rows, per_example
from tfthesis.models.adversarial_model import DISCRIMINATOR, AdversarialModel

_NETWORKS = ("generator_1", "generator_2", "generator_3", "discriminator")


@keras.saving.register_keras_serializable("tfthesis")
class SwapGAN(AdversarialModel):
    """Three generators and a discriminator of pairs, trained on two images of one person in the same clothes.

    Generator I gives the person of the condition image the pose of the reference (Eq 8.12), Generator II takes the
    result back by the condition's segmentation (Eq 8.15), Generator III finds the persons' masks in both. The
    discriminator tells the pair (reference, condition) from (generated, condition) and (reference, generated), always
    in this order. Loss parts:

    - `reference`: the image of Generator I against the discriminator (Eq 8.14).
    - `condition`: the image of Generator II against the discriminator (Eq 8.16).
    - `mask`: the distance of the masks that Generator III finds from those of reference and condition (Eq 8.17), each a
      mean over pixels.
    - `perceptual`: the distance of features of the generated images from those of reference and condition; the outlook
      of section 8.2.6, not part of the thesis's results.
    - `discriminator`: Eq 8.19.

    The generators minimise their sum (Eq 8.18). No gradient of the discriminator's loss reaches a generator.

    Args:
        generator_1: from image and pose, `[B, H, W, 6]`, to an image.
        generator_2: from image and segmentation `[B, H, W, 3 + C]` to an image; None leaves it out (Generator I&III).
        generator_3: from an image to a mask; None leaves it out (Generator I&II).
        discriminator: of pairs of images `[B, H, W, 6]`.

    Call arguments:
        inputs: "condition" and "pose" (of the reference) `[B, H, W, 3]` in -1..1 and, for Generator II, "segments"
            (of the condition, one channel a class) `[B, H, W, C]`. Training also takes "reference" `[B, H, W, 3]`,
            "reference_mask" and "condition_mask" `[B, H, W, 1]`.

    Returns:
        "generated" (X_GI), with Generator II and "segments" also "restored" (X_GII), and with Generator III
        "generated_mask" and "restored_mask" of these.

    Source: Liu 2018, section 8.2.1.
    """

    generator_parts = ("reference", "condition", "mask", "perceptual")

    def __init__(
        self,
        generator_1: keras.Model,
        generator_2: keras.Model | None,
        generator_3: keras.Model | None,
        discriminator: keras.Model,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.generator_1, self.generator_2, self.generator_3 = generator_1, generator_2, generator_3
        self.discriminator = discriminator
        self._distance: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None

    def networks(self, kind: str) -> Sequence[keras.Model]:
        """Return the generators that there are, or the discriminator."""
        if kind == DISCRIMINATOR:
            return [self.discriminator]
        return [one for one in (self.generator_1, self.generator_2, self.generator_3) if one is not None]

    def compile(
        self,
        generator: keras.optimizers.Optimizer,
        discriminator: keras.optimizers.Optimizer,
        loss_weights: Mapping[str, float],
        distance: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None,
    ) -> None:
        """Set the optimizers and what is trained.

        Args:
            generator, discriminator: an optimizer each.
            loss_weights: of the parts; a part that is not named is not computed.
            distance: of the part `perceptual`: the rows `[n]` of two images, such as
                `tfthesis.losses.perceptual.FeatureDistance`.

        Raises:
            ValueError: an unknown part, none, or one whose generator or distance is missing.
        """
        needed = {"condition": self.generator_2, "mask": self.generator_3, "perceptual": distance}
        missing = sorted(part for part, needs in needed.items() if part in loss_weights and needs is None)
        if missing:
            raise ValueError(f"loss parts {missing} need what is not there: Generator II, III, or a distance")
        super().compile(generator, discriminator, loss_weights)
        self._distance = distance

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> dict[str, tf.Tensor]:
        """Return the generated images and masks."""
        return self.forward(inputs, training)

    def forward(self, inputs: Mapping[str, tf.Tensor], training: bool) -> dict[str, tf.Tensor]:
        """Return the generated images and masks (Eq 8.12, 8.15)."""
        outputs = {"generated": self.generator_1(_joined(inputs["condition"], inputs["pose"]), training=training)}
        if self.generator_2 is not None and "segments" in inputs:
            outputs["restored"] = self.restore(outputs["generated"], inputs["segments"], training)
        if self.generator_3 is not None:
            outputs |= {f"{name}_mask": self.generator_3(image, training=training) for name, image in outputs.items()}
        return outputs

    def restore(self, generated: tf.Tensor, segments: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return what Generator II makes of images `[B, H, W, 3]` and the condition's segmentation `[B, H, W, C]`."""
        return self.generator_2(_joined(generated, segments), training=training)

    def generator_rows(self, inputs: Mapping[str, tf.Tensor], outputs: dict[str, Any]) -> dict[str, tf.Tensor]:
        """Return the rows `[n]` of each part; see the class."""
        reference, condition = inputs["reference"], inputs["condition"]
        targets = {"generated": reference, "restored": condition}
        masks = {"generated": inputs["reference_mask"], "restored": inputs["condition_mask"]}
        made = [name for name in targets if name in outputs]
        computed = {
            "reference": lambda: generator_rows(
                self.discriminator(_joined(outputs["generated"], condition), training=False)
            ),
            "condition": lambda: generator_rows(
                self.discriminator(_joined(reference, outputs["restored"]), training=False)
            ),
            "mask": lambda: tf.add_n([distance_rows(outputs[f"{name}_mask"], masks[name]) for name in made]),
            "perceptual": lambda: tf.add_n([self._distance(outputs[name], targets[name]) for name in made]),
        }
        return {name: computed[name]() for name in self.loss_weights if name in computed}

    def shown(self, outputs: dict[str, Any], training: bool) -> dict[str, tf.Tensor]:
        """Return the generated images."""
        return {name: tf.stop_gradient(outputs[name]) for name in ("generated", "restored") if name in outputs}

    def discriminator_rows(
        self, inputs: Mapping[str, tf.Tensor], shown: dict[str, tf.Tensor], training: bool
    ) -> tf.Tensor:
        """Return the rows `[n]` of Eq 8.19, without its last term where there is no Generator II."""
        reference, condition = inputs["reference"], inputs["condition"]
        pairs = [_joined(reference, condition), _joined(shown["generated"], condition)]
        if "restored" in shown:
            pairs.append(_joined(reference, shown["restored"]))
        # Together, so that a power iteration counts once; no example touches another.
        real, *fakes = tf.split(self.discriminator(tf.concat(pairs, axis=0), training=training), len(pairs))
        return discriminator_rows(real, fakes[0]) + sum(per_example(fake**2) for fake in fakes[1:])

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        networks = {name: getattr(self, name) for name in _NETWORKS}
        return {
            "name": self.name,
            **{name: one and keras.saving.serialize_keras_object(one) for name, one in networks.items()},
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SwapGAN:
        """Rebuild a model from `get_config`."""
        built = {name: config[name] and keras.saving.deserialize_keras_object(config[name]) for name in _NETWORKS}
        return cls(**{**config, **built})


def _joined(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    return tf.concat([first, tf.cast(second, first.dtype)], axis=-1)
