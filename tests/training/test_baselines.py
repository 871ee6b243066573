"""The rows of tables that are not trained."""

import types
from pathlib import Path

import numpy as np
import pytest

from tfthesis.metrics.bag_of_words import bag_of_words
from training.baselines import count_weights, evaluate_bag_of_words, evaluate_ridge
from training.reproduction.edition import Edition
from training.reproduction.table_files import load_table
from training.request import Request

TOY = Path(__file__).with_name("toy_method.py")


def test_ridge_baseline_learns_a_linear_map():
    request = Request.create(str(TOY))
    object.__setattr__(request.method, "data", lambda recipe, name, directory: _LinearPairs())
    found = evaluate_ridge(request, (1e-3, 1.0)).evaluation
    assert found.scalars["t2i_r1"] > 90
    assert found.scalars["r_sum"] == pytest.approx(
        sum(found.scalars[f"{w}_r{k}"] for w in ("i2t", "t2i") for k in (1, 5, 10))
    )
    assert len(found.samples["owner"]) == len(found.samples["t2i_rank"])


class _LinearPairs:
    """Captions are a noisy linear map of their image."""

    spec = None

    def arrays(self, split):
        random = np.random.default_rng({"train": 1, "val": 2, "test": 3}[split])
        image = random.normal(size=(80, 12))
        owner = np.repeat(np.arange(80), 2)
        matrix = np.random.default_rng(0).normal(size=(12, 9))
        text = image[owner] @ matrix + 0.1 * random.normal(size=(160, 9))
        return types.SimpleNamespace(image=image, text=text, owner=owner)


@pytest.mark.parametrize("several", [False, True], ids=["one label", "several labels"])
def test_bag_of_words_finds_the_words_that_make_the_labels(several):
    request = Request.create(str(TOY))
    object.__setattr__(request.method, "data", lambda recipe, name, directory: _NamedCaptions(several))
    found = evaluate_bag_of_words(request, (10.0,)).evaluation
    assert "strength 10" in found.protocol
    assert found.scalars["top1"] > 90 and found.scalars["mean_ap"] > 90


@pytest.mark.parametrize(("sign", "chosen"), [(1, 10.0), (-1, 1e-3)])
def test_validation_chooses_the_strength_of_the_bag_of_words(sign, chosen):
    train, val, test = (_NamedCaptions(False).arrays(split) for split in ("train", "val", "test"))
    found = bag_of_words(train, val, test, 4, lambda labels, logits: sign * np.abs(logits[:, :3]).mean(), (1e-3, 10.0))
    assert found.strength == chosen
    assert (found.logits[:, 3] < -20).all()  # a fourth class without an example


class _NamedCaptions:
    """Captions name their class among words that mean nothing; a class "none" has no word of its own."""

    classes = ("cat", "dog", "none")

    def __init__(self, several):
        self.several = several
        self.spec = types.SimpleNamespace(classes=self.classes, multi_label=several)

    def arrays(self, split):
        random = np.random.default_rng({"train": 1, "val": 2, "test": 3}[split])
        label = random.integers(3, size=120)
        names = ("a cat", "a dog", "it")
        noise = random.choice(["sits", "runs", "sleeps"], size=120)
        captions = [f"{names[c]} {word}" for c, word in zip(label, noise, strict=True)]
        rows = np.eye(3, dtype=np.float32)[label]
        rows[label == 0, 2] = self.several  # every cat is also "none"
        owner = np.arange(120)
        return types.SimpleNamespace(captions=captions, label=rows if self.several else label, owner=owner)


@pytest.mark.parametrize(("label", "classifier"), [("Pascal Sentence", 40_960), ("CUB-Bird", 819_200)])
def test_counts_of_table_7_13(label, classifier):
    """Liu 2018, Table 7.13 prints about 8 million, and 41,000 and 820,000."""
    table = load_table("7.13")
    (planned,) = Edition(table, "tiny").planned(table.row(label))
    found = count_weights(planned.request, planned.settings["spec"], planned.settings["counted"])
    assert found.evaluation.scalars == {"matching_weights": 7_961_600, "classification_weights": classifier}
