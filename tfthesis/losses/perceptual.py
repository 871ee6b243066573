"""The distance of images in the features of a network that was trained to classify."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import keras
import tensorflow as tf

from tfthesis.errors import UserError, closest
from tfthesis.losses.least_squares_gan import per_example

NETWORKS = ("vgg16", "vgg19")
#: The name under which keras.applications downloads its own ImageNet weights.
DOWNLOAD = "imagenet"


class FeatureDistance:
    """The mean squared difference of two images' features, a mean over the layers.

    It is no part of a model: nothing of it is trained or saved.

    Args:
        network: "vgg16" or "vgg19" of keras.applications.
        layers: names of its layers, such as "block2_conv2".
        weights: "imagenet", a file of the network's weights without its classifier, or None: by lot.

    Raises:
        UserError: an unknown network or layer, or no such file of weights.

    Source: the perceptual loss of Johnson et al., Perceptual losses for real-time style transfer and super-resolution,
    Eq 2, which Liu 2018, section 8.2.6, proposes.
    """

    def __init__(self, network: str, layers: Sequence[str], weights: str | None = DOWNLOAD):
        if network not in NETWORKS:
            raise closest(network, NETWORKS, "network of the perceptual loss")
        if weights not in (None, DOWNLOAD) and not Path(weights).is_file():
            raise UserError(f"perceptual loss: no file {weights}; expected weights of {network} without its classifier")
        module = getattr(keras.applications, network)
        full = getattr(module, network.upper())(include_top=False, weights=weights)
        known = [layer.name for layer in full.layers[1:]]
        for name in layers:
            if name not in known:
                raise closest(name, known, f"layer of {network}")
        self._preprocess = module.preprocess_input
        self._features = keras.Model(full.input, [full.get_layer(name).output for name in layers])
        self._features.trainable = False

    def __call__(self, image: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        """Return the distance `[n]` of images `[n, H, W, 3]`, values in -1..1, from others of that shape."""
        both = [self._maps(images) for images in (image, target)]
        rows = [per_example((first - second) ** 2) for first, second in zip(*both, strict=True)]
        return tf.add_n(rows) / len(rows)

    def _maps(self, images: tf.Tensor) -> list[tf.Tensor]:
        pixels = (tf.cast(images, tf.float32) + 1) * 127.5
        return tf.nest.flatten(self._features(self._preprocess(pixels), training=False))
