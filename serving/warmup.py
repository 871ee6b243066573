"""Replaying the requests that an export carries, so that a new version's first real request is not slow."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError, Message
from tensorflow_serving.apis import prediction_log_pb2

from serving.errors import from_tensorflow, invalid

RECORDS = Path("assets.extra", "tf_serving_warmup_requests")
MAX_RECORDS = 1000
_REPLAYED = ("predict_log", "classify_log", "regress_log", "multi_inference_log")

logger = logging.getLogger(__name__)


def read_requests(path: Path) -> Iterator[Message]:
    """Yield the requests of Predict, Classify, Regress and MultiInference recorded in the export in `path`.

    Without a record file there are none.

    Raises:
        ServingError: the file is no TFRecord, a record is no PredictionLog, or there are too many.
    """
    file = path / RECORDS
    if not file.exists():
        return
    try:
        for count, record in enumerate(tf.data.TFRecordDataset(str(file)).as_numpy_iterator()):
            if count == MAX_RECORDS:
                raise invalid(f"{RECORDS}: expected at most {MAX_RECORDS} records")
            log = _parse(record, count)
            kind = log.WhichOneof("log_type")
            if kind in _REPLAYED:
                yield getattr(log, kind).request
            else:
                logger.warning("%s: record %d, a %s, is not replayed", file, count, kind)
    except tf.errors.OpError as error:
        raise from_tensorflow(error) from error


def _parse(record: bytes, number: int) -> prediction_log_pb2.PredictionLog:
    try:
        return prediction_log_pb2.PredictionLog.FromString(record)
    except DecodeError as error:
        raise invalid(f"{RECORDS}: record {number} is not a PredictionLog: {error}") from error
