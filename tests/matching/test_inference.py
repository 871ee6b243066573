"""What a classifier of pairs predicts, served and evaluated, by the inference rule of section 7.3."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from tfthesis.discovery import load_method
from tfthesis.matching.evaluation import evaluate_classification
from tfthesis.matching.served import LABELS, matching_signatures
from tfthesis.method import Spec

CLASSES = tuple("abcdefg")
ROWS = 40


@pytest.fixture(scope="module", params=[False, True], ids=["one label", "several labels"])
def classifier(request):
    """Return a model of pairs with large weights, so that probabilities lie on both sides of one half; and its spec."""
    method = load_method("mmc_net")
    recipe = method.recipe("tiny", kernel_stddev=0.5)
    spec = Spec({"image": (6,), "text": (5,)}, classes=CLASSES, multi_label=request.param)
    model = method.build(recipe, spec)
    logits = model.get_layer("classifier_logits")
    logits.kernel.assign(20 * logits.kernel)
    return model, spec


@pytest.fixture(scope="module")
def pairs(classifier):
    random = np.random.default_rng(0)
    several = (random.random((ROWS, len(CLASSES))) < 0.4).astype(np.float32)
    return SimpleNamespace(
        image=random.normal(size=(ROWS, 6)).astype(np.float32),
        text=random.normal(size=(ROWS, 5)).astype(np.float32),
        owner=np.arange(ROWS),
        label=several if classifier[1].multi_label else random.integers(len(CLASSES), size=ROWS),
    )


def logits_of(model, pairs):
    return model({"image": pairs.image, "text": pairs.text}, training=False)["logits"].numpy()


def test_served_classes_say_which_are_predicted(classifier, pairs):
    model, spec = classifier
    served = matching_signatures(model, spec, {}, {}).signatures["classify"]
    answer = served.function(image=tf.constant(pairs.image), text=tf.constant(pairs.text))
    assert answer["predicted"].dtype == tf.bool and answer["predicted"].shape == (ROWS, LABELS)
    predicted = [
        {name.decode() for name, kept in zip(names, flags, strict=True) if kept}
        for names, flags in zip(answer["labels"].numpy(), answer["predicted"].numpy(), strict=True)
    ]
    logits = logits_of(model, pairs)
    if spec.multi_label:
        best = np.argsort(-logits, axis=1)[:, :LABELS]
        expected = [{CLASSES[c] for c in row if logits[i, c] > 0} for i, row in enumerate(best)]
        assert len({len(names) for names in expected}) > 2
    else:
        expected = [{CLASSES[c]} for c in logits.argmax(axis=1)]
    assert predicted == expected


def test_evaluation_follows_the_same_rule(classifier, pairs):
    model, spec = classifier
    scalars = evaluate_classification(model, pairs, CLASSES, spec.multi_label).scalars
    logits = logits_of(model, pairs)
    if spec.multi_label:
        right = ((logits > 0) & (pairs.label > 0)).sum()
        assert scalars["precision"] == pytest.approx(100 * right / (logits > 0).sum())
        assert scalars["recall"] == pytest.approx(100 * right / pairs.label.sum())
    else:
        assert scalars["top1"] == pytest.approx(100 * np.mean(logits.argmax(axis=1) == pairs.label))
        assert scalars["top5"] > scalars["top1"]
