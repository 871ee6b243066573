"""Small SavedModels and configuration files for a server of the TensorFlow Serving API that is to be tested.

`python tests/blackbox/models.py DIR` writes them into the empty folder DIR and prints the command that starts a
stock tensorflow_model_server on them.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    input_pb2,
    predict_pb2,
    prediction_log_pb2,
    regression_pb2,
)

CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"
WARM_UP_FILE = Path("assets.extra", "tf_serving_warmup_requests")
METRICS_PATH = "/monitoring/prometheus/metrics"
HOLD_SECONDS = 60.0
BEAT_SECONDS = 0.05


def spec(shape: list[int | None] | None, dtype: tf.DType, name: str) -> tf.TensorSpec:
    """Return what one input looks like."""
    return tf.TensorSpec(shape, dtype, name=name)


def served(*inputs: tf.TensorSpec):
    """Return a decorator that makes a method a function of `inputs`."""
    return tf.function(input_signature=inputs)


def hold_until(path: tf.Tensor) -> tf.Tensor:
    """Wait until there is a file `path`, at most a minute; write the file `path`.beat again and again meanwhile."""
    end = tf.timestamp() + HOLD_SECONDS

    def missing(count, last):
        # The count stands in the pattern, though not in its text, so that no optimiser looks only once.
        pattern = tf.strings.join([path, tf.strings.substr(tf.strings.as_string(count), 0, 0)])
        return tf.equal(tf.size(tf.io.matching_files(pattern)), 0) & (tf.timestamp() < end)

    def beat(now):
        with tf.control_dependencies([tf.io.write_file(path + ".beat", tf.strings.as_string(now))]):
            return tf.identity(now)

    def step(count, last):
        now = tf.timestamp()
        return count + 1, tf.cond(now - last > BEAT_SECONDS, lambda: beat(now), lambda: last)

    return tf.while_loop(missing, step, [tf.constant(0), tf.constant(0.0, tf.float64)])[0]


def leave_mark(path: tf.Tensor) -> tf.Operation:
    """Write a file `path`.N, where N is the number of those there are; do nothing for an empty path."""

    def write():
        count = tf.size(tf.io.matching_files(path + ".*"))
        with tf.control_dependencies([tf.io.write_file(path + "." + tf.strings.as_string(count), "")]):
            return tf.constant(True)

    return tf.cond(tf.strings.length(path) > 0, write, lambda: tf.constant(False)).op


class Kinds(tf.Module):
    """One signature for each kind of tensor and each thing that can happen to a request."""

    def __init__(self):
        super().__init__()
        self.factor = tf.Variable(2.0)
        self.weights = tf.Variable([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])

    @served(spec([None, 1], tf.float32, "x"))
    def serving_default(self, x):
        return {"y": x * self.factor, "z": x + 1.0}

    @served(spec([None, None], tf.float32, "x"))
    def project(self, x):
        return {"y": tf.matmul(x, self.weights)}

    @served(spec([None], tf.float32, "a"), spec([None], tf.int64, "b"))
    def add(self, a, b):
        return {"sum": a + tf.cast(b, tf.float32), "twice": 2.0 * a}

    @served(spec([None], tf.float32, "x"))
    def total(self, x):
        return {"total": tf.reduce_sum(x)}

    @served(spec([None], tf.float32, "x"))
    def uneven(self, x):
        return {"y": x, "double": tf.concat([x, x], 0)}

    @served(spec(None, tf.string, "text"))
    def strings(self, text):
        return {"text": tf.identity(text), "raw_bytes": tf.identity(text), "length": tf.strings.length(text)}

    @served(spec([], tf.string, "path"))
    def hold(self, path):
        return {"count": hold_until(path)}

    @served(spec([None], tf.int32, "index"))
    def long_error(self, index):
        message = tf.strings.join(["x" * 3000])
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(index < 3), [message], summarize=1)]):
            return {"row": tf.gather(self.weights, index)}

    @served(spec([], tf.string, "path"))
    def read(self, path):
        return {"content": tf.io.read_file(path)}

    @served(spec([], tf.float32, "x"))
    def out_of_range(self, x):
        return {"y": x + next(iter(tf.data.Dataset.from_tensors(x).skip(1)))}

    @served(spec([], tf.float32, "x"))
    def cancelled(self, x):
        queue = tf.raw_ops.FIFOQueueV2(component_types=[tf.float32], shared_name="closed", container="")
        with tf.control_dependencies([tf.raw_ops.QueueCloseV2(handle=queue)]):
            enqueued = tf.raw_ops.QueueEnqueueV2(handle=queue, components=[x])
        with tf.control_dependencies([enqueued]):
            return {"y": tf.identity(x)}

    @served(spec([], tf.string, "data"))
    def data_loss(self, data):
        return {"y": tf.io.decode_compressed(data, "ZLIB")}

    @served(spec(None, tf.float32, "x"))
    def to_half(self, x):
        return {"y": tf.cast(x, tf.float16)}

    @served(spec(None, tf.float32, "x"))
    def to_complex(self, x):
        return {"y": tf.cast(x, tf.complex64)}


#: Each has a signature `echo_NAME` that answers its input `x` as `y`.
ECHOED = (
    *("float16", "bfloat16", "float32", "float64", "complex64", "complex128", "bool", "string"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)


def echo_of(dtype: tf.DType):
    """Return a function that answers its input."""

    @served(spec(None, dtype, "x"))
    def echo(x):
        return {"y": tf.identity(x)}

    return echo


class Rows(tf.Module):
    """Signatures that show what was run as one batch: each row of `batch` is the first column of all rows."""

    @served(spec([None, None], tf.float32, "x"))
    def serving_default(self, x):
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(x >= 0.0), ["a negative number"])]):
            first = tf.identity(x)[:, 0]
        return {"y": 2.0 * x, "batch": tf.tile(first[None], [tf.size(first), 1])}

    @served(spec([None], tf.string, "path"))
    def hold(self, path):
        return {"count": tf.fill(tf.shape(path), hold_until(path[0]))}

    @served(spec([None], tf.float32, "a"), spec([None], tf.float32, "b"))
    def first(self, a, b):
        return {"y": tf.identity(a), "z": tf.identity(b)}

    @served(spec([None], tf.float32, "x"))
    def total(self, x):
        return {"total": tf.reduce_sum(x)}

    @served(spec([None], tf.float32, "x"))
    def shorter(self, x):
        return {"y": x[1:]}


def marked_x(serialized: tf.Tensor) -> tf.Tensor:
    """Return the feature `x` of examples; a run leaves a mark where the feature `path` of the first one says."""
    features = {"x": tf.io.FixedLenFeature([], tf.float32), "path": tf.io.FixedLenFeature([], tf.string, "")}
    parsed = tf.io.parse_example(serialized, features)
    with tf.control_dependencies([leave_mark(parsed["path"][0])]):
        return tf.identity(parsed["x"])


class Witness(tf.Module):
    """Signatures whose runs leave marks."""

    @served(spec([None], tf.string, "inputs"))
    def regress(self, inputs):
        return {"outputs": 2.0 * marked_x(inputs)}

    @served(spec([None], tf.string, "inputs"))
    def classify(self, inputs):
        x = marked_x(inputs)
        return {"classes": tf.tile([["low", "high"]], [tf.size(x), 1]), "scores": tf.stack([1.0 - x, x], -1)}

    @served(spec([], tf.string, "path"))
    def mark(self, path):
        with tf.control_dependencies([leave_mark(path)]):
            return {"path": tf.identity(path)}

    @served(spec([], tf.string, "path"))
    def hold(self, path):
        return {"count": hold_until(path)}

    @served(spec([None], tf.float32, "x"))
    def serving_default(self, x):
        return {"y": tf.zeros_like(x) + 2.0}


def save_module(module: tf.Module, folder: Path, **more: object) -> Path:
    """Write every function of `module` as a signature of its name, and those in `more`."""
    own = {name: getattr(module, name) for name in vars(type(module)) if not name.startswith("_")}
    tf.saved_model.save(module, str(folder), signatures={**own, **more})
    return folder


def save_kinds(folder: Path) -> Path:
    """Write `Kinds` with an echo for each dtype."""
    return save_module(Kinds(), folder, **{f"echo_{name}": echo_of(tf.dtypes.as_dtype(name)) for name in ECHOED})


def save_constant(folder: Path, value: float) -> Path:
    """Write a model that answers every `x` with `value`, which tells versions apart."""
    module = tf.Module()
    module.value = tf.Variable(value)

    @served(spec([None], tf.float32, "x"))
    def constant(x):
        return {"y": tf.zeros_like(x) + module.value}

    tf.saved_model.save(module, str(folder), signatures=constant)
    return folder


def save_with_default(folder: Path) -> Path:
    """Write a model `y = x * factor` whose `factor` may be left out and is 3 then."""
    module = tf.Module()

    @served(spec([None], tf.float32, "x"), spec([], tf.float32, "factor"))
    def scale(x, factor):
        return {"y": x * factor}

    tf.saved_model.save(module, str(folder), signatures=scale)
    file = folder / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    definition = saved.meta_graphs[0].signature_def["serving_default"]
    definition.defaults["factor"].CopyFrom(tf.make_tensor_proto(3.0))
    file.write_bytes(saved.SerializeToString())
    return folder


def save_judge(folder: Path) -> Path:
    """Write a TensorFlow 1 export over examples with a feature `x`; all signatures but one share their input."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        serialized = v1.placeholder(tf.string, [None], name="serialized")
        x = marked_x(serialized)
        classes = tf.tile([["low", "high"]], [tf.size(x), 1])
        scores = tf.stack([1.0 - x, x], -1)
        other = v1.placeholder(tf.string, [None], name="other")
        lengths = tf.cast(tf.strings.length(other), tf.float32)
        signatures = {
            "serving_default": ({"inputs": serialized}, {"classes": classes, "scores": scores}, CLASSIFY),
            "scores": ({"inputs": serialized}, {"scores": scores}, CLASSIFY),
            "classes": ({"inputs": serialized}, {"classes": classes}, CLASSIFY),
            "flat_scores": ({"inputs": serialized}, {"scores": x}, CLASSIFY),
            "three": ({"inputs": serialized}, {"classes": classes, "scores": scores, "more": x}, CLASSIFY),
            "twice": ({"inputs": serialized}, {"outputs": 2.0 * x}, REGRESS),
            "column": ({"inputs": serialized}, {"outputs": 3.0 * x[:, None]}, REGRESS),
            "pair": ({"inputs": serialized}, {"outputs": scores}, REGRESS),
            "whole": ({"inputs": serialized}, {"outputs": tf.cast(x, tf.int32)}, REGRESS),
            "elsewhere": ({"inputs": other}, {"outputs": lengths}, REGRESS),
            "misnamed": ({"examples": serialized}, {"outputs": x}, REGRESS),
            "two_inputs": ({"inputs": serialized, "more": other}, {"outputs": x}, REGRESS),
            "unnamed": ({"inputs": serialized}, {"outputs": 5.0 * x}, ""),
        }
        info = v1.saved_model.build_tensor_info
        definitions = {
            name: v1.saved_model.build_signature_def(
                {alias: info(tensor) for alias, tensor in given.items()},
                {alias: info(tensor) for alias, tensor in made.items()},
                method,
            )
            for name, (given, made, method) in signatures.items()
        }
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(session, ["serve"], definitions)
        builder.save()
    return folder


