"""Saved models in a process that has imported none of their classes."""

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfthesis.discovery import load_method
from tfthesis.method import Spec
from tfthesis.saving import load_model

IN_A_FRESH_PROCESS = """
import sys
import numpy as np
from tfthesis.saving import load_model
model = load_model(sys.argv[1])
np.save(sys.argv[2], model({"a": np.load(sys.argv[3])})["to_b"])
"""


def test_a_fresh_process_needs_no_other_import(tmp_path):
    method = load_method("cycle_gan")
    recipe = method.recipe("tiny")
    model = method.build(recipe, Spec(inputs={"a": (32, 32, 3), "b": (32, 32, 3)}))
    image = np.random.default_rng(0).uniform(-1, 1, [1, 32, 32, 3]).astype(np.float32)
    np.save(tmp_path / "image.npy", image)
    model.save(tmp_path / "model.keras")
    arguments = [tmp_path / name for name in ("model.keras", "answer.npy", "image.npy")]
    root = Path(__file__).parents[1]
    subprocess.run([sys.executable, "-c", IN_A_FRESH_PROCESS, *arguments], cwd=root, check=True)
    expected = model({"a": tf.constant(image)})["to_b"]
    np.testing.assert_allclose(np.load(tmp_path / "answer.npy"), expected, rtol=1e-5, atol=1e-6)


def test_what_is_no_saved_model_is_said(tmp_path):
    path = tmp_path / "model.keras"
    with pytest.raises(FileNotFoundError):
        load_model(path)
    path.write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"model.keras: damaged, or no .keras file"):
        load_model(path)
    for name, text, message in (
        ("other.json", "{}", "damaged, or no .keras file: .*config.json"),
        ("config.json", '{"layers": [{"module": "tfthesis.layers.gone"}]}', "there is no module tfthesis.layers.gone"),
    ):
        with zipfile.ZipFile(path, "w") as file:
            file.writestr(name, text)
        with pytest.raises(ValueError, match=message):
            load_model(path)
