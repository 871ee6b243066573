"""Long and Nest CycleGAN: counts, loss parts, data of two domains, the FCN-score, and what it serves."""

from __future__ import annotations

import io

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from tfthesis.adversarial import scorer
from tfthesis.adversarial.data import TranslationData, draw_labels, network_values, pixel_values
from tfthesis.adversarial.evaluation import evaluate_translation, fcn_confusion
from tfthesis.adversarial.pictures import translation_pictures
from tfthesis.adversarial.scorer import ScorerOptions, open_scorer
from tfthesis.adversarial.served import translation_signatures
from tfthesis.data.domain_images import Domain, open_domains, two_domains
from tfthesis.data.segmented_images import SegmentedImages, SegmentedSplit
from tfthesis.discovery import load_method
from tfthesis.errors import UserError
from tfthesis.method import SPLITS, Spec

GAN = load_method("cycle_gan")
COLOURS = ((0, 0, 200), (200, 0, 0))


def spec(side=32):
    return Spec({"a": (side, side, 3), "b": (side, side, 3)}, extra={"domains": ["photo", "label"]})


def pairs(count=6, side=32):
    """Return photos whose colour tells the class of each pixel."""
    splits = {}
    for number, split in enumerate(SPLITS):
        labels = np.random.default_rng(number).integers(0, 2, (count, 4, 4)).repeat(side // 4, 1).repeat(side // 4, 2)
        photos = np.where(labels[..., None] == 1, [40, 220, 90], [200, 60, 160]).astype(np.uint8)
        splits[split] = SegmentedSplit([f"{split}{n}" for n in range(count)], photos, labels.astype(np.uint8))
    return SegmentedImages("mine", splits, ("x", "y"), COLOURS)


def unpaired(counts=(5, 3), side=32):
    rng = np.random.default_rng(0)
    files = {
        split: tuple(
            Domain([f"{split}{n}" for n in range(count)], rng.integers(0, 256, (count, side, side, 3)).astype(np.uint8))
            for count in counts
        )
        for split in SPLITS
    }
    return two_domains("mine", ("summer", "winter"), files, {})


def element(data, rows, key=(0, 0), split="train"):
    ((inputs, targets),) = list(data.batches(split, [np.array(rows, np.int64)], key))
    return {name: np.asarray(pixel_values(value)) for name, value in inputs.items()}, targets["row"].numpy().tolist()


def places(images, among):
    return [next(n for n, known in enumerate(among) if np.array_equal(image, known)) for image in images]


def test_thesis_network():
    """check figures: Long and Nest have 51,042,190 weights, vanilla 28,285,832, at 256 pixels."""
    # Counted at a quarter of the sides: no weight depends on them.
    model = GAN.build(GAN.recipe("thesis", pool=0), spec(64))
    whole = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    assert whole == 51_042_190 and model.steps == (2, 2)
    assert whole - sum(chain[1].count_params() for chain in (model.to_b, model.to_a)) == 28_285_832
    # Long differs in its losses alone, vanilla also in the second generators, which it does not have.
    losses = {"inner_cycles", "similarity_weight"}
    assert set(GAN.variants["long"]) == losses and set(GAN.variants["vanilla"]) == losses | {"generators"}
    assert GAN.variants["vanilla"]["generators"] == (1, 1)


def test_stages_have_the_parts_of_their_equations():
    parts = {
        variant: dict(GAN.stages(GAN.recipe("thesis", variant))[0].loss_weights)
        for variant in (None, "long", "vanilla", "gan", "identity")
    }
    adversaries = {"adversarial": 1.0, "discriminator": 1.0}
    assert parts["gan"] == adversaries
    assert parts["vanilla"] == parts["long"] == adversaries | {"cycle": 10.0}
    assert parts[None] == adversaries | {"cycle": 10.0, "inner": 10.0, "similarity": 1.0}
    assert parts["identity"] == parts[None] | {"identity": 5.0}
    (stage,) = GAN.stages(GAN.recipe("thesis"))
    assert (stage.epochs, stage.batch_size, stage.learning_rate, stage.decay_epochs) == (200, 1, 0.0002, 100)
    assert not stage.keep_best


def test_every_image_of_both_domains_comes_and_partners_change():
    data = TranslationData(unpaired(), 32, 32)
    opened = data.opened("train")
    assert data.size("train") == 5
    seen = []
    for epoch in (0, 1, 0):
        inputs, rows = element(data, range(5), (3, epoch))
        assert rows == [0, 1, 2, 3, 4]
        a, b = (places(inputs[name], images) for name, images in zip("ab", opened.images, strict=True))
        assert sorted(a) == [0, 1, 2, 3, 4] and set(b) == {0, 1, 2}
        seen.append((a, b))
    assert seen[0] == seen[2] != seen[1]
    inputs, rows = element(data, [])
    assert rows == [] and inputs["a"].shape == (0, 32, 32, 3)


def test_mirroring_depends_on_seed_epoch_and_row_alone():
    plain, mirrored = (TranslationData(unpaired((40, 40)), 32, 32, mirror=mirror) for mirror in (False, True))
    rows = np.arange(40)
    (before, _), (after, _) = element(plain, rows), element(mirrored, rows)
    flips = {}
    for name in "ab":
        same = [np.array_equal(x, y) for x, y in zip(before[name], after[name], strict=True)]
        turned = [np.array_equal(x[:, ::-1], y) for x, y in zip(before[name], after[name], strict=True)]
        assert all(s != t for s, t in zip(same, turned, strict=True)) and 8 < sum(turned) < 32
        flips[name] = turned
    assert flips["a"] != flips["b"]
    again, _ = element(mirrored, rows[7:9])
    np.testing.assert_array_equal(again["a"], after["a"][7:9])
    validation = [element(data, rows, split="val")[0]["a"] for data in (plain, mirrored)]
    np.testing.assert_array_equal(*validation)


def test_photos_and_their_maps():
    dataset = pairs()
    data = TranslationData(dataset, 32, 32)
    opened = data.opened("test")
    np.testing.assert_array_equal(opened.images[1], np.array(COLOURS, np.uint8)[opened.labels])
    np.testing.assert_array_equal(draw_labels(np.array([0, 255]), COLOURS), [COLOURS[0], (255, 255, 255)])
    halves = TranslationData(dataset, 32, 32, disjoint=True)
    first, second = halves.trained_on("train")
    assert sorted([*first, *second]) == list(range(6)) and halves.size("train") == 3 and halves.size("test") == 6
    with pytest.raises(UserError, match="nothing is paired there"):
        TranslationData(unpaired(), 32, 32, disjoint=True)


def test_images_of_files_are_scaled_grey_and_alpha_included(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 50, 4), np.uint8)
    for folder in ("trainA", "trainB", "testA", "testB", "valA", "valB"):
        (tmp_path / folder).mkdir()
        PIL.Image.fromarray(pixels).save(tmp_path / folder / "alpha.png")
        PIL.Image.fromarray(pixels[:20, :21, 0]).save(tmp_path / folder / "grey.png")
    (tmp_path / "trainB" / "broken.png").write_bytes(b"no picture")
    cut = (tmp_path / "trainA" / "alpha.png").read_bytes()
    (tmp_path / "trainA" / "cut.png").write_bytes(cut[: len(cut) // 2])
    data = TranslationData(open_domains("unpaired_folders", tmp_path), 32, 40)
    opened = data.opened("train")
    assert [images.shape for images in opened.images] == [(2, 32, 40, 3)] * 2
    alpha, grey = opened.images[0]
    assert (grey[..., 0] == grey[..., 1]).all() and (alpha[..., 0] != alpha[..., 1]).any()
    # Laid over white: nowhere darker than what shines through.
    assert alpha.mean() > 150 > grey.mean()
    skipped = data.describe()["skipped"]["items"]
    assert len(skipped) == 2 and "broken.png" in skipped[0] and "trainA/cut.png: it does not decode" in skipped[1]


def test_domains_that_do_not_fit(tmp_path):
    with pytest.raises(UserError, match=r"are \[32, 32, 3\], the network takes \[40, 40, 3\]"):
        TranslationData(unpaired(), 40, 40).size("train")
    for folder in ("images", "maps"):
        for split in SPLITS:
            (tmp_path / split / folder).mkdir(parents=True)
            image = PIL.Image.new("RGB" if folder == "images" else "L", (8, 8 if folder == "images" else 9))
            image.save(tmp_path / split / folder / "1.png")
    (tmp_path / "classes.json").write_text('["x", "y"]')
    with pytest.raises(UserError, match="has 8 x 8 pixels, its map 9 x 8; expected one size"):
        TranslationData(open_domains("map_folders", tmp_path), 32, 32).opened("train")
    PIL.Image.new("L", (8, 8), 7).save(tmp_path / "train" / "maps" / "1.png")
    message = r"the map of train.1.png, split 'train' has the labels \[7\], expected 0 to 1, or 255"
    with pytest.raises(UserError, match=message):
        TranslationData(open_domains("map_folders", tmp_path), 32, 32).opened("train")
    for fields, message in (
        ({"height": 30, "width": 30}, "'height': expected a multiple of 4 from 32 pixels, got 30"),
        ({"generators": (0, 1)}, r"'generators': expected 1 or more, got \(0, 1\)"),
        ({"decay_epochs": 9}, "'decay_epochs': expected 0 to epochs=2, got 9"),
        ({"cycle_weight": -1.0}, "'cycle_weight': expected 0 or more, got -1.0"),
        ({"width": 40}, "scenes are square"),
        ({"scorer_batch_size": 0}, "'scorer_batch_size': expected 1 or more, got 0"),
        ({"scorer_epochs": -1}, "'scorer_epochs': expected 0 or more, got -1"),
        ({"learning_rate": -1.0}, "'learning_rate': expected a rate above 0, got -1.0"),
        ({"scorer_learning_rate": 0.0}, "'scorer_learning_rate': expected a rate above 0, got 0.0"),
        ({"scorer_weights": "vgg.h5"}, "'scorer_weights': they are VGG-16's and do not fit trunk=tiny"),
    ):
        with pytest.raises(UserError, match=message):
            GAN.data(GAN.recipe("tiny", **fields), "scenes", None)


def test_missing_weights_of_the_scorer_are_told_before_the_first_step():
    recipe = GAN.recipe("tiny", scorer_trunk="vgg16", scorer_weights="nowhere.h5")
    (stage,) = GAN.stages(recipe)
    with pytest.raises(UserError, match=r"weights of VGG-16: no file nowhere.h5"):
        GAN.compile(GAN.build(recipe, spec()), recipe, stage)


def test_weights_of_the_scorer_are_read_before_the_first_step_where_they_will_be_needed(tmp_path, monkeypatch):
    asked = []

    def offline(*arguments, **options):
        asked.append(options)
        raise Exception("no network")

    monkeypatch.setattr(keras.applications, "VGG16", offline)
    recipe = GAN.recipe("tiny", scorer_trunk="vgg16", scorer_weights="imagenet")
    photos, plain = TranslationData(pairs(), 32, 32), TranslationData(unpaired(), 32, 32)
    monkeypatch.setenv("TFTHESIS_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"weights of VGG-16: they could not be downloaded \(no network\)"):
        GAN.before_training(recipe, photos)
    # The network of the score takes over the classifier's layers.
    assert asked == [{"weights": "imagenet", "include_top": True}]
    GAN.before_training(recipe, plain)
    for fields in ({"scorer_epochs": 0}, {"scorer_weights": ""}):
        GAN.before_training(
            GAN.recipe("tiny", **{"scorer_trunk": "vgg16", "scorer_weights": "imagenet", **fields}), photos
        )
    # What was trained once is not started again.
    options = ScorerOptions(
        "vgg16", "imagenet", recipe.scorer_epochs, recipe.scorer_batch_size, recipe.scorer_learning_rate
    )
    kept = scorer._kept(photos, options, tmp_path)
    kept.parent.mkdir()
    kept.touch()
    GAN.before_training(recipe, photos)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("kept", "message"),
    [(0, "split 'train' has no usable image"), (0.5, "no image of split train, domain b decodes")],
)
def test_domain_whose_images_are_all_damaged(tmp_path, kept, message):
    for folder in ("trainA", "trainB", "testA", "testB", "valA", "valB"):
        (tmp_path / folder).mkdir()
        PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)).save(
            tmp_path / folder / "1.png"
        )
    whole = (tmp_path / "trainB" / "1.png").read_bytes()
    (tmp_path / "trainB" / "1.png").write_bytes(whole[: int(kept * len(whole))])
    data = TranslationData(open_domains("unpaired_folders", tmp_path), 32, 32)
    assert data.size("test") == 1
    with pytest.raises(UserError, match=message):
        data.size("train")


