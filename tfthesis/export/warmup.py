"""Requests that a model server answers by itself before it lets a version be asked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

# A fixed name of TensorFlow Serving, which reads at most 1000 records of it.
WARMUP_FILE = "tf_serving_warmup_requests"


def write_warmup(folder: Path, model: str, examples: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Write one Predict request a signature into `assets.extra` of the SavedModel in `folder`.

    The first call of a function is slow: ScaNN builds its index and tokenisers load then.
    """
    extra = folder / "assets.extra"
    extra.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(extra / WARMUP_FILE)) as file:
        for signature, example in examples.items():
            request = predict_pb2.PredictRequest()
            request.model_spec.name = model
            request.model_spec.signature_name = signature
            for name, value in example.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            log = prediction_log_pb2.PredictLog(request=request)
            file.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())
