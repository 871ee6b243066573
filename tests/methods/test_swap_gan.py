"""SwapGAN: recipe, data of pairs, the protocol of swaps, and pictures."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from tfthesis.adversarial.data import network_values, pixel_values
from tfthesis.data import person_images
from tfthesis.data.person_images import BODY, People, PersonImages
from tfthesis.discovery import load_method
from tfthesis.errors import UserError
from tfthesis.method import SPLITS
from tfthesis.metrics.inception_score import inception_score
from tfthesis.metrics.structural_similarity import structural_similarity
from tfthesis.models import SwapGAN
from tfthesis.swapping import classifier
from tfthesis.swapping.baselines import BASELINES, Person
from tfthesis.swapping.data import SwapData
from tfthesis.swapping.evaluation import SwapProtocol, checkerboard, evaluate_swapping
from tfthesis.swapping.pictures import swap_pictures
from tfthesis.swapping.protocol import conditions
from tfthesis.swapping.representations import draw_pose, head_mask
from training.dry_run import dry_run_text
from training.execution import execute
from training.progress import Progress
from training.request import Request

SWAP = load_method("swap_gan")
SIDE = 32


def people(split="train", count=6, size=(SIDE, SIDE), pairs=None, labels=True):
    """Return persons of noise, two images each."""
    rng = np.random.default_rng(SPLITS.index(split))
    joints = np.concatenate([rng.uniform(0, size[::-1], (count, 18, 2)), np.ones((count, 18, 1))], axis=2)
    return People(
        [f"{split}-{number}" for number in range(count)],
        rng.integers(0, 256, (count, *size, 3), np.uint8),
        joints.astype(np.float32),
        rng.integers(0, len(BODY), (count, *size)).astype(np.uint8),
        np.arange(count).reshape(-1, 2).astype(np.int32) if pairs is None else np.array(pairs, np.int32),
        np.arange(count, dtype=np.int32) % 3 if labels else None,
    )


def dataset(**options):
    classes = ("x", "y", "z") if options.get("labels", True) else ()
    return PersonImages("mine", {split: people(split, **options) for split in SPLITS}, classes)


def element(data, rows, key=(0, 0), split="train"):
    ((inputs, targets),) = list(data.batches(split, [np.array(rows, np.int64)], key))
    return {name: np.asarray(value) for name, value in inputs.items()}, targets["row"].numpy().tolist()


def places(values, images):
    pixels = np.asarray(pixel_values(values))
    return [next(n for n, known in enumerate(images) if np.array_equal(image, known)) for image in pixels]


def test_thesis_numbers():
    recipe = SWAP.recipe("thesis")
    (stage,) = SWAP.stages(recipe)
    assert (stage.epochs, stage.batch_size, stage.learning_rate, stage.decay_epochs) == (100, 8, 0.0002, 50)
    assert dict(stage.loss_weights) == {"reference": 1.0, "condition": 1.0, "mask": 5.0, "discriminator": 1.0}
    assert (recipe.height, recipe.width, recipe.blocks, recipe.beta, recipe.conditions) == (128, 128, 6, 0.5, 25)
    assert not stage.keep_best
    # Constant until epoch 50, and zero in the epoch after the last one.
    assert [stage.rate_factor(epoch) for epoch in (0, 49, 50, 99)] == [1, 1, 50 / 51, 1 / 51]


def test_ablations_have_the_parts_that_are_left():
    found = {
        variant: dict(SWAP.stages(SWAP.recipe("thesis", variant))[0].loss_weights)
        for variant in ("without_generator_2", "without_generator_3", "perceptual", "deconvolution")
    }
    adversaries = {"reference": 1.0, "discriminator": 1.0}
    assert found["without_generator_2"] == adversaries | {"mask": 5.0}
    assert found["without_generator_3"] == adversaries | {"condition": 1.0}
    assert found["deconvolution"] == adversaries | {"condition": 1.0, "mask": 5.0}
    assert found["perceptual"] == found["deconvolution"] | {"perceptual": 0.0001}
    data = SwapData(dataset(), SIDE, SIDE)
    ablations = ("without_generator_2", "without_generator_3")
    models = {variant: SWAP.build(SWAP.recipe("tiny", variant), data.spec) for variant in ablations}
    assert models["without_generator_2"].generator_2 is None and models["without_generator_3"].generator_3 is None
    assert "perceptual_layers" in SWAP.recipe("thesis").idle()
    assert "mask_weight" in SWAP.recipe("thesis", "without_generator_3").idle()
    assert "persons" in SWAP.recipe("thesis").idle() and "persons" not in SWAP.recipe("quick").idle()
    assert "perceptual_layers" not in SWAP.recipe("thesis", "perceptual").idle()


def test_sides_of_a_pair_are_drawn_by_seed_epoch_and_row():
    data = SwapData(dataset(count=40), SIDE, SIDE)
    opened = data.opened("train")
    assert data.size("train") == 20
    seen = []
    for key in ((3, 0), (3, 1), (3, 0), (4, 0)):
        inputs, rows = element(data, range(20), key)
        assert rows == list(range(20))
        reference, condition = (places(inputs[name], opened.images) for name in ("reference", "condition"))
        assert [sorted(pair) for pair in zip(reference, condition, strict=True)] == opened.pairs.tolist()
        seen.append(reference)
    assert seen[0] == seen[2] and seen[0] != seen[1] and seen[0] != seen[3]
    assert 4 < sum(place % 2 for place in seen[0]) < 16
    part, _ = element(data, [7, 8], (3, 0))
    assert places(part["reference"], opened.images) == seen[0][7:9]
    fixed = [element(data, range(20), key, "test")[0]["reference"] for key in ((3, 0), (4, 5))]
    np.testing.assert_array_equal(*fixed)
    assert places(fixed[0], data.opened("test").images) == list(range(0, 40, 2))
    inputs, rows = element(data, [])
    assert rows == [] and inputs["segments"].shape == (0, SIDE, SIDE, len(BODY))
    assert data.item_ids("train", np.array([1])) == ["train-2 and train-3"]


def test_pose_is_the_references_and_segments_are_the_conditions():
    data = SwapData(dataset(), SIDE, SIDE)
    opened = data.opened("test")
    inputs, _ = element(data, [0, 1, 2], split="test")
    reference, condition = opened.pairs.T
    poses = np.stack([draw_pose(opened.joints[row], SIDE, SIDE) for row in reference])
    np.testing.assert_allclose(inputs["pose"], network_values(poses), atol=1e-6)
    np.testing.assert_array_equal(inputs["segments"].argmax(axis=-1), opened.segments[condition])
    assert (inputs["segments"].sum(axis=-1) == 1).all()
    for name, rows in (("reference_mask", reference), ("condition_mask", condition)):
        np.testing.assert_array_equal(inputs[name][..., 0], opened.segments[rows] > 0)
    assert set(inputs) == set(data.spec.inputs)
    assert {name: value.shape[1:] for name, value in inputs.items()} == dict(data.spec.inputs)


def test_joints_and_maps_are_scaled_with_their_images():
    large = SwapData(dataset(size=(64, 96)), 32, 24)
    opened, whole = large.opened("test"), dataset(size=(64, 96)).split("test")
    assert opened.images.shape == (6, 32, 24, 3) and opened.segments.shape == (6, 32, 24)
    np.testing.assert_allclose(opened.joints[..., 0], whole.joints[..., 0] / 4, rtol=1e-5)
    np.testing.assert_allclose(opened.joints[..., 1], whole.joints[..., 1] / 2, rtol=1e-5)
    assert opened.segments[0, 0, 0] in whole.segments[0, :2, :4] and opened.segments.max() < len(BODY)


def ready(split, count=6, size=(SIDE, SIDE)):
    """Return persons whose drawings, masks and heads have nothing to do with joints and segments."""
    rng = np.random.default_rng(7 + SPLITS.index(split))
    maps = {kind: rng.integers(0, 2, (count, *size)).astype(bool) for kind in ("masks", "heads")}
    return dataclasses.replace(
        people(split, count, size), poses=rng.integers(0, 256, (count, *size, 3), np.uint8), **maps
    )


def test_what_is_ready_is_used_in_place_of_what_is_derived():
    data = SwapData(PersonImages("mine", {split: ready(split) for split in SPLITS}, ("x", "y", "z")), SIDE, SIDE)
    given, opened = ready("test"), data.opened("test")
    reference, condition = opened.pairs.T
    inputs, rows = element(data, [0, 1, 2], split="test")
    assert rows == [0, 1, 2]
    np.testing.assert_allclose(inputs["pose"], network_values(given.poses[reference]), atol=1e-6)
    for name, rows in (("reference_mask", reference), ("condition_mask", condition)):
        np.testing.assert_array_equal(inputs[name][..., 0], given.masks[rows])
    np.testing.assert_array_equal(inputs["segments"].argmax(axis=-1), given.segments[condition])
    # Measured with them too: the mask of the reference, and the head that is pasted on.
    toy, protocol = Classifier(), SwapProtocol(conditions=3, parts=2, baselines=("tps_warping", "poisson_blending"))
    found = evaluate_swapping(Known(), data, "test", protocol, toy).scalars
    assert found["mask_l1"] == pytest.approx(np.mean(np.abs(0.25 - given.masks)), rel=1e-5)
    swaps = conditions(6, 3, 0)
    images = np.where(given.heads[..., None], given.images, given.poses)
    assert found["is_reference"] == pytest.approx(inception_score(toy.probabilities(images[swaps[:, 0]]), 2)[0])
    persons = [
        Person(*each) for each in zip(given.images, given.joints, given.segments, given.masks, given.heads, strict=True)
    ]
    for name, make in BASELINES.items():
        made = np.stack([make(persons[of], persons[on]) for on, of in swaps])
        assert found[f"{name}.is_reference"] == pytest.approx(inception_score(toy.probabilities(made), 2)[0])


def test_what_is_ready_is_scaled_as_photos_and_segments_are():
    given = ready("test", size=(64, 96))
    given = dataclasses.replace(given, poses=given.images, masks=given.segments > 0, heads=given.segments == 1)
    opened = SwapData(PersonImages("mine", {"test": given}, ("x", "y", "z")), 32, 24).opened("test")
    np.testing.assert_array_equal(opened.poses, opened.images)
    np.testing.assert_array_equal(opened.masks, opened.segments > 0)
    np.testing.assert_array_equal(opened.heads, head_mask(opened.segments))
    assert opened.masks.dtype == opened.heads.dtype == bool


def test_files_are_read_and_what_does_not_decode_is_left_out_with_its_pairs(tmp_path):
    whole = people("train")
    files = []
    for number, image in enumerate(whole.images):
        files.append(tmp_path / f"{number}.png")
        PIL.Image.fromarray(image).save(files[-1])
    files[2].write_bytes(files[2].read_bytes()[:60])
    splits = {split: people(split) for split in SPLITS} | {"train": dataclasses.replace(whole, images=files)}
    data = SwapData(PersonImages("mine", splits, ("x", "y", "z")), SIDE, SIDE)
    opened = data.opened("train")
    assert opened.ids == [f"train-{number}" for number in (0, 1, 3, 4, 5)]
    np.testing.assert_array_equal(opened.images, whole.images[[0, 1, 3, 4, 5]])
    assert opened.pairs.tolist() == [[0, 1], [3, 4]] and data.size("train") == 2
    assert opened.labels.tolist() == whole.labels[[0, 1, 3, 4, 5]].tolist()
    (line,) = data.describe()["skipped"]["items"]
    assert line.startswith("train: image train-2: ")
    other = dataclasses.replace(whole, images=[*files[:2], *files[3:], files[0]], segments=whole.segments[:, :30])
    with pytest.raises(UserError, match="has 32 x 32 pixels, the map 32 x 30; expected one size"):
        SwapData(PersonImages("mine", {"train": other}, ("x", "y", "z")), SIDE, SIDE).opened("train")


def test_data_and_recipes_that_do_not_fit():
    with pytest.raises(UserError, match="split 'train' has no pairs; training needs two images of one person"):
        SwapData(dataset(pairs=np.zeros((0, 2), int)), SIDE, SIDE).size("train")
    with pytest.raises(UserError, match="expected a split 'train', got test alone; training needs 'train' with pairs"):
        SwapData(PersonImages("mine", {"test": people("test")}, ("x", "y", "z")), SIDE, SIDE).size("train")
    alone = {"train": people("train"), "val": people("val").take([0]), "test": people("test")}
    data = SwapData(PersonImages("mine", alone, ("x", "y", "z")), SIDE, SIDE)
    assert (data.size("train"), data.size("test")) == (3, 3)
    with pytest.raises(UserError, match="split 'val' has 1 usable image; a swap is of two"):
        data.size("val")
    for fields, message in (
        ({"height": 36, "width": 36}, "'height': expected a multiple of 8 from 24 pixels, got 36"),
        ({"width": 16}, "'width': expected a multiple of 8 from 24 pixels, got 16"),
        ({"width": 40}, "paper dolls are square"),
        ({"reader": ("size=48",)}, "'reader': size of paper dolls is a field of the recipe"),
        ({"filters": 0}, "'filters': expected 1 or more, got 0"),
        ({"conditions": 0}, "'conditions': expected 1 or more, got 0"),
        ({"mask_weight": -1.0}, "'mask_weight': expected 0 or more, got -1.0"),
        ({"mask_weight": 0.0}, "'mask_weight': Generator III learns by it alone; expected more than 0, or generator_3"),
        ({"condition_seed": -1}, "'condition_seed': expected 0 or more, got -1"),
        ({"learning_rate": 0.0}, "'learning_rate': expected a rate above 0, got 0.0"),
        ({"classifier_learning_rate": -1.0}, "'classifier_learning_rate': expected a rate above 0, got -1.0"),
        ({"decay_epochs": 3}, "'decay_epochs': expected 0 to epochs=2, got 3"),
        ({"classifier_epochs": 0}, "'classifier_epochs': expected 1 or more, got 0"),
        ({"classifier_batch_size": 0}, "'classifier_batch_size': expected 1 or more, got 0"),
        ({"classifier_filters": 0}, "'classifier_filters': expected 1 or more, got 0"),
        ({"perceptual_weight": 1.0, "perceptual_layers": ()}, "'perceptual_layers': expected the name of a layer"),
        (
            {"baselines": ("poison",)},
            "unknown value of recipe field 'baselines' 'poison'. Did you mean 'poisson_blending'",
        ),
    ):
        with pytest.raises(UserError, match=message):
            SWAP.data(SWAP.recipe("tiny", **fields), "paper_dolls", None)


def test_a_classifier_that_cannot_be_had_is_told_before_the_first_step(monkeypatch):
    monkeypatch.setattr(person_images, "open_people", lambda *_, **__: dataset(labels=False))
    with pytest.raises(UserError, match="'classifier': clothes needs labels of two classes or more, person_folders"):
        SWAP.data(SWAP.recipe("tiny", dataset="person_folders"), "person_folders", None)
    recipe = SWAP.recipe("tiny", classifier="inception_v3", classifier_weights="nowhere.h5")
    data = SWAP.data(recipe, "person_folders", None)
    (stage,) = SWAP.stages(recipe)
    with pytest.raises(UserError, match="classifier 'inception_v3': no file nowhere.h5"):
        SWAP.compile(SWAP.build(recipe, data.spec), recipe, stage)


def test_a_download_that_fails_is_told_before_the_first_step(monkeypatch, tmp_path):
    asked = []

    def offline(*arguments, **options):
        asked.append(options["weights"])
        raise Exception("no network")

    monkeypatch.setattr(keras.applications, "InceptionV3", offline)
    changes = ["classifier=inception_v3", "persons=(4,2,2)", "epochs=1", "decay_epochs=0"]
    request = Request.create("swap_gan", "tiny", None, changes)
    # What looks only is not made to wait for a download.
    assert "trains" in dry_run_text(request, request.open_data()) and not asked
    with pytest.raises(UserError, match=r"'inception_v3': the ImageNet weights could not be downloaded \(no network\)"):
        execute(request, tmp_path / "run", progress=Progress())
    assert asked == ["imagenet"] and not (tmp_path / "run" / "metrics.csv").exists()
    SWAP.before_training(SWAP.recipe("tiny"), SwapData(dataset(), SIDE, SIDE))
    assert asked == ["imagenet"]


class Classifier:
    """Tells images by the share of their first pixel's red."""

    name = "a toy"
    classes = ("red", "another")

    def probabilities(self, images):
        red = images[:, 0, 0, 0].astype(np.float64) / 255
        return np.stack([red, 1 - red], axis=1)