def publish(export: Path, base_path: Path, version: int | str) -> Path:
    """Copy an export beside its place and rename it there, as an exporter does."""
    base_path.mkdir(parents=True, exist_ok=True)
    shutil.copytree(export, base_path / f"tmp-{version}")
    return (base_path / f"tmp-{version}").rename(base_path / str(version))


def example(**features: float | str | Path) -> tf.train.Example:
    """Return an Example of float and bytes features."""
    message = tf.train.Example()
    for name, value in features.items():
        feature = message.features.feature[name]
        if isinstance(value, float):
            feature.float_list.value.append(value)
        else:
            feature.bytes_list.value.append(os.fsencode(value))
    return message


def examples(*members: tf.train.Example) -> input_pb2.Input:
    """Return the input of Classify and Regress."""
    return input_pb2.Input(example_list=input_pb2.ExampleList(examples=members))


def predict_log(signature: str, **inputs: object) -> prediction_log_pb2.PredictionLog:
    """Return a warm-up record of Predict; the model that it names is another."""
    request = predict_pb2.PredictRequest(model_spec={"name": "another model", "signature_name": signature})
    for alias, value in inputs.items():
        request.inputs[alias].CopyFrom(tf.make_tensor_proto(value))
    return prediction_log_pb2.PredictionLog(predict_log={"request": request})


