"""The rows of tables that are not trained."""

import types
from pathlib import Path

import numpy as np
import pytest

from training.baselines import count_weights, evaluate_ridge
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


@pytest.mark.parametrize(("label", "classifier"), [("Pascal Sentence", 40_960), ("CUB-Bird", 819_200)])
def test_counts_of_table_7_13(label, classifier):
    """Liu 2018, Table 7.13 prints about 8 million, and 41,000 and 820,000."""
    table = load_table("7.13")
    (planned,) = Edition(table, "tiny").planned(table.row(label))
    found = count_weights(planned.request, planned.settings["spec"], planned.settings["counted"])
    assert found.evaluation.scalars == {"matching_weights": 7_961_600, "classification_weights": classifier}