OPTIONS = ScorerOptions("tiny", "", 3, 6, 0.05)


def test_scorer_is_trained_once_and_does_not_depend_on_the_run(tmp_path):
    data = TranslationData(pairs(), 32, 32)
    first = open_scorer(data, OPTIONS, tmp_path)
    (file,) = tmp_path.rglob("weights.npz")
    written = file.stat().st_mtime_ns
    assert open_scorer(data, OPTIONS, tmp_path) is first
    tf.random.set_seed(99)
    again = open_scorer(TranslationData(pairs(), 32, 32), OPTIONS, tmp_path)
    assert file.stat().st_mtime_ns == written
    for one, other in zip(first.weights, again.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    file.write_bytes(file.read_bytes()[:100])
    repaired = open_scorer(TranslationData(pairs(), 32, 32), OPTIONS, tmp_path)
    for one, other in zip(first.weights, repaired.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(UserError, match="needs photos with labels"):
        open_scorer(TranslationData(unpaired(), 32, 32), OPTIONS, tmp_path)


class Seeing:
    """A segmentation network that knows the colours of `pairs`."""

    def __call__(self, inputs, training=False):
        green = inputs["image"][..., 1]
        return {"scores": np.stack([140 - green, green - 140], axis=-1)}


class Drawing:
    """Generators that make the right photo of a map and the map of a photo, or photos of one class."""

    def __init__(self, right):
        self.right = right

    def translate(self, image, target, training=False):
        pixels = np.asarray(pixel_values(image))
        if target == "b":
            found = draw_labels((pixels[..., 1] > 140).astype(np.uint8), COLOURS)
        else:
            label = (pixels[..., 0] > 100)[..., None] & self.right
            found = np.where(label, [40, 220, 90], [200, 60, 160])
        return [network_values(found.astype(np.uint8))]


def test_fcn_score_against_what_is_known():
    data = TranslationData(pairs(), 32, 32)
    right = evaluate_translation(Drawing(True), data, "test", Seeing(), "; remark")
    names = ("pixel_accuracy", "mean_accuracy", "mean_iou")
    assert [right.scalars[name] for name in names] == [100] * 3
    assert [right.scalars[f"oracle.{name}"] for name in names] == [100] * 3
    assert right.scalars["cycle_a"] == right.scalars["cycle_b"] == 0 and right.selection == 100
    assert right.protocol.endswith("; remark")
    wrong = evaluate_translation(Drawing(False), data, "test", Seeing())
    share = 100 * np.mean(data.opened("test").labels == 0)
    assert wrong.scalars["pixel_accuracy"] == pytest.approx(share)
    assert wrong.scalars["mean_accuracy"] == pytest.approx(50) and wrong.scalars["mean_iou"] == pytest.approx(share / 2)
    assert wrong.scalars["oracle.pixel_accuracy"] == 100
    commonest = max(share, 100 - share)
    expected = [commonest, 50, commonest / 2]
    assert [wrong.scalars[f"commonest.{name}"] for name in names] == pytest.approx(expected)
    assert 1 - wrong.samples["wrong_pixels"].mean() == pytest.approx(share / 100)
    without = evaluate_translation(Drawing(False), data, "test", None)
    assert set(without.scalars) == {"cycle_a", "cycle_b"} and without.selection == -sum(without.scalars.values())
    matrix, _ = fcn_confusion(Seeing(), data.opened("test").images[0], data.opened("test").labels, 2)
    assert matrix.sum() == 6 * 32 * 32 and matrix[0, 1] == matrix[1, 0] == 0


def test_served_images_are_those_of_the_model(tmp_path):
    model = GAN.build(GAN.recipe("tiny"), spec())
    rng = np.random.default_rng(0)
    for network in model.networks("generator"):
        for weight in network.weights:
            weight.assign(rng.normal(scale=0.2, size=weight.shape))
    served = translation_signatures(model, spec())
    assert set(served.signatures) == {"photo_to_label", "label_to_photo"}
    images = [rng.integers(0, 256, size, np.uint8) for size in ((32, 32, 3), (31, 18, 3))]
    encoded = np.array([tf.io.encode_png(image).numpy() for image in images], object)
    for name, target in (("photo_to_label", "b"), ("label_to_photo", "a")):
        answers = served.signatures[name].function(image=tf.constant(encoded))
        assert set(answers) == {"translated_bytes", "reconstructed_bytes"}
        made = [np.array(PIL.Image.open(io.BytesIO(data))) for data in answers["translated_bytes"].numpy()]
        assert [image.shape for image in made] == [image.shape for image in images]
        expected = pixel_values(model.translate(network_values(images[0])[None], target)[-1])[0]
        assert np.abs(made[0].astype(int) - np.asarray(expected)).max() <= 1
    # Grey is repeated, transparent pixels are white; a file that is no image fails the request.
    rgba = np.concatenate([images[0], np.full((32, 32, 1), 255, np.uint8)], axis=-1)
    rgba[:, :16, 3] = 0
    over_white = np.where(rgba[..., 3:] > 0, rgba[..., :3], 255)
    grey = images[0][..., :1]
    given = [tf.io.encode_png(image).numpy() for image in (rgba, grey)]
    answers = served.signatures["photo_to_label"].function(image=tf.constant(np.array(given, object)))
    for data, seen in zip(answers["translated_bytes"].numpy(), (over_white, grey.repeat(3, axis=-1)), strict=True):
        expected = pixel_values(model.translate(network_values(seen)[None], "b")[-1])[0]
        assert np.abs(np.array(PIL.Image.open(io.BytesIO(data))).astype(int) - np.asarray(expected)).max() <= 1
    with pytest.raises(tf.errors.InvalidArgumentError):
        served.signatures["photo_to_label"].function(image=tf.constant([b"no picture"]))


def test_pictures_show_every_step(tmp_path):
    data = TranslationData(unpaired(), 32, 32)
    model = GAN.build(GAN.recipe("tiny"), data.spec)
    drawn = translation_pictures(model, data, "test", tmp_path)
    assert [picture.path.name for picture in drawn] == ["summer_to_winter.png", "winter_to_summer.png"]
    sizes = [PIL.Image.open(picture.path).size for picture in drawn]
    # Five columns against three; input, two generators, reconstruction.
    assert sizes[0][0] > sizes[1][0] and sizes[0][1] == sizes[1][1] == 680


def test_facades_preset_reads_real_images(real_data):
    recipe = GAN.recipe("facades")
    data = GAN.data(recipe, recipe.dataset, real_data / "facades")
    assert data.size("val") == 30
    opened = data.opened("val")
    assert opened.images[0].shape == opened.images[1].shape == (30, 64, 64, 3)
    assert opened.labels.max() == 11 and data.names == ("photo", "label")
