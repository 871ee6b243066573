"""What a translation serves: the image of the other domain, of a photo of any size."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from tfthesis.adversarial.data import DOMAINS, network_values, pixel_values
from tfthesis.data.images import decode, resize
from tfthesis.method import Served, Signature, Spec


def translation_signatures(model: keras.Model, spec: Spec) -> Served:
    """Return a signature for each direction, named after the domains, such as `photo_to_label`.

    It takes encoded images `[B]` and gives for each, at its own size, `translated_bytes` and `reconstructed_bytes`, PNG
    files of the translation and of what the way back makes of it.
    """
    height, width = spec.inputs[DOMAINS[0]][:2]

    def direction(target: str, back: str) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
        specs = (tf.TensorSpec([], tf.string),) * 2

        def one(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            pixels = decode(data)
            size = tf.shape(pixels)[:2]
            # Whole values, as training reads them.
            given = network_values(tf.round(resize(pixels, height, width, mode="stretch")))[None]
            made = model.translate(given, target)[-1]
            return _png(made, size), _png(model.translate(made, back)[-1], size)

        def translate(image: tf.Tensor) -> dict[str, tf.Tensor]:
            # One at a time: images differ in size.
            translated, reconstructed = tf.map_fn(one, image, fn_output_signature=specs)
            return {"translated_bytes": translated, "reconstructed_bytes": reconstructed}

        return translate

    # Not of one colour, which instance normalisation would divide by nearly zero.
    rows, columns = np.indices((40, 50))
    example = np.stack([5 * columns, 6 * rows, 50 * ((rows // 8 + columns // 8) % 5)], axis=-1)
    encoded = tf.io.encode_jpeg(example.astype(np.uint8), quality=95).numpy()
    names = spec.extra["domains"]
    signatures = {}
    for domain, target, first, second in zip(DOMAINS, DOMAINS[::-1], names, names[::-1], strict=True):
        signatures[f"{first}_to_{second}"] = Signature(
            direction(target, domain),
            {"image": tf.TensorSpec([None], tf.string, name="image")},
            {"image": np.array([encoded], object)},
            f"{second} of each encoded {first} (JPEG, PNG, BMP, GIF) of any size, and the {first} made of that",
        )
    return Served(signatures, [*model.to_b, *model.to_a])


def _png(values: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Return one generated image `[1, H, W, 3]` as a PNG of `size` `[2]`."""
    return tf.io.encode_png(pixel_values(tf.image.resize(values, size, antialias=True))[0])
