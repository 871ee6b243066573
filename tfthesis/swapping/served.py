"""What SwapGAN serves: a person in the clothes of another photo, at the size of the person's own."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from tfthesis.adversarial.data import network_values, pixel_values
from tfthesis.assertions import after
from tfthesis.data.images import decode, resize
from tfthesis.data.joints import BODY_25
from tfthesis.data.person_images import BODY, JOINTS
from tfthesis.method import Served, Signature, Spec
from tfthesis.swapping.representations import (
    COLOURS,
    LIMB_WIDTH,
    LIMBS,
    POINT,
    POINT_RADIUS,
    head_mask,
    paste_head,
)

#: Names of the inputs; the page and the server know images and files by their ends.
INPUTS = (
    "condition_image",
    "condition_map_image",
    "reference_image",
    "reference_map_image",
    "reference_joints_file",
)
# What OpenPose calls them in its JSON files: the numbers stand in brackets behind it.
_PERSON = '"pose_keypoints_2d"'
_KEY = r'(?s)^.*?"pose_keypoints_2d"\s*:\s*\[([^\]]*)\].*$'
# As `tfthesis.swapping.representations` draws them: half a pixel's diagonal at least.
_THINNEST = 0.71


def swap_signatures(model: keras.Model, spec: Spec) -> Served:
    """Return `swap_clothes`, which puts the clothes of each condition photo on the person of each reference photo.

    Inputs, a string each, `[B]`: encoded photos of any size; their segmentations as grey images of the photos' sizes
    whose values are labels of `BODY` (no palettes); and the 54 numbers of the reference's joints (x and y in pixels of
    the reference photo, confidence), separated by commas or blanks, or the 75 of BODY_25, or OpenPose's JSON file of
    either with one person.

    Outputs, PNG files `[B]`: `swapped_bytes`, the generated image at the size of the reference photo with the head of
    its person; `generated_bytes`, without; and, where the model has Generators II and III, `restored_bytes`, the
    condition image from it, at the condition's size, and `mask_bytes`, the mask that is found in the generated image.
    """
    height, width = spec.inputs["condition"][:2]
    size = (height, width)

    def one(given: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
        condition, condition_map, reference, reference_map, joints = given
        condition, reference = decode(condition), decode(reference)
        condition_labels = _labels(condition_map, condition, "condition_map_image")
        reference_labels = _labels(reference_map, reference, "reference_map_image")
        own = tf.shape(reference)[:2]
        scale = tf.cast(tf.constant(size), tf.float64) / tf.cast(own, tf.float64)
        pose = draw_joints(_joints(joints) * tf.stack([scale[1], scale[0], 1.0]), height, width)
        # Whole values, as training reads them.
        image = tf.round(resize(condition, height, width, mode="stretch"))
        labels = tf.image.resize(condition_labels[..., None], size, method="nearest")[..., 0]
        outputs = model(
            {
                "condition": network_values(image)[None],
                "pose": network_values(pose)[None],
                "segments": tf.one_hot(tf.cast(labels, tf.int32), len(BODY))[None],
            }
        )
        generated = _pixels(outputs["generated"], own)
        swapped = paste_head(generated, reference, head_mask(reference_labels))
        answers = {"swapped_bytes": swapped, "generated_bytes": generated}
        if "restored" in outputs:
            answers["restored_bytes"] = _pixels(outputs["restored"], tf.shape(condition)[:2])
        if "generated_mask" in outputs:
            answers["mask_bytes"] = _pixels(2 * outputs["generated_mask"] - 1, own)
        return {name: tf.io.encode_png(values) for name, values in answers.items()}

    names = ["swapped_bytes", "generated_bytes"]
    names += ["restored_bytes"] if model.generator_2 is not None else []
    names += ["mask_bytes"] if model.generator_3 is not None else []

    def swap_clothes(**given: tf.Tensor) -> dict[str, tf.Tensor]:
        counts = tf.stack([tf.shape(given[name])[0] for name in INPUTS])
        # The map goes by the first input alone: what the others have more would be left out.
        equal = tf.debugging.Assert(
            tf.reduce_all(tf.equal(counts, counts[0])), ["expected as many of each input, got", counts], summarize=9
        )
        # One at a time: images differ in size.
        outputs = dict.fromkeys(names, tf.TensorSpec([], tf.string))
        with after(equal):
            each = tuple(tf.identity(given[name]) for name in INPUTS)
        return tf.map_fn(one, each, fn_output_signature=outputs)

    signature = Signature(
        swap_clothes,
        {name: tf.TensorSpec([None], tf.string, name=name) for name in INPUTS},
        _example(),
        "each reference person in the clothes of the condition person; photos (JPEG, PNG, BMP, GIF) of any size, "
        f"segmentations with the labels {', '.join(f'{n} {part}' for n, part in enumerate(BODY))}, 18 joints",
    )
    return Served({"swap_clothes": signature}, model.networks("generator"))


def draw_joints(joints: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Return what `tfthesis.swapping.representations.draw_pose` makes of joints float64 `[18, 3]`, as graph code."""
    side = max(height, width)
    x = tf.range(width, dtype=tf.float64) + 0.5
    y = tf.range(height, dtype=tf.float64)[:, None] + 0.5
    canvas = tf.zeros([height, width, 3], tf.uint8)
    strokes = [
        (JOINTS.index(start), JOINTS.index(end), LIMB_WIDTH, colour)
        for (start, end), colour in zip(LIMBS, COLOURS, strict=True)
    ]
    strokes += [(number, number, POINT_RADIUS, POINT) for number in range(len(JOINTS))]
    for first, last, radius, colour in strokes:
        start, step = joints[first, :2], joints[last, :2] - joints[first, :2]
        along = (x - start[0]) * step[0] + (y - start[1]) * step[1]
        share = tf.clip_by_value(tf.math.divide_no_nan(along, tf.reduce_sum(step**2)), 0, 1)
        distance = (x - start[0] - share * step[0]) ** 2 + (y - start[1] - share * step[1]) ** 2
        found = (joints[first, 2] > 0) & (joints[last, 2] > 0)
        near = (distance <= max(radius * side, _THINNEST) ** 2) & found
        canvas = tf.where(near[..., None], tf.constant(colour, tf.uint8), canvas)
    return canvas


