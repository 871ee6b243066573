"""Compact bilinear pooling of two vectors by count sketches."""

from __future__ import annotations

import random
from typing import Any

import keras
import numpy as np
import tensorflow as tf


@keras.saving.register_keras_serializable("tfthesis")
class CompactBilinearPooling(keras.layers.Layer):
    """Approximates the outer product of two vectors in D dimensions.

    Each vector is sketched by a hash that sends component j to bin `h[j]` with sign `s[j]`; the circular
    convolution of the two sketches, taken in the Fourier domain, is the count sketch of the outer product.
    The hashes are drawn once, are weights of the layer that never train, and are saved with it. (Algorithm
    2 prints the sketch loop as running to D; it runs over the M components.)

    Args:
        dimension: D, the width of the result.
        seed: of the hashes; None draws one from Python's random state.

    Call arguments:
        inputs: two tensors `[B, M1]` and `[B, M2]`.

    Returns:
        `[B, D]`, in float32 or wider whatever the layer's compute dtype: there is no Fourier transform of
        half precision.

    Source: Liu 2018, section 7.2.3, Eq 7.5-7.7 and Algorithm 2.
    """

    def __init__(self, dimension: int, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        if dimension < 1:
            raise ValueError(f"CompactBilinearPooling: dimension must be positive, got {dimension}")
        self.dimension = dimension
        self.seed = random.randint(1, 2**31 - 1) if seed is None else seed

    def build(self, input_shape: list[tuple]) -> None:
        """Draw the hash and the signs of each input."""
        if len(input_shape) != 2:
            raise ValueError(f"CompactBilinearPooling: expected two inputs, got {len(input_shape)}")
        draw = np.random.default_rng(self.seed)
        self.hashes, self.signs = [], []
        for number, shape in enumerate(input_shape, start=1):
            bins = draw.integers(self.dimension, size=shape[-1])
            signs = draw.choice([-1.0, 1.0], size=shape[-1])
            # On a GPU int32 variables stay in the memory of the host, where a step that XLA compiles cannot reach them.
            self.hashes.append(self._constant(f"hash_{number}", bins, "int64"))
            self.signs.append(self._constant(f"sign_{number}", signs, "float32"))

    def _constant(self, name: str, values: np.ndarray, dtype: str) -> keras.Variable:
        def initial(shape: tuple, dtype: Any = None) -> tf.Tensor:
            return tf.constant(values, dtype)

        # Signs stay float32 under a mixed policy: the sketch feeds a Fourier transform.
        return self.add_weight(
            shape=values.shape, dtype=dtype, initializer=initial, trainable=False, autocast=False, name=name
        )

    def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        """Return the sketch of the outer products `[B, D]`."""
        spectra = []
        for vector, bins, signs in zip(inputs, self.hashes, self.signs, strict=True):
            vector = vector if vector.dtype == tf.float64 else tf.cast(vector, tf.float32)
            signed = tf.transpose(vector * tf.cast(signs.value, vector.dtype))
            sketch = tf.transpose(tf.math.unsorted_segment_sum(signed, bins.value, self.dimension))
            spectra.append(tf.signal.rfft(sketch))
        return tf.signal.irfft(spectra[0] * spectra[1], fft_length=[self.dimension])

    def compute_output_shape(self, input_shape: list[tuple]) -> tuple:
        """Return `[B, D]`."""
        return (input_shape[0][0], self.dimension)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "dimension": self.dimension, "seed": self.seed}
