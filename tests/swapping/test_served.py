"""What SwapGAN serves: poses drawn in the graph, heads, sizes, and requests that do not fit."""

from __future__ import annotations

import io
import json

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from tfthesis.adversarial.data import network_values, pixel_values
from tfthesis.data.joints import BODY_25
from tfthesis.data.person_images import BODY, JOINTS
from tfthesis.discovery import load_method
from tfthesis.method import Spec
from tfthesis.swapping.representations import draw_pose, head_mask
from tfthesis.swapping.served import INPUTS, draw_joints, swap_signatures

SIDE = 32
SPEC = Spec({"condition": (SIDE, SIDE, 3), "segments": (SIDE, SIDE, len(BODY))})


def model_of(variant=None):
    method = load_method("swap_gan")
    model = method.build(method.recipe("tiny", variant), SPEC)
    rng = np.random.default_rng(0)
    for network in model.networks("generator"):
        for weight in network.weights:
            weight.assign(rng.normal(scale=0.2, size=weight.shape))
    return model


def png(pixels):
    # Not by TensorFlow: this runs while tests are collected, and devices can be split only before TensorFlow starts.
    written = io.BytesIO()
    PIL.Image.fromarray(pixels).save(written, "PNG")
    return written.getvalue()


def request(condition_size=(SIDE, SIDE), reference_size=(SIDE, SIDE), **changes):
    rng = np.random.default_rng(1)
    photos = [rng.integers(0, 256, (*size, 3), np.uint8) for size in (condition_size, reference_size)]
    maps = [rng.integers(0, len(BODY), size).astype(np.uint8) for size in (condition_size, reference_size)]
    joints = np.concatenate([rng.uniform(0, reference_size[::-1], (18, 2)), rng.integers(0, 2, (18, 1))], axis=1)
    given = {
        "condition_image": png(photos[0]),
        "condition_map_image": png(maps[0]),
        "reference_image": png(photos[1]),
        "reference_map_image": png(maps[1]),
        "reference_joints_file": " ".join(map(str, joints.ravel())).encode(),
    }
    return {**given, **changes}, photos, maps, joints


def ask(model, *requests):
    function = swap_signatures(model, SPEC).signatures["swap_clothes"].function
    answers = function(**{name: tf.constant([given[name] for given in requests]) for name in INPUTS})
    return {
        name: [np.array(PIL.Image.open(io.BytesIO(data))) for data in values.numpy()]
        for name, values in answers.items()
    }


@pytest.mark.parametrize("size", [(64, 64), (40, 97), (300, 120)])
def test_poses_are_drawn_as_training_draws_them(size):
    rng = np.random.default_rng(0)
    for _ in range(5):
        # Some beyond the edges, some not found, and a limb without length.
        joints = np.concatenate([rng.uniform(-9, np.array(size[::-1]) + 9, (18, 2)), rng.integers(0, 4, (18, 1))], 1)
        joints[3, :2] = joints[2, :2]
        joints = joints.astype(np.float32)
        drawn = np.asarray(draw_joints(tf.constant(joints, tf.float64), *size))
        expected = draw_pose(joints, *size)
        # Numbers of other precision may tell a pixel on the very edge of a limb apart.
        assert (drawn != expected).any(axis=-1).mean() < 1e-3 and expected.any()


def test_a_swap_is_what_the_model_makes_with_the_head_of_the_reference():
    model = model_of()
    given, photos, maps, joints = request()
    answers = ask(model, given)
    assert set(answers) == {"swapped_bytes", "generated_bytes", "restored_bytes", "mask_bytes"}
    expected = model(
        {
            "condition": network_values(photos[0])[None],
            "pose": network_values(draw_pose(joints.astype(np.float32), SIDE, SIDE))[None],
            "segments": tf.one_hot(maps[0], len(BODY))[None],
        }
    )
    for name, values in (("generated", expected["generated"]), ("restored", expected["restored"])):
        np.testing.assert_allclose(answers[f"{name}_bytes"][0], pixel_values(values)[0], atol=1)
    mask = np.round(255 * np.asarray(expected["generated_mask"])[0, ..., 0])
    np.testing.assert_allclose(answers["mask_bytes"][0], mask, atol=1)
    head = head_mask(maps[1])
    np.testing.assert_array_equal(answers["swapped_bytes"][0][head], photos[1][head])
    np.testing.assert_array_equal(answers["swapped_bytes"][0][~head], answers["generated_bytes"][0][~head])


