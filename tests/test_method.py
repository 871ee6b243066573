"""The contract module: recipes, names, discovery, and that listing stays light."""

import subprocess
import sys

import pytest

from tfthesis.discovery import all_methods, load_method
from tfthesis.errors import UserError
from tfthesis.lazy import snake_case
from tfthesis.method import Spec


def test_overrides_are_checked_by_type_and_name():
    method = load_method("mmc_net")
    recipe = method.recipe("tiny", "mm_net", widths=[8, 4, 4, 4], beta=1)
    assert recipe.widths == (8, 4, 4, 4) and recipe.beta == 1.0 and not recipe.classification
    cases = [
        ({"bta": 1.0}, "Did you mean 'beta'"),
        ({"beta": "big"}, "expected float, got str 'big'"),
        ({"widths": (1, 2)}, "expected 4 values, got 2"),
        ({"fusion": "convolutional"}, "Did you mean 'convolution'"),
        ({"batch_size": True}, "expected int, got bool"),
    ]
    for overrides, message in cases:
        with pytest.raises(UserError, match=message):
            method.recipe("tiny", **overrides)


def test_unknown_names_suggest_the_nearest():
    method = load_method("mmc_net")
    for call, message in [
        (lambda: load_method("mmcnet"), "Did you mean 'mmc_net'"),
        (lambda: method.recipe("quik"), "Did you mean 'quick'"),
        (lambda: method.recipe("quick", "mmnet"), "Did you mean 'mm_net'"),
    ]:
        with pytest.raises(UserError, match=message):
            call()


def test_recipe_hash_names_the_values():
    method = load_method("mmc_net")
    assert method.recipe("tiny").hash() == method.recipe("tiny").hash() != method.recipe("quick").hash()


def test_spec_round_trips():
    spec = Spec({"image": (None, None, 3)}, ("a",), True, {"image": {"name": "x"}}, {"name": "d"}, {"k": [1]})
    assert Spec.from_json(spec.to_json()) == spec


def test_files_outside_load_and_broken_ones_are_reported(tmp_path):
    for text, message in [
        ("import nothing_of_the_kind", "does not import: ModuleNotFoundError"),
        ("METHOD = 3", "expected a module-level METHOD"),
    ]:
        path = tmp_path / "mine.py"
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            load_method(str(path))
    path.write_text("from tfthesis.methods.mmc_net import METHOD")
    assert load_method(str(path)).title == "MMC-Net"
    with pytest.raises(UserError, match="no method file"):
        load_method(str(tmp_path / "none.py"))


def test_every_shipped_method_loads():
    broken = {name: str(method) for name, method in all_methods() if isinstance(method, UserError)}
    assert not broken


def test_listing_does_not_import_tensorflow():
    code = (
        "import sys; from tfthesis.discovery import all_methods; print([n for n, _ in all_methods()]); "
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_snake_case_of_class_names():
    names = {"LayerFusion": "layer_fusion", "CaffeSGD": "caffe_sgd", "L2Normalization": "l2_normalization"}
    assert {name: snake_case(name) for name in names} == names
