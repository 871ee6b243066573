"""The distance of images in the features of a network that was trained to classify."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
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
        weights: "imagenet", which downloads them; a `.weights.h5`, `.h5` or `.keras` file of the network, with its
            classifier or without; or None: by lot.

    Raises:
        UserError: an unknown network or layer, or weights that are missing, cannot be downloaded or belong to another
            network.

    Source: the perceptual loss of Johnson et al., Perceptual losses for real-time style transfer and super-resolution,
    Eq 2, which Liu 2018, section 8.2.6, proposes.
    """

    def __init__(self, network: str, layers: Sequence[str], weights: str | None = DOWNLOAD):
        if network not in NETWORKS:
            raise closest(network, NETWORKS, "network of the perceptual loss")
        module = getattr(keras.applications, network)
        full = _opened(getattr(module, network.upper()), network, weights)
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


def _opened(build: Callable[..., keras.Model], name: str, weights: str | None) -> keras.Model:
    if weights is None:
        return build(include_top=False, weights=None)
    if weights == DOWNLOAD:
        try:
            return build(include_top=False, weights=DOWNLOAD)
        except Exception as error:  # keras.utils.get_file raises a bare Exception when the network fails
            raise UserError(
                f"perceptual loss: the ImageNet weights of {name} could not be downloaded ({error}). Download them "
                "elsewhere and give the file as perceptual_weights."
            ) from error
    if not Path(weights).is_file():
        raise UserError(f"perceptual loss: no file {weights}; expected weights of {name}")
    for top in (False, True):
        network = build(include_top=top, weights=None)
        try:
            # Reads arrays only: even of a .keras file no layer is built from what it says.
            network.load_weights(weights)
        except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
            reason = error
            continue
        return network
    raise UserError(f"perceptual loss: weights {weights} do not fit {name}: {reason}") from reason
