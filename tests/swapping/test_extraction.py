"""Joints and body parts by TensorFlow Lite models: small ones made here, and the published ones where they are."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from tfthesis.data.joints import COCO_17, read_openpose, write_openpose
from tfthesis.data.person_images import BODY, JOINTS, PersonImages, open_people
from tfthesis.errors import UserError
from tfthesis.swapping.data import SwapData
from tfthesis.swapping.extraction import PersonModel, PoseModel, own_pixels, write_maps, write_representations
from training.person_parts import main

SIDE = 16


def lite(path, function):
    """Write a TensorFlow Lite model of one image float32 `[1, 16, 16, 3]` in 0..1."""
    inputs = keras.Input((SIDE, SIDE, 3), batch_size=1)
    model = keras.Model(inputs, function(inputs))
    signature = tf.function(lambda image: model(image)).get_concrete_function(
        tf.TensorSpec((1, SIDE, SIDE, 3), tf.float32)
    )
    path.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([signature], model).convert())
    return path


def standing():
    """Return y, x and confidence of a person who stands, in shares of the input."""
    places = {"nose": (0.1, 0.5), "shoulder": (0.3, 0.4), "elbow": (0.45, 0.35), "wrist": (0.6, 0.3)}
    places |= {"hip": (0.6, 0.45), "knee": (0.75, 0.45), "ankle": (0.9, 0.45), "eye": (0.08, 0.47), "ear": (0.1, 0.42)}
    points = np.zeros((17, 3), np.float32)
    for number, name in enumerate(COCO_17):
        y, x = places[name.split("_")[-1]]
        points[number] = y, x if name.startswith("right") else 1 - x, 0.9
    return points


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A pose that is as sure as the photo is bright, and a mask of its bright pixels."""
    folder = tmp_path_factory.mktemp("models")

    def pose(image):
        bright = keras.ops.max(image, axis=(1, 2, 3), keepdims=True)
        points = keras.ops.reshape(keras.ops.convert_to_tensor(standing()), (1, 1, 17, 3))
        return points * keras.ops.concatenate([keras.ops.ones_like(bright)] * 2 + [bright], axis=-1)

    return (
        lite(folder / "pose.tflite", pose),
        lite(folder / "mask.tflite", lambda image: keras.ops.max(image, axis=-1, keepdims=True)),
    )


