"""The steps that `benchmarks/cfn_step.py` compares are the same mathematics."""

import json

import keras
import numpy as np
import pytest

from benchmarks import cfn_step, turns
from benchmarks.steps import cfn, cfn_pytorch

DATA = cfn_step.batch(8)
LAYERS = {
    **{f"conv{number}": f"conv{number}_1" for number in (1, 2, 3)},
    **{"main": "main_conv", "side1": "side1_conv", "side2": "side2_conv", "prediction": "prediction"},
}


def paired(model, other):
    """Yield each trained weight of the library's model with PyTorch's parameter, in PyTorch's order of axes."""
    weights = {weight.path: weight for weight in model.trainable_variables}
    for name, parameter in other.named_parameters():
        if name.startswith("fusion"):
            path, axes = {"fusion_weight": ("fusion/kernel", (1, 0)), "fusion_bias": ("fusion/bias", (0,))}[name]
        else:
            layer, part = name.split(".")
            path = f"{LAYERS[layer]}/{'kernel' if part == 'weight' else 'bias'}"
            axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[parameter.dim()]
        yield name, weights.pop(path).numpy().transpose(axes), parameter
    assert not weights


@pytest.mark.parametrize("fused", [True, False])
def test_pytorch_takes_the_step_of_the_library(fused):
    torch = pytest.importorskip("torch")
    keras.utils.set_random_seed(0)
    model, batch = cfn.build(DATA, cfn_step.CLASSES, fused, dropout=0.0)
    rng = np.random.default_rng(0)
    for weight in model.trainable_variables:
        weight.assign_add(rng.normal(scale=0.01, size=weight.shape))
    other, take = cfn_pytorch.build(DATA, cfn_step.CLASSES, fused, dropout=0.0)
    before = {}
    with torch.no_grad():
        for name, weight, parameter in paired(model, other):
            parameter.copy_(torch.from_numpy(weight.copy()))
            before[name] = weight.copy()
    for _ in range(2):
        assert take().item() == pytest.approx(loss_of(model, batch), rel=1e-4)
    for name, weight, parameter in paired(model, other):
        step = weight - before[name]
        np.testing.assert_allclose(
            parameter.detach().numpy() - before[name], step, rtol=0, atol=2e-3 * np.abs(step).max(), err_msg=name
        )


def loss_of(model, batch) -> float:
    """Take one step and return its loss alone; the metric is a mean over steps."""
    model.reset_metrics()
    return float(model.train_step(batch)["loss"])


def test_what_is_measured_is_kept(tmp_path, monkeypatch, capsys):
    """Without PyTorch too, whose rows are then left out."""
    monkeypatch.setattr(turns.pytorch, "AVAILABLE", False)
    monkeypatch.setattr(turns, "gemm_rate", lambda: 2e9)
    times = iter([0.03, 0.01, 0.02, 0.05])
    monkeypatch.setattr(turns, "seconds", lambda step: next(times))
    cfn_step.main(["--batch", "4", "--repeats", "2", "--json", str(tmp_path / "kept.json")])
    fused, plain, ratio = json.loads((tmp_path / "kept.json").read_text())["rows"]
    # The second turn begins with the second implementation: 20 ms are those of the plain network.
    assert fused["implementation"] == "CFN-A" and fused["milliseconds"] == {"median": 40.0, "range": [30.0, 50.0]}
    assert plain["implementation"] == "CNN-A" and plain["milliseconds"] == {"median": 15.0, "range": [10.0, 20.0]}
    assert fused["gemm_gflops"] == 2.0
    assert ratio["ratio"] == "CFN-A / CNN-A" and ratio["times"]["range"] == [2.5, 3.0]
    assert "its rows are left out" in capsys.readouterr().out