def example_logs(folder: Path) -> Iterable[prediction_log_pb2.PredictionLog]:
    """Yield warm-up records of the other three calls, of which each leaves its own mark in `folder`."""
    one = {"name": "another model", "signature_name": "classify"}
    two = {"name": "another model", "signature_name": "regress"}
    given = {name: examples(example(x=0.5, path=folder / name)) for name in ("classify", "regress", "multi_inference")}
    yield prediction_log_pb2.PredictionLog(
        classify_log={"request": classification_pb2.ClassificationRequest(model_spec=one, input=given["classify"])}
    )
    yield prediction_log_pb2.PredictionLog(
        regress_log={"request": regression_pb2.RegressionRequest(model_spec=two, input=given["regress"])}
    )
    request = inference_pb2.MultiInferenceRequest(input=given["multi_inference"])
    request.tasks.add(model_spec=two, method_name=REGRESS)
    yield prediction_log_pb2.PredictionLog(multi_inference_log={"request": request})


def write_records(export: Path, records: Iterable[bytes | prediction_log_pb2.PredictionLog]) -> None:
    """Write a warm-up file into an export."""
    file = export / WARM_UP_FILE
    file.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(file)) as writer:
        for record in records:
            writer.write(record if isinstance(record, bytes) else record.SerializeToString())


