"""Makes addons.npz: what tensorflow-addons' normalisations give for random weights and maps.

Run as `python tests/golden/make_addons.py` where TensorFlow 2.15.1, Keras 2.15.0 and tensorflow-addons 0.23.0 are
installed. The tests do without them.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import keras
import numpy as np

# By name, because this project does not ask for it.
addons = importlib.import_module("tensorflow_addons")

STEPS = 3


def main() -> None:
    """Write maps `[B, H, W, C]`, and of each layer its weights and what it returns.

    Instance normalisation: scale, offset and the maps with and without them. Spectral normalisation of a convolution:
    kernel, bias, the vector of the power iteration at the start, and behind each of three calls in training the vector
    and the maps.
    """
    generator = np.random.default_rng(0)
    keras.backend.set_floatx("float64")
    maps = generator.normal(1.0, 2.0, size=(2, 6, 5, 4))
    arrays = {"maps": maps, "addons": np.array(addons.__version__)}
    arrays["plain"] = np.asarray(addons.layers.InstanceNormalization(epsilon=1e-5, center=False, scale=False)(maps))
    layer = addons.layers.InstanceNormalization(epsilon=1e-5)
    layer.build(maps.shape)
    scale, offset = (generator.normal(size=weight.shape) for weight in layer.get_weights())
    layer.set_weights([scale, offset])
    arrays |= {"scale": scale, "offset": offset, "affine": np.asarray(layer(maps))}

    layer = addons.layers.SpectralNormalization(keras.layers.Conv2D(3, 2, strides=2))
    layer.build(maps.shape)
    names = [weight.name for weight in layer.weights]
    start = {name: generator.normal(size=weight.shape) for name, weight in zip(names, layer.weights, strict=True)}
    layer.set_weights([start[name] for name in names])
    kernel = start[next(name for name in names if "kernel" in name)]
    bias = start[next(name for name in names if "bias" in name)]
    arrays |= {"kernel": kernel, "bias": bias, "vector": np.asarray(layer.u)}
    for step in range(STEPS):
        # Addons leaves the divided kernel in the layer: put the kernel back, as an optimizer has it.
        layer.w.assign(kernel)
        arrays[f"spectral_{step}"] = np.asarray(layer(maps, training=True))
        arrays[f"vector_{step}"] = np.asarray(layer.u)
    np.savez_compressed(Path(__file__).with_name("addons.npz"), **arrays)


if __name__ == "__main__":
    main()
