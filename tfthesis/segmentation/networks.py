"""FCN-8s and its counterpart FCFN: predictions of three depths, fused in two stages."""

from __future__ import annotations

import dataclasses

import keras

from tfthesis import layers
from tfthesis.method import Spec
from tfthesis.trunks.vgg import TRUNKS, convolution, trunk_maps


@dataclasses.dataclass(frozen=True)
class Head:
    """What stands behind the trunk: width and kernel of `fc6`, width of `fc7` (1 x 1), and zeros around the image."""

    width: int
    kernel: int
    border: int


#: Of each trunk of `tfthesis.trunks.vgg.TRUNKS`. The border of the released FCN makes up for the 7 x 7 convolution.
HEADS = {"vgg16": Head(4096, 7, 100), "narrow": Head(128, 3, 0), "tiny": Head(16, 3, 0)}
FUSIONS = ("sum", "convolution", "local")


@dataclasses.dataclass(frozen=True)
class Options:
    """What becomes of a trunk.

    Attributes:
        trunk: key of `HEADS`.
        fusion: how predictions of two depths are fused.
        fusion_start: first weight of every branch of local fusion.
        fusion_activation: of local fusion.
        skip_scales: factors of `pool4` and `pool3` before their predictions.
        train_upsampling: whether the bilinear kernels train.
        dropout: share of `fc6` and `fc7` that is dropped.
        precision: dtype policy.
    """

    trunk: str
    fusion: str
    fusion_start: float
    fusion_activation: str
    skip_scales: tuple[float, float]
    train_upsampling: bool
    dropout: float
    precision: str


def build_network(options: Options, spec: Spec) -> tuple[dict[str, keras.KerasTensor], dict[str, keras.KerasTensor]]:
    """Return inputs and outputs of a network for `spec`.

    Input `image` `[B, H, W, 3]`, pixels in 0..255. Output `scores` `[B, H, W, C]`, float32, before the softmax.
    """
    head, trunk, dtype = HEADS[options.trunk], TRUNKS[options.trunk], options.precision
    height, width = spec.inputs["image"][:2]
    image = keras.Input((height, width, 3), name="image")
    maps = trunk_maps(image, trunk, border=head.border, dtype=dtype)
    padding = "valid" if head.border else "same"
    x = maps["pool5"]
    for name, kernel in (("fc6", head.kernel), ("fc7", 1)):
        x = convolution(head.width, kernel, name, padding=padding, dtype=dtype)(x)
        if options.dropout:
            x = layers.ExampleDropout(options.dropout, name=f"{name}_dropout", dtype=dtype)(x)
    classes = len(spec.classes)
    x = _score(classes, "score", dtype)(x)
    for number, (name, scale) in enumerate(zip(("pool4", "pool3"), options.skip_scales, strict=True), start=1):
        skip = maps[name]
        if scale != 1:
            skip = keras.layers.Rescaling(scale, name=f"{name}_scaled", dtype=dtype)(skip)
        skip = _score(classes, f"{name}_score", dtype)(skip)
        x = _enlarged(x, 2, padding, f"upsampling{number}", options)
        x, skip = _aligned(x, skip, padding, number, dtype)
        x = _fusion(options, f"fusion{number}")([skip, x])
    x = _enlarged(x, 8, padding, "upsampling3", options)
    x = _cropped(x, height, width, _OFFSETS[2] if head.border else 0, "crop3", dtype)
    # Losses and arg max are taken in full precision.
    scores = keras.layers.Activation("linear", dtype="float32", name="scores")(x)
    return {"image": image}, {"scores": scores}


# Where the enlarged map begins in pool4's and pool3's maps and in the image, with a border of 100: the convolution of
# 7 x 7 pixels loses three of pool5 at each side, the others follow from the kernels of the upsampling.
_OFFSETS = (5, 9, 31)


def _score(classes: int, name: str, dtype: str) -> keras.layers.Conv2D:
    # Zero at first, as in the released FCN: every class is equally likely wherever training begins.
    return keras.layers.Conv2D(classes, 1, kernel_initializer="zeros", name=name, dtype=dtype)


def _enlarged(x: keras.KerasTensor, factor: int, padding: str, name: str, options: Options) -> keras.KerasTensor:
    layer = layers.BilinearUpsampling(factor, padding, options.train_upsampling, name=name, dtype=options.precision)
    return layer(x)


def _aligned(
    x: keras.KerasTensor, skip: keras.KerasTensor, padding: str, number: int, dtype: str
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Return enlarged map and skip map of one size: with a border the skip map is larger, otherwise the other one."""
    if padding == "valid":
        return x, _cropped(skip, *x.shape[1:3], _OFFSETS[number - 1], f"crop{number}", dtype)
    return _cropped(x, *skip.shape[1:3], 0, f"crop{number}", dtype), skip


def _cropped(x: keras.KerasTensor, height: int, width: int, offset: int, name: str, dtype: str) -> keras.KerasTensor:
    below, right = (have - want - offset for have, want in zip(x.shape[1:3], (height, width), strict=True))
    if not (offset or below or right):
        return x
    return keras.layers.Cropping2D(((offset, below), (offset, right)), name=name, dtype=dtype)(x)


def _fusion(options: Options, name: str) -> keras.layers.Layer:
    if options.fusion != "local":
        return layers.LayerFusion(options.fusion, name=name, dtype=options.precision)
    return layers.LocallyConnectedFusion(
        start=options.fusion_start, activation=options.fusion_activation, name=name, dtype=options.precision
    )
