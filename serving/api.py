"""The calls of the TensorFlow Serving API, whatever carries them.

A method takes the request message of its call, and the seconds left for it or None, and returns the response
message; what goes wrong is a `ServingError`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from serving import inference
from serving.errors import invalid
from serving.metrics import Metrics
from serving.reload import Reloader
from serving.servable import Servable
from serving.signature import DEFAULT_SIGNATURE, Signature
from serving.store import Store


class Api:
    """Answers requests from the models in a `Store`."""

    def __init__(self, store: Store, reloader: Reloader, metrics: Metrics, *, as_content: bool = False):
        """Answer from `store`; `as_content` sends tensors as raw bytes instead of typed values."""
        self._store = store
        self._reloader = reloader
        self._metrics = metrics
        self._as_content = as_content

    def predict(self, request: predict_pb2.PredictRequest, timeout: float | None = None) -> predict_pb2.PredictResponse:
        """Run a signature."""
        with self._lease(request) as servable:
            return servable.predict(request, timeout, as_content=self._as_content)

    def classify(
        self, request: classification_pb2.ClassificationRequest, timeout: float | None = None
    ) -> classification_pb2.ClassificationResponse:
        """Return the classes of examples."""
        with self._lease(request) as servable:
            return inference.classify(servable, request, timeout)

    def regress(
        self, request: regression_pb2.RegressionRequest, timeout: float | None = None
    ) -> regression_pb2.RegressionResponse:
        """Return the values of examples."""
        with self._lease(request) as servable:
            return inference.regress(servable, request, timeout)

    def multi_inference(
        self, request: inference_pb2.MultiInferenceRequest, timeout: float | None = None
    ) -> inference_pb2.MultiInferenceResponse:
        """Classify and regress the same examples with several signatures of one model."""
        specs = [task.model_spec for task in request.tasks]
        if not specs:
            raise invalid("Inference request is empty.")
        if any(spec.name != specs[0].name for spec in specs):
            raise invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        with self._lease(request.tasks[0]) as servable:
            return inference.multi_inference(servable, request, timeout)

    def get_model_metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, timeout: float | None = None
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Return the signatures of a model."""
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != "signature_def":
                raise invalid(f"Metadata field {field} is not supported")
        with self._lease(request) as servable:
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            response.model_spec.name = servable.name
            response.model_spec.version.value = servable.version
            response.metadata["signature_def"].CopyFrom(servable.signature_map)
            return response

    def get_model_status(
        self, request: get_model_status_pb2.GetModelStatusRequest, timeout: float | None = None
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """Return the state of a model's versions; a version label is ignored, as TensorFlow Serving does."""
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        spec = request.model_spec
        response = get_model_status_pb2.GetModelStatusResponse()
        for number, state, error in self._store.statuses(spec.name, _version_of(spec)):
            entry = response.model_version_status.add(version=number, state=state)
            if error is not None:
                entry.status.error_code = error.code.value[0]
                entry.status.error_message = error.message
            else:
                entry.status.SetInParent()
        return response

    def reload_config(
        self, request: model_management_pb2.ReloadConfigRequest, timeout: float | None = None
    ) -> model_management_pb2.ReloadConfigResponse:
        """Serve other models: return when each of the new ones has an AVAILABLE version.

        The answer tells by how much the counters that the request names grew meanwhile; unknown ones are left out.
        """
        before = {name: self._metrics.total(name) for name in request.metric_names}
        self._reloader.apply(request.config, timeout)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        for name, count in before.items():
            if count is not None:
                response.metric.add(name=name, int64_value_increase=self._metrics.total(name) - count)
        return response

    @contextlib.contextmanager
    def signature(self, spec: model_pb2.ModelSpec) -> Iterator[tuple[Servable, Signature]]:
        """Keep the version that `spec` names in memory for a `with` block, and yield it with its signature.

        Raises:
            ServingError: INVALID_ARGUMENT for an unknown signature, which Predict calls FAILED_PRECONDITION.
        """
        with self._lease_spec(spec) as servable:
            name = spec.signature_name or DEFAULT_SIGNATURE
            signature = servable.signatures.get(name)
            if signature is None:
                raise invalid(f"No signature was found with the name: {name}")
            yield servable, signature

    @contextlib.contextmanager
    def _lease(self, request: Any) -> Iterator[Servable]:
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        with self._lease_spec(request.model_spec) as servable:
            yield servable

    @contextlib.contextmanager
    def _lease_spec(self, spec: model_pb2.ModelSpec) -> Iterator[Servable]:
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        label = spec.version_label if spec.WhichOneof("version_choice") == "version_label" else None
        with self._store.lease(spec.name, _version_of(spec), label) as servable:
            yield servable


def _version_of(spec: model_pb2.ModelSpec) -> int | None:
    return spec.version.value if spec.WhichOneof("version_choice") == "version" else None