class Known(SwapGAN):
    """Generators whose images are known: I returns the pose's drawing, II the condition's classes in grey."""

    def __init__(self, second=True, third=True):
        tf.keras.Model.__init__(self)
        self.second, self.third = second, third

    def __call__(self, inputs, training=False):
        outputs = {"generated": inputs["pose"]}
        grey = network_values(40 * np.asarray(inputs["segments"]).argmax(axis=-1)[..., None])
        outputs |= {"restored": tf.repeat(grey, 3, axis=-1)} if self.second else {}
        return outputs | ({"generated_mask": tf.ones_like(grey) * 0.25} if self.third else {})


def similarity(first, second):
    return structural_similarity(first[None], second[None])[0]


def test_protocol_against_what_is_known():
    data = SwapData(dataset(), SIDE, SIDE)
    opened, toy = data.opened("test"), Classifier()
    found = evaluate_swapping(Known(), data, "test", SwapProtocol(conditions=3, parts=2), toy)
    assert len(found.samples["ssim"]) == 6 * 3 and len(found.samples["pair_ssim"]) == 3
    assert found.protocol.startswith("18 swaps, 3 conditions an image, at 32 x 32; inception score of a toy, 2 parts")
    # What Generator I makes depends on the reference alone, whose head is pasted on.
    images = np.where(head_mask(opened.segments)[..., None], opened.images, opened.poses)
    assert np.any(images != opened.poses)
    references = conditions(6, 3, 0)[:, 0]
    expected = inception_score(toy.probabilities(images[references]), 2)
    assert (found.scalars["is_reference"], found.scalars["is_reference_deviation"]) == pytest.approx(expected)
    plain = evaluate_swapping(Known(), data, "test", SwapProtocol(conditions=3, head=False, parts=2), toy)
    expected = inception_score(toy.probabilities(opened.poses[references]), 2)
    assert plain.scalars["is_reference"] == pytest.approx(expected[0]) and "without a pasted head" in plain.protocol
    photos = toy.probabilities(opened.images[conditions(6, 3, 0)[:, 1]])
    right = np.mean((opened.images[:, 0, 0, 0] <= 127) == opened.labels)
    assert found.scalars["photos.classifier_accuracy"] == pytest.approx(100 * right)
    assert found.scalars["photos.is_reference"] == pytest.approx(inception_score(photos, 2)[0])
    reference, condition = opened.pairs.T
    first = [similarity(opened.poses[r], opened.images[r]) for r in reference]
    unchanged = [similarity(opened.images[c], opened.images[r]) for r, c in opened.pairs]
    np.testing.assert_allclose(found.samples["pair_ssim"], first, rtol=1e-5)
    assert found.scalars["pair_ssim"] == found.selection == pytest.approx(np.mean(first))
    assert found.scalars["photos.pair_ssim"] == pytest.approx(np.mean(unchanged))
    distance = np.abs(opened.images[condition] / 255 - opened.images[reference] / 255).mean()
    assert found.scalars["photos.pair_l1"] == pytest.approx(distance, rel=1e-5)
    masks = np.mean([np.abs(0.25 - (opened.segments[row] > 0)).mean() for row in range(6)])
    assert found.scalars["mask_l1"] == pytest.approx(masks, rel=1e-5)


