"""Features of all patches of a spatial pyramid, from one layer of a network or several in one pass.

Liu 2018, section 4.2: an image is cut into 1 + 4 + 9 patches, each is resized to the input of a network, and the
outputs of fully connected layers describe it. The encoder of a network is its name with `_patches`:

| network | layers |
|---|---|
| `alexnet` | `fc6`, `fc7` |
| `vgg19`, `resnet152` | any of `keras.applications`; the thesis's `fc17` and `fc18` of VGG-19 are its `fc1` and `fc2` |
| `efficientnet_lite0`, `efficientnet_lite1`, `efficientnet_lite2` | `feature`, and any other |
| `pixels` | `pixels`, `projection`; it needs no weights, and is for tests |

A map `[h, w, D]` of a layer is averaged over its places.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tfthesis.assertions import after
from tfthesis.data.images import DECODER_VERSION, decode
from tfthesis.encoders import alexnet, efficientnet_lite, keras_applications, pixels
from tfthesis.encoders.encoder import Encoder
from tfthesis.errors import UserError, closest
from tfthesis.inverted_index.pyramid import LEVELS, cut_patches, patches_an_image

SUFFIX = "_patches"
# Layers of keras.applications under the names that the thesis gives them.
_THESIS_NAMES = {"fc17": "fc1", "fc18": "fc2"}


@dataclasses.dataclass(frozen=True)
class Taps:
    """A network of which some layers are read.

    Attributes:
        side: pixels of its square input.
        read: maps RGB 0..255 `[B, side, side, 3]` to a feature `[B, D]` of each layer.
        widths: D of each layer.
        source: where the weights come from.
        variables: that `read` uses.
        scale: what is done to the pixels, in words.
    """

    side: int
    read: Callable[[tf.Tensor], list[tf.Tensor]]
    widths: tuple[int, ...]
    source: str | Path | None
    variables: Sequence[tf.Variable]
    scale: str


class PyramidPatches(Encoder):
    """The features of an image's patches, `[B, P * (D1 + D2 + ...)]`; `split` takes them apart.

    Source: Liu 2018, sections 4.2.1 and 4.2.2. Patches are scaled bilinearly to the whole input, not cropped.
    """

    modality = "image"
    options = ("layers", "levels")
    item_dtype = tf.uint8
    # Patches are cut from the whole picture, whose size differs.
    item_shape = (None, None, 3)

    def __init__(
        self,
        name: str,
        weights: str | Path | None = None,
        layers: Sequence[str] = (),
        levels: Sequence[int] = LEVELS,
    ):
        """Load the network.

        Args:
            name: of a network, and `_patches`.
            weights: as the encoder of the network takes them.
            layers: whose outputs are the features; by default the last that the table above names.
            levels: parts along either side in each level of the pyramid.

        Raises:
            UserError: a layer or level is unfit, or what the encoder of the network raises.
        """
        network = name.removesuffix(SUFFIX)
        self.levels = tuple(levels)
        self.layers = tuple(layers) or (_DEFAULT_LAYERS[network],)
        self.patches = patches_an_image(_checked(self.levels))
        self._taps = _NETWORKS[network](network, weights, self.layers)
        self.widths = self._taps.widths
        super().__init__(name, self._taps.source, self.patches * sum(self.widths), self._taps.variables)

    def chosen(self) -> dict[str, Any]:
        return {"layers": list(self.layers), "levels": list(self.levels)}

    def preprocessing(self) -> dict[str, Any]:
        return {
            "size": self._taps.side,
            "mode": "patches, stretched",
            "scale": self._taps.scale,
            **self.chosen(),
            "decoder": DECODER_VERSION,
            "version": 1,
        }

    def prepare(self, raw: tf.Tensor) -> tf.Tensor:
        image = decode(raw)
        least, shape = max(self.levels), tf.shape(image)[:2]
        expected = f"expected at least {least} pixels along each side, to cut it into patches"
        large = tf.debugging.Assert(tf.reduce_all(shape >= least), [f"image: {expected}, got height and width", shape])
        with after(large):
            return tf.identity(image)

    def encode(self, items: tf.Tensor) -> tf.Tensor:
        items = tf.cast(items, tf.float32)
        patches = cut_patches(items, self._taps.side, self.levels)
        patches = tf.reshape(patches, [-1, self._taps.side, self._taps.side, 3])
        features = tf.concat(self._taps.read(patches), axis=1)
        return tf.reshape(features, [-1, self.dimension])

    def split(self, features: tf.Tensor) -> list[tf.Tensor]:
        """Return features `[B, dimension]` as `[B, P, D]` for each layer."""
        return tf.split(tf.reshape(features, [-1, self.patches, sum(self.widths)]), self.widths, axis=2)


def _checked(levels: Sequence[int]) -> Sequence[int]:
    if not levels or any(not isinstance(parts, int) or isinstance(parts, bool) or parts < 1 for parts in levels):
        raise UserError(f"levels of the pyramid: expected positive whole numbers such as {LEVELS}, got {levels!r}")
    return levels


def _alexnet(name: str, weights: str | Path | None, layers: Sequence[str]) -> Taps:
    for layer in layers:
        if layer not in alexnet.LAYERS:
            raise closest(layer, alexnet.LAYERS, f"layer of {name}")
    deepest = max(layers, key=alexnet.LAYERS.index)
    encoder = alexnet.AlexNet(name, weights, layer=deepest)

    def read(pixels: tf.Tensor) -> list[tf.Tensor]:
        found = encoder.layers(pixels)
        return [found[layer] for layer in layers]

    source = Path(encoder.weights)
    widths = tuple(alexnet.shapes(alexnet.PLAN)[f"{layer}/bias"][0] for layer in layers)
    return Taps(alexnet.CROP, read, widths, source, encoder.trackables(), encoder.preprocessing()["scale"])


def _application(name: str, weights: str | Path | None, layers: Sequence[str]) -> Taps:
    layers = [_THESIS_NAMES.get(layer, layer) for layer in layers]
    application = keras_applications.APPLICATIONS[name]
    # Any of the classifier's layers says that it is needed.
    fully_connected = [layer for layer in layers if layer.startswith("fc")]
    opened = application._replace(layer=[*fully_connected, *layers][0])
    network, source = keras_applications.open_network(name, opened, weights)
    side = application.size if application.mode == "crop" else 224
    return _keras(network, layers, side, application.preprocess, source, "keras.applications")


def _efficientnet_lite(name: str, weights: str | Path | None, layers: Sequence[str]) -> Taps:
    network, source = efficientnet_lite.open_network(name, weights)
    side = efficientnet_lite.VARIANTS[name].size
    return _keras(network, layers, side, lambda x: (x - 127.0) / 128.0, source, "(x - 127) / 128")


def _keras(
    network: keras.Model,
    layers: Sequence[str],
    side: int,
    preprocess: Callable[[tf.Tensor], tf.Tensor],
    source: str | Path,
    scale: str,
) -> Taps:
    known = [layer.name for layer in network.layers]
    for layer in layers:
        if layer not in known:
            raise closest(layer, known, f"layer of {network.name}")
    outputs = [_pooled(network.get_layer(layer).output) for layer in layers]
    taps = keras.Model(network.input, outputs)

    def read(pixels: tf.Tensor) -> list[tf.Tensor]:
        return taps(preprocess(pixels), training=False)

    variables = [variable.value for variable in taps.variables]
    return Taps(side, read, tuple(output.shape[-1] for output in outputs), source, variables, scale)


def _pooled(output: Any) -> Any:
    if len(output.shape) == 2:
        return output
    if len(output.shape) != 4:
        raise UserError(f"layers: expected one whose output is a vector or a map, got shape {output.shape}")
    return keras.layers.GlobalAveragePooling2D(dtype="float32")(output)


def _pixels(name: str, weights: str | Path | None, layers: Sequence[str]) -> Taps:
    encoder = pixels.Pixels(name, weights)
    widths = {"pixels": pixels.SIDE * pixels.SIDE * 3, "projection": pixels.DIMENSION}
    for layer in layers:
        if layer not in widths:
            raise closest(layer, list(widths), f"layer of {name}")

    def read(patches: tf.Tensor) -> list[tf.Tensor]:
        found = {"pixels": tf.reshape(patches / 255.0, [-1, widths["pixels"]]), "projection": encoder.encode(patches)}
        return [found[layer] for layer in layers]

    scale = f"x / 255, or {encoder.preprocessing()['scale']}"
    return Taps(pixels.SIDE, read, tuple(widths[layer] for layer in layers), None, encoder.trackables(), scale)


_NETWORKS: Mapping[str, Callable[[str, str | Path | None, Sequence[str]], Taps]] = {
    "alexnet": _alexnet,
    **dict.fromkeys(keras_applications.APPLICATIONS, _application),
    **dict.fromkeys(efficientnet_lite.VARIANTS, _efficientnet_lite),
    "pixels": _pixels,
}
_DEFAULT_LAYERS = {
    "alexnet": "fc7",
    **{name: application.layer for name, application in keras_applications.APPLICATIONS.items()},
    **dict.fromkeys(efficientnet_lite.VARIANTS, "feature"),
    "pixels": "projection",
}

ENCODERS = {f"{network}{SUFFIX}": PyramidPatches for network in _NETWORKS}
