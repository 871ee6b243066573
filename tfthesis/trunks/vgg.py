"""VGG-16's convolutions, at the size of the thesis and narrower, and the weights that they start from.

Liu 2018 fine-tunes VGG-16 for segmentation (section 2.3.1) and for edges (sections 2.3.2 and 3.3). A narrow trunk has
the same five stages with fewer and smaller convolutions, for machines and datasets that the large one is too much for.
"""

from __future__ import annotations

import dataclasses
import hashlib
import zipfile
from pathlib import Path

import keras
import numpy as np

from tfthesis.errors import UserError
from tfthesis.method import Data, Preparation
from tfthesis.recipe import Recipe

#: Means of ImageNet's red, green and blue that VGG-16 was trained with.
MEAN = (123.68, 116.779, 103.939)
#: The name under which keras.applications downloads its own ImageNet weights.
DOWNLOAD = "imagenet"


@dataclasses.dataclass(frozen=True)
class Trunk:
    """Five stages of 3 x 3 convolutions, each with a 2 x 2 max-pooling behind it.

    Attributes:
        channels: of each stage's convolutions.
        convolutions: number in each stage.
        scale: factor of the pixels, behind the subtraction of the mean. VGG-16's weights expect 1; what starts by lot
            trains better from values of about 1, since the initial weights keep their size.
    """

    channels: tuple[int, ...]
    convolutions: tuple[int, ...]
    scale: float = 1.0


TRUNKS = {
    "vgg16": Trunk((64, 128, 256, 512, 512), (2, 2, 3, 3, 3)),
    "narrow": Trunk((16, 32, 48, 64, 64), (1, 1, 2, 2, 2), scale=1 / 64),
    "tiny": Trunk((4, 4, 8, 8, 8), (1, 1, 1, 1, 1), scale=1 / 64),
}


def trunk_maps(
    image: keras.KerasTensor, trunk: Trunk, *, border: int = 0, dtype: str = "float32"
) -> dict[str, keras.KerasTensor]:
    """Return the maps of a trunk by name: `conv1` ... `conv5`, the last of each stage, and `pool1` ... `pool5`.

    Args:
        image: `[B, H, W, 3]`, RGB in 0..255.
        trunk: its channels and convolutions.
        border: zeros around the image, behind the subtraction of the mean; the first convolution takes one of them
            on each side. 0 lets all convolutions keep the size.
        dtype: policy of the layers.

    A pooling of an odd number of pixels keeps the last one, as in Caffe.
    """
    x = keras.layers.Rescaling(
        trunk.scale, [-trunk.scale * value for value in MEAN], name="mean_subtraction", dtype=dtype
    )(image)
    if border:
        x = keras.layers.ZeroPadding2D(border, name="border", dtype=dtype)(x)
    maps = {}
    for stage, (channels, count) in enumerate(zip(trunk.channels, trunk.convolutions, strict=True), start=1):
        for place in range(1, count + 1):
            padding = "valid" if border and stage == place == 1 else "same"
            x = convolution(channels, 3, f"conv{stage}_{place}", padding=padding, dtype=dtype)(x)
        maps[f"conv{stage}"] = x
        x = keras.layers.MaxPooling2D(2, 2, "same", name=f"pool{stage}", dtype=dtype)(x)
        maps[f"pool{stage}"] = x
    return maps


def check_starting_weights(trunk: str, weights: str, field: str = "weights") -> None:
    """Raise `UserError` that names `field` if `weights` are asked for and `trunk` is not the one that they are of."""
    if weights and trunk != "vgg16":
        raise UserError(f"recipe field {field!r}: they are VGG-16's and do not fit trunk={trunk}")


def check_weights_file(weights: str) -> None:
    """Raise `UserError` if `weights` name a file that is not there."""
    if weights not in ("", DOWNLOAD) and not Path(weights).is_file():
        raise UserError(
            f"weights of VGG-16: no file {weights}; expected {DOWNLOAD!r} or a .weights.h5, .h5 or .keras file"
        )


def convolution(channels: int, kernel: int, name: str, *, padding: str = "same", dtype: str) -> keras.layers.Conv2D:
    """Return a convolution with a rectifier, as VGG-16's are."""
    return keras.layers.Conv2D(
        channels, kernel, padding=padding, activation="relu", kernel_initializer="he_normal", name=name, dtype=dtype
    )