def photo(height=20, width=10):
    """Return a photo with a bright person in its left half."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[1:-1, : width // 2] = 250
    return pixels


def test_photos_keep_their_aspect_ratio(models):
    pose, person = PoseModel(models[0]), PersonModel(models[1])
    # The photo is 20 x 10: its input is a square of 20 pixels, black on the right.
    joints = pose.joints(photo())
    nose, shoulder = joints[0], joints[JOINTS.index("right_shoulder")]
    np.testing.assert_allclose(nose[:2], [10, 2], atol=1e-4)
    np.testing.assert_allclose(shoulder[:2], [8, 6], atol=1e-4)
    np.testing.assert_allclose(joints[JOINTS.index("neck"), :2], [10, 6], atol=1e-4)
    mask = person.mask(photo(40, 20))
    assert mask.shape == (40, 20)
    expected = photo(40, 20)[..., 0] > 0
    assert (mask == expected).mean() > 0.9
    wide = person.mask(np.ascontiguousarray(photo(40, 20).transpose(1, 0, 2)))
    np.testing.assert_array_equal(wide, mask.T)


def test_unsure_points_are_not_found(models):
    dark = photo() // 4
    pose = PoseModel(models[0])
    assert (pose.joints(dark, 0.1)[:, 2] > 0).all() and not pose.joints(dark, 0.5)[:, 2].any()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "photos" / "more").mkdir(parents=True)
    PIL.Image.fromarray(photo(64, 64)).save(tmp_path / "photos" / "a.png")
    PIL.Image.fromarray(photo(64, 48)).save(tmp_path / "photos" / "more" / "b.jpg")
    PIL.Image.fromarray(photo(64, 64) * 0).save(tmp_path / "photos" / "nobody.png")
    (tmp_path / "photos" / "cut.jpg").write_bytes((tmp_path / "photos" / "more" / "b.jpg").read_bytes()[:200])
    return tmp_path


def test_other_persons_are_left_out():
    mask = np.zeros((9, 9), bool)
    mask[1:4, 1:4] = mask[4, 4] = mask[6:, 6:] = True
    joints = np.zeros((18, 3), np.float32)
    joints[0] = 2.5, 1.2, 1
    joints[1] = 7.5, 7.5, 0  # not found
    joints[2] = 30, -4, 1  # outside
    expected = mask.copy()
    expected[6:, 6:] = False
    np.testing.assert_array_equal(own_pixels(mask, joints), expected)
    assert not own_pixels(mask, joints * 0).any()


def test_what_is_written_is_read(folder, models, capsys):
    command = ["--data", str(folder), "--pose", str(models[0]), "--person", str(models[1])]
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["photos"], found["written"], found["without_a_person"]) == (4, 3, 1)
    assert len(found["skipped"]) == 1 and "cut.jpg" in found["skipped"][0]
    data = open_people("person_folders", folder)
    assert data.counts() == {"test": 2} and data.skipped == ["test: image nobody.png: OpenPose found no person"]
    test = data.split("test")
    assert test.ids == ["a.png", "more/b.jpg"]
    np.testing.assert_allclose(test.joints[0], PoseModel(models[0]).joints(photo(64, 64)), atol=1e-3)
    segments = test.segment(0)
    np.testing.assert_array_equal(segments > 0, PersonModel(models[1]).mask(photo(64, 64)))
    # From top to bottom along the person's right leg.
    seen = [BODY[part] for part in segments[[6, 26, 44, 58], 27]]
    assert seen == ["head", "upper", "lower", "legs"]


def test_it_goes_on_where_it_was(folder, models):
    pair = PoseModel(models[0]), PersonModel(models[1])
    write_representations(folder, *pair)
    kept = (folder / "joints" / "a.json").read_text()
    (folder / "joints" / "a.json").write_text(kept.replace("0.9", "0.8"))
    (folder / "segments" / "more" / "b.png").unlink()
    (folder / "photos.csv").write_text("photo,split\na.png,train\n")
    found = write_representations(folder, *pair)
    assert found["written"] == 1 and "0.8" in (folder / "joints" / "a.json").read_text()
    assert open_people("person_folders", folder).counts() == {"train": 1}


def test_maps_that_are_written_and_read_are_what_is_derived(folder, models, capsys):
    command = ["--data", str(folder), "--pose", str(models[0]), "--person", str(models[1])]
    assert main(command) == 0 and json.loads(capsys.readouterr().out)["with_maps"] == 0
    derived = open_people("person_folders", folder)
    assert main([*command, "--maps"]) == 0
    found = json.loads(capsys.readouterr().out)
    # Nothing is found anew, and the photo without a person has no maps.
    assert (found["written"], found["with_maps"]) == (0, 2)
    kinds = ("poses", "masks", "heads")
    written = {path.relative_to(folder).as_posix() for kind in kinds for path in (folder / kind).rglob("*")}
    assert {name for name in written if "." in name} == {
        f"{kind}/{name}.png" for kind in kinds for name in ("a", "more/b")
    }
    data = open_people("person_folders", folder)
    assert data.source["ready"] == sorted(kinds) and derived.split("test").poses is None
    # Photos are 64 pixels high, and 64 or 48 wide.
    for row, width in ((0, 64), (1, 48)):
        one, other = (
            SwapData(PersonImages("mine", {"test": each.split("test").take([row])}), 64, width).opened("test")
            for each in (derived, data)
        )
        for field in ("images", "joints", "poses", "segments", "masks", "heads"):
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
            assert getattr(one, field).dtype == getattr(other, field).dtype and getattr(one, field).any()
    # What was corrected stays, and what is missing is made again.
    PIL.Image.fromarray(np.zeros((64, 64), np.uint8)).save(folder / "masks" / "a.png")
    (folder / "heads" / "a.png").unlink()
    assert main([*command, "--maps"]) == 0 and json.loads(capsys.readouterr().out)["with_maps"] == 1
    again = open_people("person_folders", folder).split("test")
    assert not again.read("masks", 0).any() and again.read("heads", 0).any()


def test_joints_under_the_name_of_openpose_are_not_found_again(folder, models):
    pair = PoseModel(models[0]), PersonModel(models[1])
    write_representations(folder, *pair)
    (folder / "joints" / "a.json").rename(folder / "joints" / "a_keypoints.json")
    found = write_representations(folder, *pair, maps=True)
    assert (found["written"], found["with_maps"]) == (0, 2) and not (folder / "joints" / "a.json").exists()
    # Readable by whom other files are.
    (folder / "plain").touch()
    assert (folder / "masks" / "a.png").stat().st_mode == (folder / "plain").stat().st_mode
    (folder / "joints" / "a_keypoints.json").unlink()
    (folder / "masks" / "a.png").unlink()
    with pytest.raises(UserError, match=r"no file .*joints/a.json, of which maps are drawn"):
        write_maps(folder, Path("a"))


def test_files_that_are_there_are_never_written_over(folder, models):
    pair = PoseModel(models[0]), PersonModel(models[1])
    write_representations(folder, *pair)
    segments = {name: np.array(PIL.Image.open(folder / "segments" / f"{name}.png")) for name in ("a", "more/b")}
    # Joints that were corrected, under OpenPose's name, and parts that are missing.
    own = folder / "joints" / "a_keypoints.json"
    (folder / "joints" / "a.json").rename(own)
    joints = read_openpose(own)
    joints[JOINTS.index("right_knee"), 2] = joints[JOINTS.index("right_ankle"), 2] = 0
    write_openpose(own, joints)
    before = own.read_bytes()
    (folder / "segments" / "a.png").unlink()
    # Parts that were corrected, and joints that are missing.
    PIL.Image.fromarray(np.where(segments["more/b"] == 5, np.uint8(4), segments["more/b"])).save(
        folder / "segments" / "more" / "b.png"
    )
    (folder / "joints" / "more" / "b.json").unlink()
    assert write_representations(folder, *pair)["written"] == 2
    assert own.read_bytes() == before and not (folder / "joints" / "a.json").exists()
    again = {name: np.array(PIL.Image.open(folder / "segments" / f"{name}.png")) for name in ("a", "more/b")}
    assert (again["a"] != segments["a"]).any() and ((again["a"] > 0) == (segments["a"] > 0)).all()
    assert (folder / "joints" / "more" / "b.json").is_file() and not (again["more/b"] == 5).any()


def test_maps_of_other_classes(folder, models, capsys):
    command = [
        "--data",
        str(folder),
        "--pose",
        str(models[0]),
        "--person",
        str(models[1]),
        "--classes",
        "lip",
        "--maps",
    ]
    assert main(command) == 2
    assert "a.png, and parts are cut out in the classes 'body', not 'lip'" in capsys.readouterr().err
    assert main([*command[:6]]) == 0
    for name in ("a", "more/b"):
        file = folder / "segments" / f"{name}.png"
        # Label 13 is a face among the 20.
        PIL.Image.fromarray(np.where(np.array(PIL.Image.open(file)) == 1, np.uint8(13), np.uint8(0))).save(file)
    capsys.readouterr()
    assert main(command) == 0 and json.loads(capsys.readouterr().out)["with_maps"] == 2
    head = np.array(PIL.Image.open(folder / "heads" / "a.png"))
    assert set(np.unique(head)) == {0, 255}


def test_mistakes(folder, models, tmp_path, capsys):
    pose, person = map(str, models)
    command = ["--data", str(folder), "--pose", pose, "--person", person]
    assert main([*command[:2], "--pose", str(tmp_path / "none"), *command[4:]]) == 2
    assert "expected a TensorFlow Lite model" in capsys.readouterr().err
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"not a model")
    assert main([*command[:2], "--pose", str(broken), *command[4:]]) == 2
    assert "broken.tflite: expected a TensorFlow Lite model" in capsys.readouterr().err
    assert main([*command[:2], "--pose", person, "--person", pose]) == 2
    assert "expected a pose model with the output [1, 1, 17, 3], got [1, 16, 16, 1]" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"a value for each pixel, \[1, 16, 16\], got \[1, 1, 17, 3\]"):
        PersonModel(models[0])
    assert main([*command, "--found-at", "0"]) == 2
    assert main(["--data", str(tmp_path / "photos" / "more"), *command[2:]]) == 2
    assert "no images" in capsys.readouterr().err
    PIL.Image.fromarray(photo()).save(folder / "photos" / "a.jpg")
    assert main(command) == 2
    assert "would share their joints: ['a']" in capsys.readouterr().err


def test_movenet_finds_what_its_reference_says(real_data):
    folder = real_data / "pose_seg_tflite"
    pose = PoseModel(folder / "movenet_single_pose_lightning_ptq.tflite")
    with PIL.Image.open(folder / "squat.jpg") as image:
        pixels = np.array(image.convert("RGB"))
    height, width = pixels.shape[:2]
    with (folder / "movenet_single_pose_lightning_ptq_reference.csv").open() as file:
        rows = [[float(row[f"keypoint_{name}"]) for name in ("x", "y", "score")] for row in csv.DictReader(file)]
    expected = np.array(rows)[[COCO_17.index(name) for name in JOINTS if name != "neck"]]
    found = np.delete(pose.joints(pixels, 0.01), JOINTS.index("neck"), axis=0)
    # The reference was made of the photo with its sides stretched to a square, and of another build of the model.
    away = np.abs(found[:, :2] / (width, height) - expected[:, :2])
    assert away.mean() < 0.015 and away.max() < 0.05


def test_published_models_agree_on_the_person(real_data):
    folder = real_data / "pose_seg_tflite"
    with PIL.Image.open(folder / "squat.jpg") as image:
        pixels = np.array(image.convert("RGB"))
    classes = PersonModel(folder / "deeplabv3_mnv2_pascal_quant.tflite").mask(pixels)
    probability = PersonModel(folder / "selfie_segmentation.tflite").mask(pixels)
    assert (classes & probability).sum() / (classes | probability).sum() > 0.8
