"""Makes locally_connected.npz: what Keras 2's LocallyConnected1D gives for random weights and branches.

Run as `python tests/golden/make_locally_connected.py` where TensorFlow 2.15.1 with Keras 2.15.0 is installed. The
tests do without it.
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

POSITIONS, BRANCHES, ROWS = 9, 3, 4


def main() -> None:
    """Write branches `[B, K, S]`, and for each kernel width the weights, the biases and the fused vectors `[B, K]`.

    Keras 2 pads nothing, so that the branches are given with the zeros that our layer puts around them.
    """
    generator = np.random.default_rng(0)
    keras.backend.set_floatx("float64")
    branches = generator.normal(size=(ROWS, POSITIONS, BRANCHES))
    arrays = {"branches": branches, "keras": np.array(keras.__version__)}
    for width in (1, 2, 3):
        before = (width - 1) // 2
        padded = np.pad(branches, ((0, 0), (before, width - 1 - before), (0, 0)))
        layer = keras.layers.LocallyConnected1D(1, width, activation="relu", implementation=1)
        layer.build(padded.shape)
        kernel, bias = (generator.normal(size=weight.shape) for weight in layer.get_weights())
        layer.set_weights([kernel, bias])
        arrays[f"kernel_{width}"] = kernel.reshape(POSITIONS, width, BRANCHES)
        arrays[f"bias_{width}"] = bias.reshape(POSITIONS)
        arrays[f"fused_{width}"] = np.asarray(layer(padded))[:, :, 0]
    np.savez_compressed(Path(__file__).with_name("locally_connected.npz"), **arrays)


if __name__ == "__main__":
    main()