def _labels(data: tf.Tensor, pixels: tf.Tensor, name: str) -> tf.Tensor:
    """Return the labels uint8 `[h, w]` of an encoded map of the photo `pixels`; fails where they are none."""
    drawn = decode(data)
    labels = drawn[..., 0]
    size = tf.debugging.Assert(
        tf.reduce_all(tf.equal(tf.shape(drawn), tf.shape(pixels))),
        [f"{name}: expected the height and width of its photo,", tf.shape(pixels)[:2], "got", tf.shape(drawn)[:2]],
    )
    known = tf.debugging.Assert(
        tf.reduce_all(tf.equal(drawn, labels[..., None])) & tf.reduce_all(labels < len(BODY)),
        [f"{name}: expected a grey image with the values 0 to {len(BODY) - 1}, got one with", tf.reduce_max(drawn)],
    )
    with after(size, known):
        return tf.identity(labels)


def _joints(data: tf.Tensor) -> tf.Tensor:
    """Return the joints float64 `[18, 3]` of a text (scalar string); fails where it holds others than one person's."""
    people = tf.shape(tf.strings.split(data, _PERSON))[0] - 1
    text = tf.strings.regex_replace(data, _KEY, r"\1")
    parts = tf.strings.split(tf.strings.strip(tf.strings.regex_replace(text, r"[\s,]+", " ")), " ")
    sizes = [3 * len(JOINTS), 3 * len(BODY_25)]
    one = tf.debugging.Assert(people <= 1, ["reference_joints_file: expected one person, got", people])
    count = tf.debugging.Assert(
        tf.reduce_any(tf.equal(tf.size(parts), sizes)),
        [
            f"reference_joints_file: expected {sizes[0]} numbers (x, y, confidence), or BODY_25's {sizes[1]}, got",
            tf.size(parts),
        ],
    )
    with after(one, count):
        values = tf.strings.to_number(parts, tf.float64)
    finite = tf.debugging.Assert(
        tf.reduce_all(tf.math.is_finite(values)), ["reference_joints_file: expected finite numbers, got", data]
    )
    with after(finite):
        points = tf.reshape(values, [-1, 3])
    own = tf.where(tf.equal(tf.size(parts), sizes[0]), list(range(len(JOINTS))), [BODY_25.index(n) for n in JOINTS])
    return tf.ensure_shape(tf.gather(points, own), [len(JOINTS), 3])


def _pixels(values: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Return one generated image `[1, H, W, C]` as pixels uint8 of `size` `[2]`."""
    return pixel_values(tf.image.resize(values, size, antialias=True))[0]


def _example() -> dict[str, np.ndarray]:
    """Return a request: two photos that are not of one colour, which instance normalisation would divide by nothing."""
    rows, columns = np.indices((40, 32))
    photo = np.stack([7 * columns, 6 * rows, 50 * ((rows // 8 + columns // 8) % 5)], axis=-1).astype(np.uint8)
    labels = np.select([rows < 10, rows < 26, rows < 38], [1, 4, 5], 3) * (abs(columns - 16) < 10)
    joints = " ".join(f"{16 + 6 * (n % 3 - 1)} {2 * n + 2} 1" for n in range(len(JOINTS)))
    encoded = [tf.io.encode_png(values).numpy() for values in (photo, labels[..., None].astype(np.uint8))]
    values = (*encoded, tf.io.encode_png(photo[::-1]).numpy(), encoded[1], joints.encode())
    return {name: np.array([value], object) for name, value in zip(INPUTS, values, strict=True)}