def test_a_test_split_alone_is_measured_where_nothing_has_to_be_learnt(monkeypatch):
    """Such as Clothing Co-Parsing, by Inception-v3."""
    monkeypatch.setattr(classifier, "open_classifier", lambda options: Classifier())
    data = SwapData(PersonImages("mine", {"test": people("test")}, ("x", "y", "z")), SIDE, SIDE)
    recipe = SWAP.recipe("tiny", classifier="inception_v3", baselines=())
    assert SWAP.evaluate(Known(), data, recipe, "test").scalars["is_reference"] >= 1
    with pytest.raises(UserError, match="'train'"):
        SWAP.evaluate(Known(), data, SWAP.recipe("tiny", baselines=()), "test")


def test_similarity_is_to_the_condition():
    data = SwapData(dataset(), SIDE, SIDE)
    opened = data.opened("test")
    found = evaluate_swapping(Known(), data, "test", SwapProtocol(conditions=5), None)
    grey = [np.repeat(40 * labels[..., None], 3, axis=-1).astype(np.uint8) for labels in opened.segments]
    # Every image is the condition of every other one.
    expected = np.mean([similarity(made, image) for made, image in zip(grey, opened.images, strict=True)])
    assert found.scalars["ssim"] == pytest.approx(expected, rel=1e-5)
    assert not [name for name in found.scalars if "is_" in name]


