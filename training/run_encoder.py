"""A finished run as an encoder of images, so that its features can be used wherever an encoder's can."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfthesis.data.images import decode
from tfthesis.encoders import reopen
from tfthesis.encoders.encoder import Encoder
from tfthesis.errors import UserError
from training.execution import fits_of
from training.export import load_model, read_spec
from training.request import Request, without_places
from training.run_directory import RunDirectory

SIGNATURE = "encode_image"


class RunEncoder(Encoder):
    """What the served function `encode_image` of a run gives for image files.

    Preprocessing is the method's own, so that a notebook, a server and a table see the same features.
    """

    modality = "image"

    def __init__(self, folder: Path):
        """Load the model.

        Args:
            folder: a run directory with DONE.

        Raises:
            UserError: the run is not finished, does not load, or its method encodes no images.
        """
        if not (folder / "DONE").exists():
            raise UserError(f"{folder} is not a finished run: there is no DONE in it")
        request = Request.from_json(RunDirectory(folder).read_json("recipe.json"))
        spec, model = read_spec(folder), load_model(folder, request)
        with fits_of(folder):
            encoders = {modality: reopen(description) for modality, description in spec.encoders.items()}
        served = request.method.signatures(model, request.recipe, spec, {}, encoders)
        if SIGNATURE not in served.signatures:
            raise UserError(f"{folder}: {request.short_name} has no {SIGNATURE}, only {', '.join(served.signatures)}")
        signature = served.signatures[SIGNATURE]
        (argument,) = signature.inputs
        self._function = lambda images: signature.function(**{argument: images})["embedding"]
        # A tf.Module would wrap a dict or a list, which JSON does not know.
        described = {
            "method": request.short_name,
            "recipe": request.recipe.to_json(),
            "spec": {name: value for name, value in without_places(spec.to_json()).items() if name != "dataset"},
        }
        self._described = json.dumps(described)
        self._named = lambda: [(variable.path, variable.numpy()) for variable in model.variables]
        width = self._function(tf.constant(signature.example[argument])).shape[-1]
        super().__init__(request.served_name, folder, width, [variable.value for variable in model.variables])

    def preprocessing(self) -> dict[str, Any]:
        return json.loads(self._described)

    def content(self) -> list[tuple[str, np.ndarray]]:
        return self._named()

    def prepare(self, raw: tf.Tensor) -> tf.Tensor:
        """Return the file unchanged; one that does not decode fails here, alone, and not with its batch."""
        with tf.control_dependencies([decode(raw)]):
            return tf.identity(raw)

    def encode(self, items: tf.Tensor) -> tf.Tensor:
        return self._function(items)
