"""Generators I, II and III of SwapGAN (Liu 2018, section 8.2.2); its discriminator is PatchGAN's."""

from __future__ import annotations

import math

import keras

from tfthesis import layers
from tfthesis.adversarial.networks import instance_normalization

UPSAMPLINGS = ("interpolation", "deconvolution")
#: Sides of images are multiples of it: Generators I and II halve them three times.
STRIDE = 8
_DEVIATION, _SLOPE = 0.02, 0.2
# Generator III at the 128 pixels of the thesis; its maps have at most so many times the first filters.
_STEPS, _LARGEST = 8, 8


def swap_generator(
    height: int,
    width: int,
    *,
    channels: int,
    filters: int = 64,
    blocks: int = 6,
    upsampling: str = "interpolation",
    affine: bool = False,
    name: str = "generator_1",
    dtype: str = "float32",
) -> keras.Model:
    """Return Generator I or II: four convolutions, residual blocks, three enlargements with skips, one convolution.

    The encoder is c7s1-F, d2F, d4F, d8F in the notation of the CycleGAN paper, and the blocks have 8F maps. An
    enlargement repeats each pixel and has a 1 x 1 convolution; behind it the encoder's maps of that size are joined on.
    Convolutions are followed by instance normalisation and ReLU, the last one, of 7 x 7, by tanh. Section 8.2.2 gives
    the number of layers, not their kernels, strides and maps.

    Args:
        height, width: of the images, multiples of `STRIDE`.
        channels: of the input: an image and what it is to be shaped by.
        filters: F.
        blocks: residual blocks.
        upsampling: "interpolation", or "deconvolution": transposed 3 x 3 convolutions (Fig 8.12).
        affine: whether instance normalisation has a scale and an offset.
        name: of the model, and what the names of its layers begin with.
        dtype: policy of the layers; the output is float32.

    Returns:
        A model from `[B, height, width, channels]` to `[B, height, width, 3]` in -1..1.

    Raises:
        ValueError: a size that is no multiple of `STRIDE` or too small for mirrored borders, or an unknown upsampling.
    """
    if height % STRIDE or width % STRIDE or min(height, width) < 2 * STRIDE:
        raise ValueError(f"expected sides that are multiples of {STRIDE} from {2 * STRIDE}, got {height} x {width}")
    if upsampling not in UPSAMPLINGS:
        raise ValueError(f"expected an upsampling of {UPSAMPLINGS}, got {upsampling!r}")

    def normalised(x: keras.KerasTensor, layer: str) -> keras.KerasTensor:
        return instance_normalization(affine, f"{layer}_norm", dtype)(x)

    def rectified(x: keras.KerasTensor, layer: str) -> keras.KerasTensor:
        return keras.layers.ReLU(name=f"{layer}_relu", dtype=dtype)(normalised(x, layer))

    def mirrored(x: keras.KerasTensor, count: int, kernel: int, layer: str) -> keras.KerasTensor:
        x = layers.ReflectionPadding(kernel // 2, name=f"{layer}_pad", dtype=dtype)(x)
        return _convolution(count, kernel, layer, dtype)(x)

    def enlarged(x: keras.KerasTensor, count: int, layer: str) -> keras.KerasTensor:
        if upsampling == "deconvolution":
            return rectified(_deconvolution(count, 3, layer, dtype)(x), layer)
        # What a 1 x 1 convolution, a normalisation and ReLU make of repeated pixels they make of each pixel once, for a
        # quarter of the work.
        x = rectified(_convolution(count, 1, layer, dtype)(x), layer)
        return keras.layers.UpSampling2D(2, interpolation="nearest", name=f"{layer}_enlarged", dtype=dtype)(x)

    given = keras.Input((height, width, channels), name="given")
    x = rectified(mirrored(given, filters, 7, f"{name}_encoder_1"), f"{name}_encoder_1")
    skips = []
    for number in range(2, 5):
        skips.append(x)
        layer = f"{name}_encoder_{number}"
        x = keras.layers.ZeroPadding2D(1, name=f"{layer}_pad", dtype=dtype)(x)
        x = rectified(_convolution(filters * 2 ** (number - 1), 3, layer, dtype, strides=2)(x), layer)
    for number in range(1, blocks + 1):
        first, second = f"{name}_block_{number}_1", f"{name}_block_{number}_2"
        inner = rectified(mirrored(x, 8 * filters, 3, first), first)
        inner = normalised(mirrored(inner, 8 * filters, 3, second), second)
        x = keras.layers.Add(name=f"{name}_block_{number}", dtype=dtype)([x, inner])
    for number, skip in enumerate(reversed(skips), start=1):
        layer = f"{name}_decoder_{number}"
        x = enlarged(x, skip.shape[-1], layer)
        x = keras.layers.Concatenate(name=f"{layer}_skip", dtype=dtype)([x, skip])
    x = mirrored(x, 3, 7, f"{name}_decoder_4")
    return keras.Model(given, keras.layers.Activation("tanh", name=f"{name}_output", dtype="float32")(x), name=name)


def mask_steps(height: int, width: int) -> int:
    """Return how often Generator III halves images: eight times, or until the smaller side has been 1 pixel twice.

    At the 128 pixels of the thesis both are true: 64, 32, 16, 8, 4, 2, 1 and 1 pixels. 64 pixels have seven steps, 32
    have six.
    """
    return min(_STEPS, math.ceil(math.log2(min(height, width))) + 1)


def mask_generator(
    height: int,
    width: int,
    *,
    filters: int = 64,
    affine: bool = False,
    name: str = "generator_3",
    dtype: str = "float32",
) -> keras.Model:
    """Return Generator III, which draws the mask of the person in an image: a U-Net.

    `mask_steps` convolutions of the kernel 4 and stride 2 with leaky ReLU of slope .2, and as many transposed ones with
    ReLU, the last one with a sigmoid; F, 2F, 4F and then 8F maps, as pix2pix has them. Each enlarged map is joined with
    the encoder's of its size. Instance normalisation stands behind all but the first and the last one, and but those
    whose maps have one pixel, of which it would leave nothing.

    Args:
        height, width: of the images.
        filters: F.
        affine: whether instance normalisation has a scale and an offset.
        name: of the model, and what the names of its layers begin with.
        dtype: policy of the layers; the output and a convolution of maps of one pixel are float32.

    Returns:
        A model from `[B, height, width, 3]` to `[B, height, width, 1]` in 0..1.

    Raises:
        ValueError: a side below 2.
    """
    if min(height, width) < 2:
        raise ValueError(f"expected sides of 2 pixels or more, got {height} x {width}")

    def normalised(x: keras.KerasTensor, layer: str) -> keras.KerasTensor:
        if x.shape[1] == x.shape[2] == 1:
            return x
        return instance_normalization(affine, f"{layer}_norm", dtype)(x)

    x = image = keras.Input((height, width, 3), name="image")
    steps, maps = mask_steps(height, width), [image]
    for number in range(1, steps + 1):
        layer = f"{name}_encoder_{number}"
        count = filters * min(2 ** (number - 1), _LARGEST)
        # TensorFlow's bfloat16 kernels for CPUs leave the gradient of taps that meet no pixel undefined.
        own = "float32" if min(x.shape[1:3]) == 1 else dtype
        x = _convolution(count, 4, layer, own, strides=2, padding="same")(x)
        x = x if number == 1 else normalised(x, layer)
        x = keras.layers.LeakyReLU(_SLOPE, name=f"{layer}_relu", dtype=dtype)(x)
        maps.append(x)
    for number in range(steps, 0, -1):
        layer, target = f"{name}_decoder_{number}", maps[number - 1]
        x = _deconvolution(target.shape[-1] if number > 1 else 1, 4, layer, dtype)(x)
        beyond = [(0, x.shape[axis] - target.shape[axis]) for axis in (1, 2)]
        if any(map(any, beyond)):
            # An odd side: half of it, rounded up, doubles to one pixel more.
            x = keras.layers.Cropping2D(beyond, name=f"{layer}_crop", dtype=dtype)(x)
        if number > 1:
            x = keras.layers.ReLU(name=f"{layer}_relu", dtype=dtype)(normalised(x, layer))
            x = keras.layers.Concatenate(name=f"{layer}_skip", dtype=dtype)([x, target])
    return keras.Model(image, keras.layers.Activation("sigmoid", name=f"{name}_output", dtype="float32")(x), name=name)


def _convolution(
    count: int, kernel: int, name: str, dtype: str, *, strides: int = 1, padding: str = "valid"
) -> keras.layers.Layer:
    return keras.layers.Conv2D(
        count, kernel, strides, padding=padding, kernel_initializer=_by_lot(), name=name, dtype=dtype
    )


def _deconvolution(count: int, kernel: int, name: str, dtype: str) -> keras.layers.Layer:
    return keras.layers.Conv2DTranspose(
        count, kernel, 2, padding="same", kernel_initializer=_by_lot(), name=name, dtype=dtype
    )


def _by_lot() -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=_DEVIATION)
