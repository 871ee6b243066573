"""One version of one model in memory."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import any_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    inference_pb2,
    predict_pb2,
    regression_pb2,
)

from serving import image_inputs, inference, op_libraries, warmup
from serving.batching import MODEL_FILE, Batcher, Batching, read_batching
from serving.codec import encode
from serving.errors import ServingError, from_tensorflow, invalid
from serving.image_inputs import ImageLimits
from serving.manifest import has_manifest, other_versions
from serving.metrics import Metrics
from serving.signature import DEFAULT_SIGNATURE, Signature, read_signatures
from tfthesis.errors import UserError, operation_message
from tfthesis.export.manifest import verify_export

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one request may ask for, and how versions are loaded.

    Attributes:
        tensor_bytes: of one tensor of a request.
        images: limits of encoded images.
        warm_up_rounds: how often the warm-up records of a version are replayed.
        batching: how requests are merged; None runs each alone.
        parallelism: threads within an operation and between operations, of all models together; 0 for one a processor.
        tags: of the graph to load.
        check_method_names: Classify and Regress answer only signatures that say they are theirs.
        model_batching: a version whose folder has a file of batching parameters is batched as that says, with the
            threads of `batching`, and one without is not.
    """

    tensor_bytes: int
    images: ImageLimits = dataclasses.field(default_factory=ImageLimits)
    warm_up_rounds: int = 1
    batching: Batching | None = None
    model_batching: bool = False
    parallelism: tuple[int, int] = (0, 0)
    tags: tuple[str, ...] = (tf.saved_model.SERVING,)
    check_method_names: bool = False


class _Session(tf.compat.v1.Session):
    """A Session that loads in the thread of the loader.

    Restoring variables takes as many threads as there are processors, which all Sessions share, from the requests of
    the version before. Requests do not come here: see `Signature.run`.
    """

    def run(self, fetches, feed_dict=None, options=None, run_metadata=None):
        options = options or tf.compat.v1.RunOptions()
        options.inter_op_thread_pool = -1
        return super().run(fetches, feed_dict, options, run_metadata)


