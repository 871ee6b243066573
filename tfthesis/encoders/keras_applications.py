"""The image encoders of the thesis: ResNet-152 as a fully convolutional network, and VGG-19.

Liu 2018, chapter 7, sections 7.2.1 and 7.4.5 (Table 7.9). Networks and preprocessing are those of `keras.applications`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfthesis.data.images import DECODER_VERSION, decode_and_resize
from tfthesis.encoders.encoder import Encoder
from tfthesis.errors import UserError

# The name under which keras.applications downloads its own ImageNet weights.
DOWNLOAD = "imagenet"


class Application(NamedTuple):
    """How a network of `keras.applications` becomes an encoder.

    Attributes:
        build: the function that builds the network, called with `weights` and with either `include_top=True` or
            `include_top=False, input_shape=(None, None, 3)`.
        preprocess: maps RGB 0..255 to the network's input.
        layer: whose output is the feature; a map `[B, h, w, D]` is averaged over h and w.
        mode: resizing, see `tfthesis.data.images.resize`.
        size: pixels of the square, or of the shorter side.
    """

    build: Callable[..., keras.Model]
    preprocess: Callable[[tf.Tensor], tf.Tensor]
    layer: str
    mode: str
    size: int


APPLICATIONS = {
    "resnet152": Application(
        keras.applications.ResNet152, keras.applications.resnet.preprocess_input, "conv5_block3_out", "shorter", 512
    ),
    "vgg19": Application(keras.applications.VGG19, keras.applications.vgg19.preprocess_input, "fc2", "crop", 224),
}


class KerasApplication(Encoder):
    """Features of an ImageNet network of `keras.applications`, by default ResNet-152 (2048-d) and VGG-19 (4096-d)."""

    modality = "image"
    item_dtype = tf.float32

    def __init__(self, name: str, weights: str | Path | None = None):
        """Load the network.

        Args:
            name: a key of `APPLICATIONS`.
            weights: a `.weights.h5`, `.h5` or `.keras` file of the network, with or without its classifier; None or
                "imagenet" takes Keras's own weights, downloaded on first use.

        Raises:
            UserError: the weights are missing, cannot be downloaded, or belong to another network.
        """
        self._application = application = APPLICATIONS[name]
        network, source = open_network(name, application, weights)
        output = network.get_layer(application.layer).output
        pooled = output if len(output.shape) == 2 else keras.layers.GlobalAveragePooling2D(dtype="float32")(output)
        features = keras.Model(network.input, pooled)
        super().__init__(name, source, pooled.shape[-1], [variable.value for variable in features.variables])
        self.item_shape = (application.size, application.size, 3) if application.mode != "shorter" else (None, None, 3)
        self._network = lambda pixels: features(pixels, training=False)

    def preprocessing(self) -> dict[str, Any]:
        size, mode, layer = self._application.size, self._application.mode, self._application.layer
        return {
            "size": size,
            "mode": mode,
            "scale": "keras.applications",
            "layer": layer,
            "decoder": DECODER_VERSION,
            "version": 1,
        }

    def prepare(self, raw: tf.Tensor) -> tf.Tensor:
        return decode_and_resize(raw, self._application.size, self._application.size, mode=self._application.mode)

    def encode(self, items: tf.Tensor) -> tf.Tensor:
        return self._network(self._application.preprocess(items))


def open_network(
    name: str, application: Application, weights: str | Path | None = None
) -> tuple[keras.Model, str | Path]:
    """Return a network with its weights, and where they come from; see `KerasApplication` for arguments and errors."""
    source = DOWNLOAD if weights in (None, DOWNLOAD) else Path(weights)
    network = _downloaded(name, application) if source == DOWNLOAD else _from_file(application, source)
    if network.compute_dtype != "float32":
        policy = keras.config.dtype_policy().name
        raise UserError(f"encoder {name!r} needs Keras's dtype policy 'float32', got {policy!r}")
    return network, source


def _build(application: Application, weights: str | None, top: bool) -> keras.Model:
    options = {"include_top": True} if top else {"include_top": False, "input_shape": (None, None, 3)}
    return application.build(weights=weights, **options)


def _needs_top(application: Application) -> bool:
    return application.layer.startswith("fc")


def _downloaded(name: str, application: Application) -> keras.Model:
    try:
        return _build(application, DOWNLOAD, _needs_top(application))
    except Exception as error:  # keras.utils.get_file raises a bare Exception when the network fails
        raise UserError(
            f"encoder {name!r}: the ImageNet weights could not be downloaded ({error}). Download them elsewhere and "
            "give the file as weights (.weights.h5, .h5 or .keras), or use an EfficientNet-Lite encoder."
        ) from error


def _from_file(application: Application, path: Path) -> keras.Model:
    """Return the network with the weights of a file, whether or not that has the classifier."""
    if not path.is_file():
        raise UserError(f"weights: no file {path}")
    needs_top = _needs_top(application)
    for top in (True,) if needs_top else (False, True):
        network = _build(application, None, top)
        try:
            # Reads arrays only: even of a .keras file no layer is built from what it says.
            network.load_weights(path)
        except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
            reason = error
            continue
        return network if top == needs_top else _without_top(application, network)
    raise UserError(f"weights {path} do not fit {network.name}: {reason}") from reason


def _without_top(application: Application, network: keras.Model) -> keras.Model:
    plain = _build(application, None, False)
    for layer in plain.layers:
        if layer.weights:
            layer.set_weights(network.get_layer(layer.name).get_weights())
    return plain


ENCODERS = dict.fromkeys(APPLICATIONS, KerasApplication)