@dataclasses.dataclass(frozen=True)
class Entry:
    """A model of a ModelServerConfig."""

    policy: str = ""
    labels: Mapping[str, int] = dataclasses.field(default_factory=dict)


def config_entry(name: str, base_path: Path | str, entry: Entry = Entry(), platform: str = "tensorflow") -> str:
    """Return one `config` of a ModelServerConfig."""
    policy = f"model_version_policy {{ {entry.policy} }}" if entry.policy else ""
    labels = "".join(
        f' version_labels {{ key: "{label}" value: {version} }}' for label, version in entry.labels.items()
    )
    return f'config {{ name: "{name}" base_path: "{base_path}" model_platform: "{platform}" {policy}{labels} }}'


def config_text(entries: Iterable[str]) -> str:
    """Return a ModelServerConfig of `config` entries."""
    return "model_config_list {\n  " + "\n  ".join(entries) + "\n}\n"


#: The models of the default server.
MODELS = {
    "kinds": Entry(),
    "judge": Entry(),
    "modern": Entry(),
    "with default": Entry(),
    "steady": Entry("all {}", {"stable": 1, "canary": 2}),
    "newest": Entry(),
    "newest two": Entry("latest { num_versions: 2 }"),
    "chosen": Entry("specific { versions: 1 versions: 9 }"),
    "twin": Entry("all {}"),
    "swapped": Entry(),
    "pinned": Entry(),
    "rolled back": Entry(),
    "emptied": Entry(),
    "vanishing": Entry(),
    "broken": Entry(),
    "unfinished": Entry(),
    "spare": Entry(),
    "warm": Entry(),
    "warm a thousand times": Entry(),
    "cold not records": Entry(),
    "cold unparseable": Entry(),
    "cold too many": Entry(),
    "cold failing": Entry(),
}
#: batching_params.pbtxt of the models of a server that batches per model; None for a model that has none.
BATCHED = {
    "merged": "max_batch_size { value: 4 } batch_timeout_micros { value: 400000 }",
    "padded": "max_batch_size { value: 8 } batch_timeout_micros { value: 400000 } "
    "allowed_batch_sizes: 4 allowed_batch_sizes: 8",
    "variable": "max_batch_size { value: 2 } batch_timeout_micros { value: 2000000 } pad_variable_length_inputs: true",
    "split": "max_batch_size { value: 8 } enable_large_batch_splitting { value: true } "
    "max_execution_batch_size { value: 4 }",
    "full": "max_batch_size { value: 1 } max_enqueued_batches { value: 1 }",
    "plain": "",
    "unbatched": None,
}
#: Further models of that server, whose versions come and go.
CHANGING = ("contradicting", "fleeting", "warmed")
BATCHING = "max_batch_size { value: 4 } num_batch_threads { value: 1 }\n"
MONITORING = f'prometheus_config {{ enable: true path: "{METRICS_PATH}" }}\n'