class Servable:
    """A loaded SavedModel; safe to use from several threads.

    Attributes:
        name: of the model.
        version: its number.
        signature_map: all SignatureDefs, as GetModelMetadata sends them.
        signatures: those that can be called, by name.
    """

    def __init__(self, name: str, version: int, path: Path, limits: Limits, metrics: Metrics | None = None):
        """Load the SavedModel in `path` into a Session of its own and replay its warm-up records.

        What is run afterwards, and the warm-up as a whole, is noted in `metrics`.

        Raises:
            ServingError: the message says why it does not load or warm up; DATA_LOSS where a file of an export of
                this project is not as its manifest says.
        """
        self.name = name
        self.version = version
        self._limits = limits
        self._metrics = metrics or Metrics()
        # Only an export of this project promises that a string input named `image` is an encoded image.
        self._is_ours = has_manifest(path)
        self._batchers: dict[str, Batcher] = {}
        self._is_warm = False
        if self._is_ours:
            _verify(path)
            for difference in other_versions(path):
                logger.warning("%s version %d was exported with %s", name, version, difference)
        start = time.monotonic()
        within, between = limits.parallelism
        config = tf.compat.v1.ConfigProto(
            allow_soft_placement=True, intra_op_parallelism_threads=within, inter_op_parallelism_threads=between
        )
        self._session = _Session(graph=tf.Graph(), config=config)
        try:
            definitions = _load(self._session, path, limits.tags)
            self._definitions = definitions
            self.signatures = read_signatures(definitions, self._session, limits.tensor_bytes)
            self.signature_map = _pack(definitions)
            batching = _batching(path, limits)
            if batching is not None:
                self._batchers = {name: Batcher(signature, batching) for name, signature in self.signatures.items()}
            warmed = self._warm_up(path) if limits.warm_up_rounds else 0
        except BaseException:
            self.close()
            raise
        self._is_warm = True
        seconds = time.monotonic() - start
        logger.info("loaded %s version %d in %.1f s, %d warm-up requests", name, version, seconds, warmed)

    def predict(
        self, request: predict_pb2.PredictRequest, timeout: float | None = None, *, as_content: bool = False
    ) -> predict_pb2.PredictResponse:
        """Return the answer to a Predict request, after at most `timeout` seconds in the model.

        Raises:
            ServingError: the request does not fit the model, or an operation failed.
        """
        signature = self._signature(request.model_spec.signature_name or DEFAULT_SIGNATURE)
        inputs = signature.read_inputs(request.inputs)
        outputs = signature.choose_outputs(request.output_filter)
        arrays = self._answer(signature, inputs, outputs, timeout)
        response = predict_pb2.PredictResponse()
        response.model_spec.name = self.name
        response.model_spec.signature_name = signature.name
        response.model_spec.version.value = self.version
        for alias, array in zip(outputs, arrays, strict=True):
            encode(array, response.outputs[alias], as_content=as_content)
        return response

    def predict_arrays(
        self, signature: Signature, inputs: Mapping[str, np.ndarray], timeout: float | None = None
    ) -> list[np.ndarray]:
        """Return the arrays of all outputs of `signature`, in the order of its aliases.

        Raises:
            ServingError: the inputs do not fit the model, or an operation failed.
        """
        return self._answer(signature, signature.complete(inputs), signature.outputs, timeout)

    def _answer(
        self, signature: Signature, inputs: Mapping[str, np.ndarray], outputs: Sequence[str], timeout: float | None
    ) -> list[np.ndarray]:
        """Run a signature whose images, if it takes any, are checked."""
        images = [
            alias
            for alias, dtype in signature.inputs.items()
            if self._is_ours and image_inputs.are_images(alias) and dtype == tf.string
        ]
        for alias in images:
            image_inputs.check_images(alias, inputs[alias], self._limits.images)
        try:
            return self.run(signature, inputs, outputs, timeout)
        except ServingError as error:
            if error.code is grpc.StatusCode.INVALID_ARGUMENT:
                for alias in images:
                    image_inputs.check_decodes(alias, inputs[alias])
                if self._is_ours:
                    raise invalid(operation_message(error.message)) from error
            raise

    def run(
        self,
        signature: Signature,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        timeout: float | None = None,
        *,
        api: str = "Predict",
    ) -> list[np.ndarray]:
        """Return the arrays of the `outputs` aliases of `signature`, merged with other requests where that is on.

        The time it takes is noted as that of the call `api`.

        Raises:
            ServingError: as `Signature.run` and `Batcher.run`.
        """
        start = time.perf_counter()
        arrays = self._batchers.get(signature.name, signature).run(inputs, outputs, timeout)
        if self._is_warm:
            self._metrics.note_run(self.name, api, time.perf_counter() - start)
        return arrays

    def note_examples(self, count: int) -> None:
        """Note that a request has `count` examples."""
        if self._is_warm:
            self._metrics.note_examples(self.name, count)

    def join(self, signatures: Sequence[Signature]) -> Signature:
        """Return one signature that computes the outputs of `signatures`, as `NAME/OUTPUT`, in one run.

        Raises:
            ServingError: INVALID_ARGUMENT, there are none, or they do not have the same inputs.
        """
        if not signatures:
            raise invalid("Inference request is empty.")
        joined = meta_graph_pb2.SignatureDef()
        for signature in signatures:
            definition = self._definitions[signature.name]
            for alias, info in definition.inputs.items():
                if joined.inputs[alias].name not in ("", info.name):
                    raise invalid(f"Input tensor must be the same for all Signatures: {signature.name!r} has another")
                joined.inputs[alias].CopyFrom(info)
            for alias, info in definition.outputs.items():
                joined.outputs[f"{signature.name}/{alias}"].CopyFrom(info)
        return Signature("", joined, self._session, self._limits.tensor_bytes)

    def check_method(self, signature: Signature, method: str) -> None:
        """Refuse a signature that does not say that it is for `method`, where the server was told to check that.

        Raises:
            ServingError: INVALID_ARGUMENT.
        """
        said = self._definitions[signature.name].method_name
        if self._limits.check_method_names and said != method:
            raise invalid(f"Expected {signature.name!r} signature method_name to be {method}. Was: {said}")

    def close(self) -> None:
        """Free the model's memory; nothing may be running in it."""
        self.signatures, self._batchers = {}, {}
        self._session.close()

    def _signature(self, name: str) -> Signature:
        signature = self.signatures.get(name)
        if signature is None:
            raise ServingError(grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
        return signature

    def _warm_up(self, path: Path) -> int:
        start, status = time.monotonic(), grpc.StatusCode.OK
        try:
            return self._replay(path)
        except ServingError as error:
            status = error.code
            raise
        finally:
            self._metrics.note_warm_up(path, status, time.monotonic() - start)

    def _replay(self, path: Path) -> int:
        count = 0
        for request in warmup.read_requests(path):
            try:
                for _ in range(self._limits.warm_up_rounds):
                    _CALLS[type(request)](self, request)
            except ServingError as error:
                raise ServingError(error.code, f"warm-up request {count}: {error.message}") from error
            count += 1
        return count


_CALLS = {
    predict_pb2.PredictRequest: Servable.predict,
    classification_pb2.ClassificationRequest: inference.classify,
    regression_pb2.RegressionRequest: inference.regress,
    inference_pb2.MultiInferenceRequest: inference.multi_inference,
}


def _load(session: tf.compat.v1.Session, path: Path, tags: Sequence[str]) -> dict[str, meta_graph_pb2.SignatureDef]:
    """Load the SavedModel in `path` into `session` and return its signatures."""
    try:
        op_libraries.import_for(path)
        with session.graph.as_default():
            meta_graph = tf.compat.v1.saved_model.load(session, list(tags), str(path))
    except tf.errors.OpError as error:
        raise op_libraries.explain(error) or from_tensorflow(error) from error
    except (OSError, RuntimeError, ValueError) as error:
        raise ServingError(grpc.StatusCode.INVALID_ARGUMENT, f"{path} does not load: {error}") from error
    return dict(meta_graph.signature_def)


def _verify(path: Path) -> None:
    """Compare every file of an export with its manifest: a flipped bit may load, and answer something else."""
    try:
        verify_export(path)
    except UserError as error:
        raise ServingError(grpc.StatusCode.DATA_LOSS, str(error)) from error


def _batching(path: Path, limits: Limits) -> Batching | None:
    if not limits.model_batching:
        return limits.batching
    file = path / MODEL_FILE
    if not file.is_file():
        return None
    try:
        # The threads are the server's, whatever the model says.
        threads = (limits.batching or Batching()).threads
        return dataclasses.replace(read_batching(file), threads=threads)
    except UserError as error:
        raise invalid(str(error)) from error


def _pack(definitions: dict[str, meta_graph_pb2.SignatureDef]) -> any_pb2.Any:
    signature_map = get_model_metadata_pb2.SignatureDefMap(signature_def=definitions)
    packed = any_pb2.Any()
    packed.Pack(signature_map)
    return packed
