"""AlexNet as Caffe released it: the features fc6 and fc7 of a network trained on ImageNet.

Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural networks", 2012, in the form
of Caffe's `bvlc_alexnet`: the first two stages are convolution, rectifier, local response normalisation, pooling, in
this order (`bvlc_reference_caffenet` pools before it normalises; its weights do not belong here). The second, fourth
and fifth convolution are grouped: each half of their outputs sees one half of the channels.

Weights are an `.npz` file of float arrays:

| key | shape |
|---|---|
| `conv1/kernel` ... `conv5/kernel` | `[height, width, channels of a group, outputs]`; conv1 sees blue, green, red |
| `fc6/kernel` | `[6, 6, 256, 4096]`: the last pooling's rows, columns and channels, then outputs |
| `fc7/kernel`, `fc8/kernel` | `[inputs, outputs]` |
| `conv1/bias` ... `fc8/bias` | `[outputs]` |

Caffe keeps kernels as `[outputs, channels, height, width]`, which become ours with the axes (2, 3, 1, 0). Its fc6 is
`[4096, 9216]` with the channel counted first: reshaped to `[4096, 256, 6, 6]` it is such a kernel as well. Its fc7 and
fc8 are transposed. The classifier fc8 may be missing.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfthesis.data.images import DECODER_VERSION, decode_and_resize
from tfthesis.encoders.encoder import Encoder
from tfthesis.errors import UserError, closest

SIDE, CROP = 256, 227
# Means of ImageNet's blue, green and red.
MEANS = (104.0, 117.0, 123.0)
LAYERS = ("fc6", "fc7")


class Convolution(NamedTuple):
    """One convolution with its rectifier and what follows.

    Attributes:
        channels: outputs.
        kernel: width in pixels.
        stride, pad: in pixels; padded with zeros.
        groups: parts into which inputs and outputs are cut.
        normalised: local response normalisation follows.
        pooled: a maximum over 3 x 3 with stride 2 follows.
    """

    channels: int
    kernel: int
    stride: int = 1
    pad: int = 0
    groups: int = 1
    normalised: bool = False
    pooled: bool = False


class Plan(NamedTuple):
    """Widths of the network: its convolutions, and the units of its fully connected layers from fc6 on."""

    convolutions: tuple[Convolution, ...]
    units: tuple[int, ...]


PLAN = Plan(
    (
        Convolution(96, 11, stride=4, normalised=True, pooled=True),
        Convolution(256, 5, pad=2, groups=2, normalised=True, pooled=True),
        Convolution(384, 3, pad=1),
        Convolution(384, 3, pad=1, groups=2),
        Convolution(256, 3, pad=1, groups=2, pooled=True),
    ),
    (4096, 4096, 1000),
)


def shapes(plan: Plan) -> dict[str, tuple[int, ...]]:
    """Return the shape of every array by its key, fc8 included."""
    found: dict[str, tuple[int, ...]] = {}
    channels, side = 3, CROP
    for number, layer in enumerate(plan.convolutions, start=1):
        found[f"conv{number}/kernel"] = (layer.kernel, layer.kernel, channels // layer.groups, layer.channels)
        found[f"conv{number}/bias"] = (layer.channels,)
        channels = layer.channels
        side = (side + 2 * layer.pad - layer.kernel) // layer.stride + 1
        side = (side - 3) // 2 + 1 if layer.pooled else side
    inputs: tuple[int, ...] = (side, side, channels)
    for number, units in enumerate(plan.units, start=len(plan.convolutions) + 1):
        found[f"fc{number}/kernel"] = (*inputs, units)
        found[f"fc{number}/bias"] = (units,)
        inputs = (units,)
    return found


class AlexNet(Encoder):
    """The rectified output of fc7 or of fc6, 4096-d, of the middle 227 pixels of an image stretched to 256.

    Source: the baseline of Liu 2018, section 2.4.3, and the feature of chapter 4. That means are subtracted a channel
    and not a pixel is our choice.
    """

    modality = "image"
    options = ("layer",)
    item_dtype = tf.float32
    item_shape = (CROP, CROP, 3)

    def __init__(self, name: str = "alexnet", weights: str | Path | None = None, layer: str = "fc7"):
        """Load the network.

        Args:
            name: "alexnet".
            weights: the `.npz` file; there is no default.
            layer: "fc7" or "fc6".

        Raises:
            UserError: the layer is unknown, or the file is missing, unreadable, or lacks an array of the right shape.
        """
        if layer not in LAYERS:
            raise closest(str(layer), LAYERS, f"layer of encoder {name!r}")
        if weights is None:
            raise UserError(
                f"encoder {name!r}: give its weights, an .npz file of bvlc_alexnet; tfthesis/encoders/alexnet.py "
                "explains its keys"
            )
        path = Path(weights)
        self.layer = layer
        self._plan = PLAN
        arrays = read_weights(path, self._plan)
        last = LAYERS[: LAYERS.index(layer) + 1]
        used = {key: array for key, array in arrays.items() if key.startswith(("conv", *last))}
        self._arrays = {
            key: tf.Variable(array, trainable=False, name=key.replace("/", "_")) for key, array in used.items()
        }
        kernel, bias = arrays.get("fc8/kernel"), arrays.get("fc8/bias")
        self._classifier = None if kernel is None else lambda rows: rows @ kernel + bias
        dimension = self._arrays[f"{layer}/bias"].shape[0]
        super().__init__(name, path, dimension, list(self._arrays.values()))

    def chosen(self) -> dict[str, Any]:
        return {"layer": self.layer}

    def preprocessing(self) -> dict[str, Any]:
        return {
            "size": SIDE,
            "crop": CROP,
            "mode": "stretch",
            "scale": f"blue, green, red - {MEANS}",
            "layer": self.layer,
            "decoder": DECODER_VERSION,
            "version": 1,
        }

    def prepare(self, raw: tf.Tensor) -> tf.Tensor:
        first = (SIDE - CROP) // 2
        return decode_and_resize(raw, SIDE, SIDE, mode="stretch")[first : first + CROP, first : first + CROP]

    def encode(self, items: tf.Tensor) -> tf.Tensor:
        return self.layers(items)[self.layer]

    def layers(self, items: tf.Tensor) -> dict[str, tf.Tensor]:
        """Map pixels `[B, 227, 227, 3]` to the features `[B, 4096]` of `layer` and of those before it, by name."""
        x = tf.reverse(items, [-1]) - tf.constant(MEANS)
        for number, layer in enumerate(self._plan.convolutions, start=1):
            x = convolve(x, self._arrays[f"conv{number}/kernel"], self._arrays[f"conv{number}/bias"], layer)
        x = tf.reshape(x, [-1, int(np.prod(x.shape[1:]))])
        found = {}
        for name in LAYERS[: LAYERS.index(self.layer) + 1]:
            kernel = self._arrays[f"{name}/kernel"]
            x = tf.nn.relu(x @ tf.reshape(kernel, [-1, kernel.shape[-1]]) + self._arrays[f"{name}/bias"])
            found[name] = x
        return found

    def logits(self, features: tf.Tensor) -> tf.Tensor:
        """Map features fc7 `[B, 4096]` to ImageNet logits `[B, 1000]`; not part of what a SavedModel tracks.

        Raises:
            UserError: the features are fc6, or the weights have no classifier.
        """
        if self.layer != "fc7" or self._classifier is None:
            raise UserError(f"encoder {self.name!r}: logits need the layer fc7 and weights with fc8")
        return self._classifier(features)


def convolve(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, layer: Convolution) -> tf.Tensor:
    """Return `x` `[B, h, w, C]` after one convolution, its rectifier, and what `layer` says that follows."""
    pad = layer.pad
    x = tf.pad(x, [[0, 0], [pad, pad], [pad, pad], [0, 0]])
    # One convolution a group: TensorFlow's own grouping is not there for every device.
    parts = zip(tf.split(x, layer.groups, axis=-1), tf.split(kernel, layer.groups, axis=-1), strict=True)
    x = tf.concat([tf.nn.conv2d(part, own, layer.stride, "VALID") for part, own in parts], axis=-1)
    x = tf.nn.relu(x + bias)
    if layer.normalised:
        x = local_response_normalization(x)
    # Caffe rounds the size of a pooled map up; all of this network's are whole.
    return tf.nn.max_pool2d(x, 3, 2, "VALID") if layer.pooled else x


def local_response_normalization(x: tf.Tensor) -> tf.Tensor:
    """Divide each value by (1 + 0.0001 m) ** 0.75, m the mean square over the 5 channels around it, as Caffe does.

    Channels beyond the first and last count as zeros. Caffe divides its alpha by the 5 channels, TensorFlow does not.
    """
    return tf.nn.local_response_normalization(x, depth_radius=2, bias=1.0, alpha=1e-4 / 5, beta=0.75)


def read_weights(path: Path, plan: Plan) -> dict[str, np.ndarray]:
    """Return the arrays of a weights file as float32, checked against `plan`; those of fc8 only where it has both.

    Raises:
        UserError: the file is missing or unreadable; arrays are missing or have other shapes: all are named.
    """
    if not path.is_file():
        raise UserError(f"weights: no file {path}")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays: Mapping[str, np.ndarray] = dict(file)
    except (OSError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise UserError(f"weights {path}: cannot be read as arrays: {error}") from error
    wanted = shapes(plan)
    if not any(key.startswith("fc8/") for key in arrays):
        wanted = {key: shape for key, shape in wanted.items() if not key.startswith("fc8/")}
    missing = [key for key in wanted if key not in arrays]
    if missing:
        raise UserError(f"weights {path} do not fit alexnet: missing are {', '.join(missing)}")
    wrong = [
        f"{key} of shape {shape}, got {arrays[key].shape}"
        for key, shape in wanted.items()
        if arrays[key].shape != shape or arrays[key].dtype.kind != "f"
    ]
    if wrong:
        raise UserError(f"weights {path} do not fit alexnet: expected float arrays {'; '.join(wrong)}")
    return {key: arrays[key].astype(np.float32) for key in wanted}


ENCODERS = {"alexnet": AlexNet}
