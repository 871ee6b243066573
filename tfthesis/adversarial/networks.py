"""Generators and discriminators of CycleGAN and what extends it (Liu 2018, section 8.1.2)."""

from __future__ import annotations

import keras

from tfthesis import layers

NORMALIZATIONS = ("instance", "spectral", "none")
#: Sides of images are multiples of it: the generator halves them twice.
STRIDE = 4
_DEVIATION, _SLOPE, _EPSILON = 0.02, 0.2, 1e-5
# Four convolutions of the kernel 4, the first three of stride 2.
_STRIDES = (2, 2, 2, 1)
_LARGEST = 8


def resnet_generator(
    height: int,
    width: int,
    *,
    filters: int = 64,
    blocks: int = 9,
    affine: bool = False,
    channels: int = 3,
    name: str = "generator",
    dtype: str = "float32",
) -> keras.Model:
    """Return a generator: three convolutions, residual blocks, two transposed convolutions, one more convolution.

    In the notation of the CycleGAN paper: c7s1-F, d2F, d4F, R4F x blocks, u2F, uF, c7s1-3. Convolutions have a bias and
    are followed by instance normalisation and ReLU, the last one by tanh. The 7 x 7 and the residual convolutions see
    mirrored borders. With 64 filters and 9 blocks it has 11,378,179 weights, with 6 blocks 7,837,699.

    Args:
        height, width: of the images, multiples of `STRIDE`.
        filters: F.
        blocks: 9 for images of 256 pixels, 6 for 128, in the paper.
        affine: whether instance normalisation has a scale and an offset.
        channels: of the input.
        name: of the model, and what the names of its layers begin with.
        dtype: policy of the layers; the output is float32.

    Returns:
        A model from `[B, height, width, channels]` to `[B, height, width, 3]`, both in -1..1.

    Raises:
        ValueError: a size that is no multiple of `STRIDE`, or too small for the mirrored borders.
    """
    if height % STRIDE or width % STRIDE or min(height, width) < 2 * STRIDE:
        raise ValueError(f"expected sides that are multiples of {STRIDE} from {2 * STRIDE}, got {height} x {width}")

    def normalised(x: keras.KerasTensor, layer: str) -> keras.KerasTensor:
        return instance_normalization(affine, f"{layer}_norm", dtype)(x)

    def rectified(x: keras.KerasTensor, layer: str) -> keras.KerasTensor:
        return keras.layers.ReLU(name=f"{layer}_relu", dtype=dtype)(normalised(x, layer))

    def mirrored(x: keras.KerasTensor, count: int, kernel: int, layer: str) -> keras.KerasTensor:
        x = layers.ReflectionPadding(kernel // 2, name=f"{layer}_pad", dtype=dtype)(x)
        return _convolution(count, kernel, layer, dtype=dtype)(x)

    image = keras.Input((height, width, channels), name="image")
    x = rectified(mirrored(image, filters, 7, f"{name}_encoder_1"), f"{name}_encoder_1")
    for number, count in enumerate((2 * filters, 4 * filters), start=2):
        layer = f"{name}_encoder_{number}"
        x = keras.layers.ZeroPadding2D(1, name=f"{layer}_pad", dtype=dtype)(x)
        x = rectified(_convolution(count, 3, layer, strides=2, dtype=dtype)(x), layer)
    for number in range(1, blocks + 1):
        first, second = f"{name}_block_{number}_1", f"{name}_block_{number}_2"
        inner = rectified(mirrored(x, 4 * filters, 3, first), first)
        inner = normalised(mirrored(inner, 4 * filters, 3, second), second)
        x = keras.layers.Add(name=f"{name}_block_{number}", dtype=dtype)([x, inner])
    for number, count in enumerate((2 * filters, filters), start=1):
        layer = f"{name}_decoder_{number}"
        x = keras.layers.Conv2DTranspose(
            count, 3, 2, kernel_initializer=_by_lot(), padding="valid", name=layer, dtype=dtype
        )(x)
        # One pixel more than twice the size: what the encoder's padding put in front.
        x = keras.layers.Cropping2D(((1, 0), (1, 0)), name=f"{layer}_crop", dtype=dtype)(x)
        x = rectified(x, layer)
    x = mirrored(x, 3, 7, f"{name}_decoder_3")
    return keras.Model(image, keras.layers.Activation("tanh", name=f"{name}_output", dtype="float32")(x), name=name)


def patch_discriminator(
    height: int,
    width: int,
    *,
    filters: int = 64,
    normalization: str = "instance",
    affine: bool = False,
    channels: int = 3,
    name: str = "discriminator",
    dtype: str = "float32",
) -> keras.Model:
    """Return PatchGAN's discriminator: a number for each of many overlapping patches, 1 for a real one.

    C64-C128-C256-C512 with kernels 4 x 4, strides 2, 2, 2 and 1, one row of zeros around each map, leaky ReLU of slope
    .2, and a convolution with one output. The first layer has no normalisation. With 64 filters and 3 channels it has
    2,764,737 weights, with 6 channels 2,767,809; 256 pixels give 30 patches a side.

    Args:
        height, width: of the images.
        filters: of the first convolution.
        normalization: "instance", "spectral" (of the kernels of every convolution) or "none".
        affine: whether instance normalisation has a scale and an offset.
        channels: of the input; 6 for pairs of images.
        name: of the model, and what the names of its layers begin with.
        dtype: policy of the layers; the output is float32.

    Raises:
        ValueError: images so small that no patch is left, or an unknown normalisation.
    """
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"expected a normalisation of {NORMALIZATIONS}, got {normalization!r}")
    if min(height, width) < 3 * _LARGEST:
        raise ValueError(f"expected images of {3 * _LARGEST} pixels or more, got {height} x {width}")
    kind = layers.SpectralConvolution if normalization == "spectral" else keras.layers.Conv2D
    x = image = keras.Input((height, width, channels), name="image")
    for number, stride in enumerate(_STRIDES, start=1):
        layer = f"{name}_patch_{number}"
        x = keras.layers.ZeroPadding2D(1, name=f"{layer}_pad", dtype=dtype)(x)
        count = filters * min(2 ** (number - 1), _LARGEST)
        x = _convolution(count, 4, layer, strides=stride, kind=kind, dtype=dtype)(x)
        if normalization == "instance" and number > 1:
            x = instance_normalization(affine, f"{layer}_norm", dtype)(x)
        x = keras.layers.LeakyReLU(_SLOPE, name=f"{layer}_relu", dtype=dtype)(x)
    x = keras.layers.ZeroPadding2D(1, name=f"{name}_answer_pad", dtype=dtype)(x)
    x = _convolution(1, 4, f"{name}_answer", kind=kind, dtype=dtype)(x)
    return keras.Model(image, keras.layers.Activation("linear", name=f"{name}_output", dtype="float32")(x), name=name)


def instance_normalization(affine: bool, name: str, dtype: str = "float32") -> keras.layers.Layer:
    """Return a layer that gives each channel of each example mean 0 and variance 1 over its pixels.

    It is Keras' group normalisation with groups of one channel, and equal to tensorflow-addons' layer.

    Args:
        affine: whether each channel has a scale and an offset that train.
        name: of the layer.
        dtype: its policy.
    """
    return keras.layers.GroupNormalization(
        groups=-1, epsilon=_EPSILON, center=affine, scale=affine, name=name, dtype=dtype
    )


def _convolution(
    count: int, kernel: int, name: str, *, strides: int = 1, kind: type = keras.layers.Conv2D, dtype: str
) -> keras.layers.Layer:
    return kind(count, kernel, strides, kernel_initializer=_by_lot(), name=name, dtype=dtype)


def _by_lot() -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=_DEVIATION)
