"""A stage picks its weights by the figure that it names."""

import pytest

from tfthesis.errors import UserError
from tfthesis.method import Evaluation, Stage
from training.epoch_end import selection_score

FOUND = Evaluation("protocol", {"r_sum": 300.0, "label_score": 70.0}, selection=60.0)


def stage(select):
    return Stage("joint", 1, 8, 0.1, {"matching": 1.0}, select=select)


def test_stage_selects_by_its_own_scalar_or_by_the_method_s():
    assert selection_score(FOUND, stage("r_sum")) == 300.0
    assert selection_score(FOUND, stage("label_score")) == 70.0
    assert selection_score(FOUND, stage("")) == 60.0


def test_unknown_scalar_is_named_with_the_known_ones():
    with pytest.raises(UserError, match=r"stage 'joint': select names 'r_som'.*r_sum, label_score"):
        selection_score(FOUND, stage("r_som"))
