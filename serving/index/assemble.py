"""A new export out of an old one and other items: its encoders stay, what they search changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.checkpoint.graph_view import ObjectGraphView

from serving.codec import decode
from serving.warmup import read_requests
from tfthesis.errors import UserError
from tfthesis.export.manifest import read_manifest
from tfthesis.export.saved_model import write_saved_model
from tfthesis.method import Gallery, Served, Signature
from tfthesis.retrieval.exact import ExactNeighbours
from tfthesis.retrieval.measure import found_rows, recall
from tfthesis.retrieval.neighbours import Neighbours, build_neighbours

#: Neighbours returned by a served search, as in the exports of the methods.
RESULTS = 20
RECALL_AT = 10
_PROBES = 256
_LIMIT = 2**30
_ENCODE, _SEARCH = "encode_", "search_"


def assemble(
    export: Path,
    galleries: Mapping[str, Gallery],
    target: Path,
    *,
    kind: str,
    min_recall: float,
    metadata: Mapping[str, Any],
    version: int,
) -> Path:
    """Write a version of a model that searches `galleries` with the encoders of `export`, and return its folder.

    Items are searched by the other modality that the export encodes (`search_by_text` answers with images), by their
    own where there is no other. All signatures of the export that do not search are kept.

    Args:
        galleries: items by modality.
        target: folder of the model's versions.
        kind: "exact" or "scann".
        min_recall: of the ten best, against the exact search, for a `scann` index.
        metadata: JSON values for the manifest, besides those of the export.
        version: its number.

    Raises:
        UserError: there is nothing to search, an index finds too little, or what `write_saved_model` raises.
            Nothing is left behind.
    """
    loaded = tf.saved_model.load(str(export))
    examples = _examples(export)
    # What searches has the old items in it; the default one is an alias, which the new export gets anew.
    kept = [name for name in loaded.signatures if name in examples and not name.startswith(_SEARCH)]
    served = {name: _signature(loaded.signatures[name], examples[name]) for name in kept}
    # Those that will ask are of the other modality, where there are such items.
    askers = {name: [other.vectors for key, other in galleries.items() if key != name] for name in galleries}
    index = {
        name: build_neighbours(gallery, kind, queries=askers[name], name=name) for name, gallery in galleries.items()
    }
    figures = {name: _check_recall(name, index[name], gallery, min_recall) for name, gallery in galleries.items()}
    # Of those that encode, the ones that take the items themselves, not features of them.
    encoded = sorted(
        name.removeprefix(_ENCODE)
        for name in kept
        if name.startswith(_ENCODE) and all(spec.dtype == tf.string for spec in served[name].inputs.values())
    )
    for modality, neighbours in index.items():
        for asker in [name for name in encoded if name != modality][:1] or encoded:
            served[f"{_SEARCH}by_{asker}"] = _search(served[f"{_ENCODE}{asker}"], neighbours, modality)
    if not any(name.startswith(_SEARCH) for name in served):
        raise UserError(f"{export}: nothing can search these items, it has no signature {_ENCODE}*: {kept}")
    own = {name: {**neighbours.describe(), **figures[name]} for name, neighbours in index.items()}
    functions = [loaded.signatures[name] for name in kept]
    return write_saved_model(
        Served(served, [*_resources(loaded, functions), *index.values()]),
        target,
        metadata={**read_manifest(export)["metadata"], **metadata, "index": own},
        version=version,
        stock_only=all(neighbours.kind == "exact" for neighbours in index.values()),
    )


def _signature(function: Any, example: Mapping[str, np.ndarray]) -> Signature:
    _, specs = function.structured_input_signature
    return Signature(lambda **inputs: function(**inputs), specs, example, "as in the export it was made from")


def _search(encoder: Signature, neighbours: Neighbours, modality: str) -> Signature:
    def search(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return neighbours.search(encoder.function(**inputs)["embedding"], RESULTS)

    return Signature(search, encoder.inputs, encoder.example, f"nearest {modality}s")


def _examples(export: Path) -> dict[str, dict[str, np.ndarray]]:
    """Return a valid request for each signature: those that the export is warmed up with."""
    return {
        request.model_spec.signature_name: {name: decode(proto, _LIMIT) for name, proto in request.inputs.items()}
        for request in read_requests(export)
    }


def _resources(loaded: Any, functions: Sequence[Any]) -> list[Any]:
    """Return the variables and tables that `functions` use; the old items are not among them."""
    used = {id(tensor) for function in functions for tensor in function.captured_inputs}
    nodes = ObjectGraphView(loaded).breadth_first_traversal()[0]
    handles = ("handle", "resource_handle")
    return [node for node in nodes if any(id(getattr(node, name, None)) in used for name in handles)]


def _check_recall(name: str, index: Neighbours, gallery: Gallery, bound: float) -> dict[str, float]:
    measured = index.choice.figures.get("recall_at_10")
    if index.kind == "exact":
        # Also an approximate index that was given up, because it finds too little or is no faster.
        if measured is not None and measured < bound:
            raise UserError(
                f"{name}: a scann index of these items has recall@10 {measured:.3f}, below --min-recall {bound}; "
                "nothing was published; build with --kind exact"
            )
        return {}
    vectors = np.asarray(gallery.vectors, np.float32)
    queries = vectors[np.random.default_rng(0).permutation(len(vectors))[:_PROBES]]
    wanted = min(RECALL_AT, len(vectors))
    found = recall(found_rows(index, queries, wanted), found_rows(ExactNeighbours(gallery), queries, wanted))
    if found < bound:
        raise UserError(f"{name}: recall@{wanted} is {found:.3f}, below --min-recall {bound}; nothing was published")
    return {"probed_recall": round(found, 4)}