def test_pictures_have_the_sizes_of_their_photos():
    first, second = request((50, 31), (40, 73))[0], request((90, 90), (33, 20))[0]
    answers = ask(model_of(), first, second)
    for name in ("swapped_bytes", "generated_bytes"):
        assert [picture.shape for picture in answers[name]] == [(40, 73, 3), (33, 20, 3)]
    assert [picture.shape for picture in answers["restored_bytes"]] == [(50, 31, 3), (90, 90, 3)]
    assert [picture.shape for picture in answers["mask_bytes"]] == [(40, 73), (33, 20)]


def test_joints_come_as_numbers_or_as_openpose_has_them():
    model, (given, _, _, joints) = model_of(), request()
    numbers = joints.ravel().tolist()
    document = {"version": 1.3, "people": [{"person_id": [-1], "pose_keypoints_2d": numbers, "face": [0, 1]}]}
    texts = [
        ", ".join(map(str, numbers)),
        json.dumps(document, indent=2),
        f"\n{given['reference_joints_file'].decode()}\n",
    ]
    answers = ask(model, given, *({**given, "reference_joints_file": text.encode()} for text in texts))
    body_25 = np.full((len(BODY_25), 3), 7.0)
    for name, joint in zip(JOINTS, joints, strict=True):
        body_25[BODY_25.index(name)] = joint
    more = json.dumps({"people": [{"pose_keypoints_2d": body_25.ravel().tolist()}]}).encode()
    answers["generated_bytes"] += ask(model, {**given, "reference_joints_file": more})["generated_bytes"]
    for other in answers["generated_bytes"][1:]:
        np.testing.assert_array_equal(other, answers["generated_bytes"][0])
    moved = {**given, "reference_joints_file": b" ".join([b"0 0 0"] * len(JOINTS))}
    assert np.any(ask(model, moved)["generated_bytes"][0] != answers["generated_bytes"][0])


def test_ablations_answer_with_what_they_have():
    given = request()[0]
    assert set(ask(model_of("without_generator_2"), given)) == {"swapped_bytes", "generated_bytes", "mask_bytes"}
    assert set(ask(model_of("without_generator_3"), given)) == {"swapped_bytes", "generated_bytes", "restored_bytes"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"condition_map_image": png(np.zeros((9, 9), np.uint8))},
            "condition_map_image: expected the height and width",
        ),
        (
            {"reference_map_image": png(np.full((SIDE, SIDE), 6, np.uint8))},
            "reference_map_image: expected a grey image",
        ),
        (
            {"condition_map_image": png(np.eye(SIDE, dtype=np.uint8)[..., None] * np.array([1, 2, 3], np.uint8))},
            "expected a grey image",
        ),
        ({"reference_joints_file": b"1 2 3"}, "expected 54 numbers"),
        ({"reference_joints_file": b"nan " * 54}, "expected finite numbers"),
        (
            {"reference_joints_file": json.dumps({"people": [{"pose_keypoints_2d": [1] * 54}] * 2}).encode()},
            "expected one person",
        ),
        ({"reference_joints_file": b'{"people": []}'}, "expected 54 numbers"),
        ({"reference_joints_file": b"x " * 54}, "StringToNumber|could not convert|convert"),
        ({"reference_image": b"no picture"}, "expected JPEG, PNG, GIF, or BMP"),
    ],
)
def test_requests_that_do_not_fit(changes, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        ask(model_of(), request(**changes)[0])


def test_a_swap_needs_one_of_each():
    """Of inputs of different lengths none is left out in silence; it is the graph that does not know them."""
    given, signature = request()[0], swap_signatures(model_of(), SPEC).signatures["swap_clothes"]
    function = tf.function(lambda **inputs: signature.function(**inputs)).get_concrete_function(**signature.inputs)
    for longer in (INPUTS[:1], INPUTS[1:]):
        tensors = {name: tf.constant([given[name]] * (2 if name in longer else 1)) for name in INPUTS}
        with pytest.raises(tf.errors.InvalidArgumentError, match="expected as many of each input, got"):
            function(**tensors)