class Folder:
    """Where the models and the configuration files lie.

    Attributes:
        path: of all.
        models: base paths of the default server's models, by their names.
        exports: models to publish while a server runs: `constant-N` and `witness`.
        marks: files that models write, and wait for.
    """

    def __init__(self, path: Path):
        self.path = path.resolve()
        self.models = self.path / "models"
        self.exports = self.path / "exports"
        self.marks = self.path / "marks"

    def constant(self, value: int) -> Path:
        """Return the export that answers `value`."""
        return self.exports / f"constant-{value}"

    def entries(self, **changed: Entry | None) -> list[str]:
        """Return the configuration of the default server's models, some changed, added or (None) left out."""
        models = {**MODELS, **changed}
        return [config_entry(name, self.models / name, entry) for name, entry in models.items() if entry is not None]

    def write(self) -> None:
        """Write everything."""
        for folder in (self.models, self.exports, self.marks):
            folder.mkdir(parents=True)
        for value in (1, 2, 3):
            save_constant(self.constant(value), float(value))
        save_module(Witness(), self.exports / "witness")
        save_kinds(self.exports / "kinds")
        self._write_models()
        self._write_batched()
        (self.path / "models.config").write_text(config_text(self.entries()))
        (self.path / "monitoring.config").write_text(MONITORING)
        (self.path / "batching.config").write_text(BATCHING)

    def _write_models(self) -> None:
        publish(self.exports / "kinds", self.models / "kinds", 7)
        publish(self.exports / "kinds", self.models / "pinned", 1)
        publish(self.exports / "witness", self.models / "modern", 1)
        save_judge(self.models / "judge" / "4")
        save_with_default(self.models / "with default" / "1")
        versions = {
            "steady": (1, 2, 3),
            "newest": (1, 2, "00000123", "best", "12x", "9223372036854775808"),
            "newest two": (1, 2, 3),
            "chosen": (1, 2),
            "twin": (5, "005"),
            "rolled back": (1, 2),
            "extra": (1, 2),
        }
        for name in {**MODELS, **versions}:
            for version in versions.get(name, (1,)):
                if not (self.models / name).is_dir() or name in versions:
                    value = version if version in (1, 2, 3) else 1
                    publish(self.constant(value), self.models / name, version)

    def _write_batched(self) -> None:
        save_module(Rows(), self.exports / "rows")
        publish(self.exports / "rows", self.path / "rows", 1)
        for name, parameters in BATCHED.items():
            version = publish(self.exports / "rows", self.path / "batched" / name, 1)
            if parameters is not None:
                (version / "batching_params.pbtxt").write_text(parameters)
        for name in CHANGING:
            publish(self.constant(1), self.path / "batched" / name, 1)
        entries = [config_entry(name, self.path / "batched" / name) for name in (*BATCHED, *CHANGING)]
        (self.path / "batched.config").write_text(config_text(entries))
        (self.path / "rows.config").write_text(config_text([config_entry("rows", self.path / "rows")]))


def default_flags(folder: Path) -> list[str]:
    """Return the flags of the server that most tests ask, without its ports."""
    return [
        f"--model_config_file={folder / 'models.config'}",
        f"--monitoring_config_file={folder / 'monitoring.config'}",
        "--allow_version_labels_for_unavailable_models=true",
        "--file_system_poll_wait_seconds=1",
        "--max_num_load_retries=0",
    ]


def main() -> None:
    """Write the folder that the command line names."""
    if len(sys.argv) != 2:
        sys.exit("usage: python tests/blackbox/models.py DIR")
    folder = Folder(Path(sys.argv[1]))
    if folder.path.is_dir() and any(folder.path.iterdir()):
        sys.exit(f"{folder.path} is not empty")
    folder.write()
    ports = ["--port=8500", "--rest_api_port=8501"]
    print(shlex.join(["tensorflow_model_server", *ports, *default_flags(folder.path)]))


if __name__ == "__main__":
    main()
