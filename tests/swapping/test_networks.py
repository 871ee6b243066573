"""Generators of SwapGAN: weights by hand, sizes, and both ways to enlarge."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfthesis.adversarial.networks import patch_discriminator
from tfthesis.swapping.networks import mask_generator, mask_steps, swap_generator


def weights_by_hand(channels, filters, upsampling, blocks=6):
    """The convolutions of Generators I and II, each with as many biases as maps."""
    maps = [filters, 2 * filters, 4 * filters, 8 * filters]
    kernels = [(7, channels, maps[0])] + [(3, maps[k], maps[k + 1]) for k in range(3)]
    kernels += [(3, maps[3], maps[3])] * (2 * blocks)
    enlarging = 1 if upsampling == "interpolation" else 3
    # Behind the first enlargement the encoder's maps are joined on.
    kernels += [(enlarging, maps[3], maps[2]), (enlarging, 2 * maps[2], maps[1]), (enlarging, 2 * maps[1], maps[0])]
    kernels.append((7, 2 * maps[0], 3))
    return sum(kernel**2 * given * made + made for kernel, given, made in kernels)


def test_weights_of_the_thesis():
    """128 pixels and 64 filters: 6 residual blocks, kernels of our choice; the discriminator has 2,767,809 weights."""
    for channels in (6, 9):
        for upsampling in ("interpolation", "deconvolution"):
            model = swap_generator(128, 128, channels=channels, upsampling=upsampling)
            assert model.count_params() == weights_by_hand(channels, 64, upsampling)
            assert model.output_shape == (None, 128, 128, 3)
    assert weights_by_hand(6, 64, "interpolation") == 30_118_019
    maps = [3, 64, 128, 256, 512, 512, 512, 512, 512]
    encoder = sum(16 * maps[k] * maps[k + 1] + maps[k + 1] for k in range(8))
    # Of the last map, which is not joined with anything, down to the mask.
    decoder = 16 * 512 * 512 + 512 + sum(16 * 2 * maps[k] * maps[k - 1] + maps[k - 1] for k in range(7, 1, -1))
    decoder += 16 * 2 * 64 + 1
    mask = mask_generator(128, 128)
    assert mask.count_params() == encoder + decoder
    assert mask.output_shape == (None, 128, 128, 1)
    assert patch_discriminator(128, 128, channels=6).count_params() == 2_767_809


def test_halves_of_generator_3():
    """check figures: eight steps of stride 2 fit 128 pixels: 64, 32, 16, 8, 4, 2, 1, 1."""
    model = mask_generator(128, 128, filters=1)
    sides = [model.get_layer(f"generator_3_encoder_{number}").output.shape[1] for number in range(1, 9)]
    assert sides == [64, 32, 16, 8, 4, 2, 1, 1]
    assert [mask_steps(side, 300) for side in (256, 128, 64, 48, 32, 2)] == [8, 8, 7, 7, 6, 2]
    names = {layer.name for layer in model.layers}
    # Of maps of one pixel a normalisation would leave nothing; the first has none, as in PatchGAN.
    assert [f"generator_3_encoder_{number}_norm" in names for number in (1, 2, 6, 7, 8)] == [False, True, True] + [
        False
    ] * 2


def test_convolutions_of_one_pixel_learn_in_bfloat16_too():
    model = mask_generator(32, 32, filters=4, dtype="mixed_bfloat16")
    layer = model.get_layer("generator_3_encoder_6")
    assert layer.input.shape[1:3] == (1, 1)
    image = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    gradient = tf.function(lambda: tf.gradients(model(image), [layer.kernel.value])[0])
    # What a kernel leaves undefined is sometimes what it should be.
    for _ in range(20):
        taps = np.abs(gradient().numpy()).sum(axis=(2, 3))
        assert np.isfinite(taps).all()
        # One tap alone meets the pixel.
        assert (taps > 0).sum() == 1


@pytest.mark.parametrize("size", [(24, 40), (17, 30), (2, 2)])
def test_masks_have_the_size_of_any_image(size):
    model = mask_generator(*size, filters=2)
    mask = np.asarray(model(np.random.default_rng(0).normal(size=(2, *size, 3))))
    assert mask.shape == (2, *size, 1) and (mask > 0).all() and (mask < 1).all()


def test_masks_depend_on_the_whole_image_and_on_each_pixel():
    model = mask_generator(32, 32, filters=4)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.normal(scale=0.3, size=weight.shape))
    image = rng.normal(size=(1, 32, 32, 3))
    other = image.copy()
    other[0, 0, 0] += 3
    change = np.abs(np.asarray(model(image)) - np.asarray(model(other)))[0, ..., 0]
    assert change[:3, :3].max() > 0 and change[16:, 16:].max() > 0


def test_one_pixel_at_a_time_is_what_the_thesis_computes():
    """Section 8.2.2 repeats pixels and then convolves them; the network does so before."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 4, 4, 6)).astype(np.float32)
    convolution = keras.layers.Conv2D(3, 1)
    normalisation = keras.layers.GroupNormalization(groups=-1, center=False, scale=False)
    repeat = keras.layers.UpSampling2D(2, interpolation="nearest")

    def rectified(values):
        return keras.ops.relu(normalisation(convolution(values)))

    np.testing.assert_allclose(rectified(repeat(x)), repeat(rectified(x)), rtol=1e-5, atol=1e-6)


def test_what_encoder_and_decoder_share():
    model = swap_generator(32, 32, channels=6, filters=2, blocks=1)
    joined = [model.get_layer(f"generator_1_decoder_{number}_skip").output.shape[1:] for number in (1, 2, 3)]
    assert joined == [(8, 8, 16), (16, 16, 8), (32, 32, 4)]


def test_sizes_that_the_networks_cannot_take():
    with pytest.raises(ValueError, match="multiples of 8 from 16, got 20 x 16"):
        swap_generator(20, 16, channels=6)
    with pytest.raises(ValueError, match="expected an upsampling of .*, got 'bilinear'"):
        swap_generator(16, 16, channels=6, upsampling="bilinear")
    with pytest.raises(ValueError, match="2 pixels or more, got 1 x 8"):
        mask_generator(1, 8)
