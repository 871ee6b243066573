"""Replaying the requests that an export carries, so that a new version's first real request is not slow."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from serving.errors import from_tensorflow, invalid

RECORDS = Path("assets.extra", "tf_serving_warmup_requests")
MAX_RECORDS = 1000

logger = logging.getLogger(__name__)


def read_requests(path: Path) -> Iterator[predict_pb2.PredictRequest]:
    """Yield the Predict requests recorded in the export in `path`; none without a record file.

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
            if log.HasField("predict_log"):
                yield log.predict_log.request
            else:
                logger.warning("%s: record %d, a %s, is not replayed", file, count, log.WhichOneof("log_type"))
    except tf.errors.OpError as error:
        raise from_tensorflow(error) from error


def _parse(record: bytes, number: int) -> prediction_log_pb2.PredictionLog:
    try:
        return prediction_log_pb2.PredictionLog.FromString(record)
    except DecodeError as error:
        raise invalid(f"{RECORDS}: record {number} is not a PredictionLog: {error}") from error