def test_ablations_and_data_without_pairs_are_measured_by_what_they_have():
    data = SwapData(dataset(pairs=np.zeros((0, 2), int)), SIDE, SIDE)
    names = {}
    for second, third in ((True, True), (False, True), (True, False)):
        found = evaluate_swapping(Known(second, third), data, "val", SwapProtocol(conditions=1), None)
        names[second, third] = set(found.scalars)
        name, sign = ("ssim", 1) if second else ("mask_l1", -1)
        assert found.selection == sign * found.scalars[name]
    boards = {"checkerboard", "photos.checkerboard"}
    assert names == {
        (True, True): boards | {"ssim", "mask_l1"},
        (False, True): boards | {"mask_l1"},
        (True, False): boards | {"ssim"},
    }
    with pytest.raises(UserError, match="needs Generator II or III"):
        evaluate_swapping(Known(False, False), data, "val", SwapProtocol(conditions=1), None)


def test_baselines_are_measured_on_the_same_swaps():
    data = SwapData(SWAP.data(SWAP.recipe("tiny"), "paper_dolls", None).dataset, SIDE, SIDE)
    protocol = SwapProtocol(conditions=2, baselines=("poisson_blending", "tps_warping"))
    found = evaluate_swapping(Known(), data, "test", protocol, Classifier()).scalars
    opened, swaps = data.opened("test"), conditions(8, 2, 0)
    for name, make in BASELINES.items():
        known = (opened.images, opened.joints, opened.segments, opened.segments > 0, head_mask(opened.segments))
        people = [Person(*each) for each in zip(*known, strict=True)]
        made = np.stack([make(people[condition], people[reference]) for reference, condition in swaps])
        expected = inception_score(Classifier().probabilities(made), 10)
        assert (found[f"{name}.is_reference"], found[f"{name}.is_reference_deviation"]) == pytest.approx(expected)
        # They paste onto the reference photo, which is the true image of a pair.
        assert f"{name}.pair_ssim" not in found


