"""From a trained model to a folder that a model server loads."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfthesis.encoders import reopen
from tfthesis.errors import UserError, closest
from tfthesis.export.publish import check_model_name
from tfthesis.export.saved_model import write_saved_model
from tfthesis.method import Data, Gallery, Method, OwnSearch, Spec
from tfthesis.recipe import Recipe
from tfthesis.retrieval.neighbours import KINDS, Neighbours, build_neighbours


def export(
    method: Method,
    name: str,
    model: keras.Model,
    recipe: Recipe,
    spec: Spec,
    data: Data,
    folder: Path,
    *,
    kind: str = "exact",
    split: str = "test",
    encoders: Mapping[str, Any] | None = None,
    version: int | None = None,
    model_card: str | None = None,
) -> Path:
    """Write the served functions of a trained `model` to `folder/<name>/<version>` and return that path.

    Args:
        method: defines what is searched and served.
        name: of the served model.
        model: built by the method with `recipe` and `spec`, outside a distribution strategy.
        data: opened for the same recipe; the items of its `split` are what a search returns.
        folder: holds all served models, such as `saved_models`.
        kind: "exact", which a stock TensorFlow Serving can run, or "scann" (`build_neighbours`); a method that searches
            by its own rule takes "exact" alone.
        split: what is indexed.
        encoders: opened encoders by modality; by default those that `spec.encoders` describes.
        version: number of the export; by default one more than the highest.
        model_card: text for people that is put beside the model.

    Raises:
        UserError: a name, kind or gallery is unfit, an encoder changed, or the disk is full.
        ParityError: the reloaded model answers differently. Nothing is left behind in either case.
    """
    check_model_name(name)
    if kind not in KINDS:
        raise closest(kind, KINDS, "index kind")
    if encoders is None:
        encoders = {modality: reopen(description) for modality, description in spec.encoders.items()}
    index = build_index(method.galleries(model, recipe, data, split), kind)
    served = method.signatures(model, recipe, spec, index, encoders)
    metadata = {
        "method": {"title": method.title, "chapter": method.chapter},
        "recipe": recipe.to_json(),
        "spec": spec.to_json(),
        "model": {"fingerprint": weights_fingerprint(model), "parameters": model.count_params()},
        "index": {gallery: {**neighbours.describe(), "split": split} for gallery, neighbours in index.items()},
    }
    if model_card is not None:
        metadata["model_card"] = model_card
    stock_only = all(neighbours.kind != "scann" for neighbours in index.values())
    return write_saved_model(served, Path(folder) / name, metadata=metadata, version=version, stock_only=stock_only)


def build_index(galleries: Mapping[str, Gallery | OwnSearch], kind: str) -> dict[str, Neighbours | Any]:
    """Return the search over each gallery; those of the same width stand for the queries of one another.

    Raises:
        UserError: a gallery is broken, or has a search of its own and `kind` asks for another; the message names it.
    """
    index = {}
    for name, gallery in galleries.items():
        if not isinstance(gallery, Gallery):
            if kind != "exact":
                raise UserError(f"gallery {name!r}: it has a search of its own, and no kind {kind!r}")
            index[name] = gallery.neighbours()
            continue
        vectors = {key: other.vectors for key, other in galleries.items() if isinstance(other, Gallery)}
        others = [np.asarray(other) for key, other in vectors.items() if key != name]
        queries = [rows for rows in others if rows.shape[1:] == np.shape(gallery.vectors)[1:]]
        try:
            index[name] = build_neighbours(gallery, kind, queries=queries, name=name)
        except UserError as error:
            raise UserError(f"gallery {name!r}: {error}") from error
    return index


def weights_fingerprint(model: keras.Model) -> str:
    """Return the SHA-256 of the weights of `model`: their shapes, dtypes and bytes in the model's order."""
    digest = hashlib.sha256()
    for weight in model.weights:
        array = np.ascontiguousarray(weight.numpy())
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
