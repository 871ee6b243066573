"""HED and its counterparts: edge maps of five depths of a trunk, and their fusion."""

from __future__ import annotations

import dataclasses

import keras

from tfthesis import layers
from tfthesis.losses.edge_detection import SIDES
from tfthesis.method import Spec
from tfthesis.trunks.vgg import TRUNKS, trunk_maps

#: Zeros around the image of each trunk. That of VGG-16 is the one of the released networks.
BORDERS = {"vgg16": 35, "narrow": 0, "tiny": 0}
FUSIONS = ("convolution", "local")


@dataclasses.dataclass(frozen=True)
class Options:
    """What becomes of a trunk.

    Attributes:
        trunk: key of `BORDERS`.
        fusion: "convolution" has a weight for each depth (HED, RDS), "local" one for each depth and place (FCFN).
        train_upsampling: whether the bilinear kernels train.
        precision: dtype policy.
    """

    trunk: str
    fusion: str
    train_upsampling: bool
    precision: str


def build_network(options: Options, spec: Spec) -> tuple[dict[str, keras.KerasTensor], dict[str, keras.KerasTensor]]:
    """Return inputs and outputs of a network for `spec`.

    Input `image` `[B, H, W, 3]`, pixels in 0..255; height and width may be unknown unless the fusion is local. Outputs,
    float32 `[B, H, W, 1]` before the sigmoid: `side_1` ... `side_5`, predicted from the last convolution of each stage
    by a 1 x 1 convolution that starts at zero and enlarged to the image, and `fuse`, their weighted sum, which starts
    as the mean.
    """
    dtype, border = options.precision, BORDERS[options.trunk]
    image = keras.Input(spec.inputs["image"], name="image")
    maps = trunk_maps(image, TRUNKS[options.trunk], border=border, dtype=dtype)
    padding = "valid" if border else "same"
    sides = []
    for number in range(1, SIDES + 1):
        side = keras.layers.Conv2D(1, 1, kernel_initializer="zeros", name=f"side{number}", dtype=dtype)
        x, factor = side(maps[f"conv{number}"]), 2 ** (number - 1)
        # The first convolution takes one pixel of the border; an enlarged map that is kept whole begins half a pixel
        # of its own size before the smaller one.
        offset = max(border - 1, 0)
        if factor > 1:
            x = layers.BilinearUpsampling(
                factor, padding, options.train_upsampling, name=f"upsampling{number}", dtype=dtype
            )(x)
            offset += factor // 2 if border else 0
        sides.append(layers.CropLike(offset, name=f"crop{number}", dtype=dtype)([x, image]))
    if options.fusion == "local":
        fusion: keras.layers.Layer = layers.LocallyConnectedFusion(activation=None, name="fusion", dtype=dtype)
    else:
        fusion = layers.LayerFusion("convolution", name="fusion", dtype=dtype)
    outputs = {f"side_{number}": side for number, side in enumerate(sides, start=1)} | {"fuse": fusion(sides)}
    # Losses are taken in full precision.
    full = {name: keras.layers.Activation("linear", dtype="float32", name=name)(x) for name, x in outputs.items()}
    return {"image": image}, full