def starting_weights(weights: str) -> Preparation:
    """Return the preparation that calls `load_vgg16` once, before a run trains; a finished run needs no such file.

    What it keeps is the SHA-256 of the weights, by which a run can be told from one of other weights.
    """

    def run(model: keras.Model, data: Data, recipe: Recipe) -> dict[str, np.ndarray]:
        load_vgg16(model, weights)
        digest = hashlib.sha256()
        for layer in model.layers:
            if layer.name.startswith(("conv", "fc")):
                for value in layer.get_weights():
                    digest.update(np.ascontiguousarray(value))
        return {"vgg16_sha256": np.array(digest.hexdigest())}

    return Preparation("vgg16", run)


def load_vgg16(model: keras.Model, weights: str) -> None:
    """Give the convolutions of `model` VGG-16's weights, and `fc6` and `fc7`, where it has them, those of its head.

    Args:
        model: its layers `conv1_1` ... `conv5_3` are those of the trunk "vgg16"; `fc6` is a 7 x 7 convolution.
        weights: see `open_vgg16`.

    Raises:
        UserError: see `open_vgg16`.
    """
    has_head = any(layer.name == "fc6" for layer in model.layers)
    source = open_vgg16(weights, has_head)
    names = {
        f"block{s}_conv{p}": f"conv{s}_{p}" for s, count in enumerate((2, 2, 3, 3, 3), 1) for p in range(1, count + 1)
    }
    if has_head:
        names |= {"fc1": "fc6", "fc2": "fc7"}
    copy_weights({name: source.get_layer(name).get_weights() for name in names}, names, model)


def open_vgg16(weights: str, has_head: bool) -> keras.Model:
    """Return keras.applications' VGG-16 with its weights.

    Args:
        weights: "imagenet", which keras.applications downloads on first use, or the path of a file of that network:
            `.weights.h5`, `.h5` or `.keras`, without its classifier only if the head is not needed.
        has_head: whether `fc1` and `fc2` are needed.

    Raises:
        UserError: there is no such file, it belongs to another network, or it cannot be downloaded.
    """
    return _downloaded(has_head) if weights == DOWNLOAD else _from_file(Path(weights), has_head)


def copy_weights(source: dict[str, list[np.ndarray]], names: dict[str, str], model: keras.Model) -> None:
    """Set the layers `names[...]` of `model` from kernels and biases of keras.applications' VGG-16 by layer name.

    Its first convolution takes blue before red, ours red before blue; its fully connected layers become convolutions.

    Raises:
        UserError: a kernel has another number of values than the layer's.
    """
    for name, target in names.items():
        kernel, bias = source[name]
        layer = model.get_layer(target)
        if name == "block1_conv1":
            kernel = kernel[:, :, ::-1]
        shape = tuple(layer.kernel.shape)
        if kernel.size != np.prod(shape) or kernel.shape[-1] != shape[-1]:
            raise UserError(f"weights of VGG-16: {name} has the shape {kernel.shape}, the model's {target} {shape}")
        layer.set_weights([kernel.reshape(shape), bias])


def _downloaded(top: bool) -> keras.Model:
    try:
        return keras.applications.VGG16(weights=DOWNLOAD, include_top=top)
    except Exception as error:  # keras.utils.get_file raises a bare Exception when the network fails
        raise UserError(
            f"weights of VGG-16: they could not be downloaded ({error}). Download them elsewhere and give the file "
            "(.weights.h5, .h5 or .keras)."
        ) from error


def _from_file(path: Path, needs_top: bool) -> keras.Model:
    check_weights_file(str(path))
    for top in (True,) if needs_top else (False, True):
        network = keras.applications.VGG16(weights=None, include_top=top)
        try:
            # Reads arrays only: even of a .keras file no layer is built from what it says.
            network.load_weights(path)
        except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
            reason = error
            continue
        return network
    needed = " with its classifier, which fc6 and fc7 are made of" if needs_top else ""
    raise UserError(f"weights {path} are not those of VGG-16{needed}: {reason}") from reason