def test_checkerboards_are_what_alternates_both_ways():
    rows, columns = np.indices((8, 6))
    board = 100 + 20 * ((rows + columns) % 2 * 2 - 1)
    stripes = 100 + 20 * (columns % 2 * 2 - 1)
    images = np.stack([board, stripes, np.full((8, 6), 7), 10 * rows + columns])[..., None].repeat(3, -1)
    np.testing.assert_allclose(checkerboard(images.astype(np.uint8)), [20 / 255, 0, 0, 0], atol=1e-7)
    assert checkerboard(images[:1, :7, :5].astype(np.uint8)) == pytest.approx(20 / 255)


def test_pictures_show_every_stage(tmp_path):
    data = SWAP.data(SWAP.recipe("tiny", persons=(1, 1, 2)), "paper_dolls", None)
    heights = {}
    for variant in (None, "without_generator_2", "without_generator_3"):
        model = SWAP.build(SWAP.recipe("tiny", variant), data.spec)
        folder = tmp_path / str(variant)
        folder.mkdir()
        drawn = swap_pictures(model, data, "test", folder)
        assert [picture.path.name for picture in drawn] == [*("swaps.png", "pairs.png", "baselines.png", "table.png")]
        heights[variant] = PIL.Image.open(drawn[0].path).size[1]
        assert ("Generator II" in drawn[0].caption) == (variant != "without_generator_2")
    # Condition, reference, pose, I, with the head; II; masks of I and II.
    assert heights == {None: 8 * 125, "without_generator_2": 6 * 125, "without_generator_3": 6 * 125}
