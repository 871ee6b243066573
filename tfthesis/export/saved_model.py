"""Writes served functions as a SavedModel that TensorFlow Serving loads."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfthesis.errors import UserError
from tfthesis.export.manifest import write_manifest
from tfthesis.export.parity import compare_reloaded
from tfthesis.export.publish import check_model_name, publish
from tfthesis.export.served import DEFAULT_SIGNATURE, check_served, describe, trace, tracking
from tfthesis.export.stock_ops import ops_beyond_stock
from tfthesis.export.warmup import write_warmup
from tfthesis.method import Served

MODEL_CARD = "model_card.md"
PACKAGES = ("tensorflow", "keras", "tensorflow-text", "scann")


def write_saved_model(
    served: Served,
    target: Path,
    *,
    metadata: Mapping[str, Any],
    version: int | None = None,
    stock_only: bool = False,
) -> Path:
    """Write `served` as the next version of the model in folder `target`, and return the version's folder.

    The version appears when it is complete, has been loaded in a Session, and has answered every example as
    the functions did. Without a signature named `serving_default` the first one gets this name too.

    Args:
        served: the functions, their examples, and the objects whose variables they use.
        target: folder `<name>` of the model; its last part names the model.
        metadata: JSON values for the manifest; a text "model_card" is written into `assets.extra` instead.
        version: number to write; by default one more than the highest in `target`.
        stock_only: refuse a graph that a stock TensorFlow Serving binary cannot run.

    Raises:
        UserError: a name or an example is unfit, the version exists, the disk is full, or the graph needs
            other ops than stock ones and `stock_only` is set.
        ParityError: the reloaded model answers differently.
        Nothing is left behind in either case.
    """
    target = Path(target)
    check_model_name(target.name)
    examples = check_served(served)
    functions = {name: trace(name, signature) for name, signature in served.signatures.items()}
    default = DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in functions else next(iter(functions))
    metadata = dict(metadata)
    card = metadata.pop("model_card", None)
    root = tracking(served.trackables)

    def write(folder: Path) -> None:
        expected = {
            name: {key: value.numpy() for key, value in function(**_tensors(examples[name])).items()}
            for name, function in functions.items()
        }
        tf.saved_model.save(root, str(folder), {**functions, DEFAULT_SIGNATURE: functions[default]})
        beyond = ops_beyond_stock(folder)
        if stock_only and beyond:
            op, node = next(iter(beyond.items()))
            raise UserError(f"{target.name}: a stock TensorFlow Serving lacks the op {op!r} of node {node!r}")
        write_warmup(folder, target.name, examples)
        if card is not None:
            (folder / "assets.extra" / MODEL_CARD).write_text(card, encoding="utf-8")
        compare_reloaded(folder, examples, expected)
        values = {
            "signatures": describe(served, functions),
            "default_signature": default,
            "versions": package_versions(),
            "ops_beyond_stock": beyond,
            "metadata": metadata,
        }
        write_manifest(folder, values)

    return publish(target, write, version)


def package_versions() -> dict[str, str | None]:
    """Return the installed versions of the packages that an export depends on; None where one is missing."""
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return versions


def _tensors(example: Mapping[str, Any]) -> dict[str, tf.Tensor]:
    return {name: tf.constant(value) for name, value in example.items()}
