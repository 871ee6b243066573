"""Loading: warm-up records, operation libraries, defaults, encoded images."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from serving.errors import ServingError
from serving.image_inputs import ImageLimits
from serving.servable import Limits, Servable
from tfthesis.data.images import decode
from tfthesis.encoders import open_encoder
from tfthesis.export.manifest import write_manifest

Code = grpc.StatusCode
LIMITS = Limits(tensor_bytes=2**20, images=ImageLimits(max_bytes=5_000, max_pixels=10_000))


def load(path, limits=LIMITS) -> Servable:
    return Servable("model", 1, path, limits)


def request_of(signature="serving_default", **inputs) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest(model_spec={"name": "recorded", "signature_name": signature})
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def copy(export, tmp_path):
    return shutil.copytree(export, tmp_path / "copy")


class TestWarmUp:
    def write(self, export, *records: bytes):
        folder = export / "assets.extra"
        folder.mkdir(exist_ok=True)
        with tf.io.TFRecordWriter(str(folder / "tf_serving_warmup_requests")) as writer:
            for record in records:
                writer.write(record)
        return export

    def record(self, **request) -> bytes:
        log = prediction_log_pb2.PredictLog(request=request_of(**request))
        return prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString()

    def test_records_are_replayed(self, everything, tmp_path, caplog):
        caplog.set_level("INFO")
        record = self.record(x=np.ones((1, 1), np.float32))
        load(self.write(copy(everything, tmp_path), record, record)).close()
        assert "2 warm-up requests" in caplog.text

    def test_failing_record_fails_the_load(self, everything, tmp_path):
        good, bad = self.record(x=np.ones((1, 1), np.float32)), self.record(signature="nothing")
        with pytest.raises(ServingError, match="warm-up request 1: Serving signature key") as caught:
            load(self.write(copy(everything, tmp_path), good, bad))
        assert caught.value.code is Code.FAILED_PRECONDITION

    def test_file_that_is_no_tfrecord_is_data_loss(self, everything, tmp_path):
        export = self.write(copy(everything, tmp_path))
        (export / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"certainly not a record file")
        with pytest.raises(ServingError) as caught:
            load(export)
        assert caught.value.code is Code.DATA_LOSS

    def test_record_that_is_no_log_is_invalid(self, everything, tmp_path):
        with pytest.raises(ServingError, match="record 0 is not a PredictionLog") as caught:
            load(self.write(copy(everything, tmp_path), b"\xff\xff"))
        assert caught.value.code is Code.INVALID_ARGUMENT

    def test_too_many_records_are_invalid(self, everything, tmp_path):
        record = self.record(x=np.ones((1, 1), np.float32))
        with pytest.raises(ServingError, match="at most 1000 records"):
            load(self.write(copy(everything, tmp_path), *[record] * 1001))


class TestOperationLibraries:
    def rename_operation(self, export, old: str, new: str):
        """Let the export use an operation that does not exist."""
        model = saved_model_pb2.SavedModel.FromString((export / "saved_model.pb").read_bytes())
        graph = model.meta_graphs[0].graph_def
        for node in [node for function in graph.library.function for node in function.node_def]:
            node.op = new if node.op == old else node.op
        (export / "saved_model.pb").write_bytes(model.SerializeToString())
        return export

    def test_unknown_operation_is_named_with_what_to_do(self, everything, tmp_path):
        export = self.rename_operation(copy(everything, tmp_path), "MatMul", "Acme>MatMul")
        with pytest.raises(ServingError, match="'Acme>MatMul'.*--import_module") as caught:
            load(export)
        assert caught.value.code is Code.NOT_FOUND

    def test_package_that_is_not_installed_is_named(self, everything, tmp_path, monkeypatch):
        export = self.rename_operation(copy(everything, tmp_path), "MatMul", "Scann>MatMul")
        monkeypatch.setitem(__import__("sys").modules, "scann", None)
        with pytest.raises(ServingError, match="'Scann>MatMul' needs the package scann"):
            load(export)

    def test_tensorflow_text_and_scann_are_imported_where_needed(
        self, start_process, published, stub_of, tmp_path, searcher
    ):
        """In a new process, where nobody has imported them."""
        published(searcher, tmp_path / "searcher", 1)
        stub = stub_of(start_process("--model_base_path", tmp_path).port())
        response = stub.predict("searcher", {"text": [b"Row 7"]})
        assert list(response.outputs["lower"].string_val) == [b"row 7"]
        assert response.outputs["row"].int_val[0] == 7


@pytest.fixture(scope="module")
def searcher(tmp_path_factory):
    """An export with operations of both packages: the number in a text finds the row of a ScaNN index."""
    scann = pytest.importorskip("scann")
    text = pytest.importorskip("tensorflow_text")
    rows = np.random.default_rng(0).normal(size=(200, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)

    module = tf.Module()
    module.rows = tf.Variable(rows)
    index = scann.scann_ops.builder(rows, 5, "dot_product").score_brute_force().build()
    module.index = index.serialize_to_module()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def search(text_):
        lower = text.case_fold_utf8(text_)
        number = tf.strings.to_number(tf.strings.regex_replace(lower, r"\D", ""), tf.int32)
        searcher = scann.scann_ops.searcher_from_module(module.index)
        neighbours, _ = searcher.search_batched(tf.gather(module.rows, number), final_num_neighbors=5)
        return {"lower": lower, "row": neighbours}

    folder = tmp_path_factory.mktemp("searcher") / "model"
    options = tf.saved_model.SaveOptions(namespace_whitelist=["Scann"])
    tf.saved_model.save(module, str(folder), signatures=search, options=options)
    return folder


def test_input_with_a_default_may_be_left_out(everything, tmp_path):
    export = copy(everything, tmp_path)
    model = saved_model_pb2.SavedModel.FromString((export / "saved_model.pb").read_bytes())
    definition = model.meta_graphs[0].signature_def["add"]
    definition.defaults["b"].CopyFrom(tf.make_tensor_proto([10, 20], tf.int64))
    (export / "saved_model.pb").write_bytes(model.SerializeToString())
    servable = load(export)
    a = np.array([1.0, 2.0], np.float32)
    assert list(servable.predict(request_of("add", a=a)).outputs["sum"].float_val) == [11.0, 22.0]
    answer = servable.predict(request_of("add", a=a, b=np.array([1, 1])))
    assert list(answer.outputs["sum"].float_val) == [2.0, 3.0]
    with pytest.raises(ServingError, match="Sent extra: {c}. Missing but required: {}"):
        servable.predict(request_of("add", a=a, c=a))
    servable.close()


class TestImages:
    @pytest.fixture(scope="class")
    def photos(self, tmp_path_factory):
        """An export that takes encoded images, with a manifest."""
        module = tf.Module()

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image")])
        def size(image):
            return {"size": tf.strings.length(image)}

        folder = tmp_path_factory.mktemp("photos") / "model"
        tf.saved_model.save(module, str(folder), signatures=size)
        write_manifest(folder, {})
        servable = load(folder)
        yield servable
        servable.close()

    def png(self, width: int, height: int) -> bytes:
        return tf.io.encode_png(np.zeros((height, width, 3), np.uint8)).numpy()

    def ask(self, servable, *images: bytes):
        return list(servable.predict(request_of(image=np.array(images, object))).outputs["size"].int_val)

    def test_images_within_the_limits_pass(self, photos):
        image = self.png(100, 100)
        assert self.ask(photos, image, image) == [len(image)] * 2

    @pytest.mark.parametrize(
        ("kind", "code", "message"),
        [
            ("many pixels", Code.RESOURCE_EXHAUSTED, "at most 10000 pixels"),
            ("many bytes", Code.RESOURCE_EXHAUSTED, "at most 5000 bytes"),
            ("empty", Code.INVALID_ARGUMENT, "empty"),
            ("text", Code.INVALID_ARGUMENT, "hello"),
            ("long text", Code.INVALID_ARGUMENT, "at most 5000 bytes"),
        ],
    )
    def test_bad_image_is_refused_by_name_and_row(self, photos, kind, code, message):
        bad = {
            "many pixels": self.png(200, 51),
            "many bytes": self.png(10, 10) + b"\0" * 5000,
            "empty": b"",
            "text": b"hello there",
            "long text": b"hello" * 2000,
        }[kind]
        with pytest.raises(ServingError, match=message) as caught:
            self.ask(photos, self.png(10, 10), bad)
        assert caught.value.code is code
        assert caught.value.message.startswith("input 'image', row 1: ")

    def test_inputs_whose_names_end_in_image_are_images_too(self, tmp_path):
        module, spec = tf.Module(), tf.TensorSpec([None], tf.string)

        @tf.function(input_signature=[spec, spec])
        def lengths(first_image, joints_file):
            return {"size": tf.strings.length(first_image) + tf.strings.length(joints_file)}

        tf.saved_model.save(module, str(tmp_path / "model"), signatures=lengths)
        write_manifest(tmp_path / "model", {})
        servable = load(tmp_path / "model")
        texts, image = np.array([b"1 2"], object), self.png(9, 9)
        found = servable.predict(request_of(first_image=np.array([image], object), joints_file=texts))
        assert list(found.outputs["size"].int_val) == [len(image) + 3]
        with pytest.raises(ServingError, match="^input 'first_image', row 0: ") as caught:
            servable.predict(request_of(first_image=texts, joints_file=texts))
        assert caught.value.code is Code.INVALID_ARGUMENT
        servable.close()

    def test_what_the_model_refuses_is_told_without_names_of_operations(self, tmp_path):
        encoder = open_encoder("pixels_patches")
        module = tf.Module()
        module.encoder = encoder.trackables()
        spec = tf.TensorSpec([None], tf.string, name="image")
        encode = tf.function(lambda image: {"size": tf.shape(encoder(image))[1:]}, input_signature=[spec])
        tf.saved_model.save(module, str(tmp_path / "theirs"), signatures=encode)
        shutil.copytree(tmp_path / "theirs", tmp_path / "ours")
        write_manifest(tmp_path / "ours", {})
        ours, theirs = load(tmp_path / "ours"), load(tmp_path / "theirs")
        assert self.ask(ours, self.png(3, 3)) == self.ask(theirs, self.png(3, 3)) == [14 * 64]
        with pytest.raises(ServingError) as caught:
            self.ask(ours, self.png(9, 9), self.png(40, 2))
        assert caught.value.code is Code.INVALID_ARGUMENT
        expected = "image: expected at least 3 pixels along each side, to cut it into patches, got height and width "
        assert caught.value.message == f"{expected}[2 40]"
        # Of a model of others the names may be all that its maker knows it by.
        with pytest.raises(ServingError, match=r"^assertion failed: (.|\n)*\{\{node "):
            self.ask(theirs, self.png(40, 2))
        ours.close()
        theirs.close()

    def test_an_image_that_does_not_decode_is_named_without_names_of_operations(self, tmp_path):
        module, spec = tf.Module(), tf.TensorSpec([None], tf.string, name="image")
        decoded = tf.function(lambda image: {"size": tf.size(decode(image[1]))[None]}, input_signature=[spec])
        tf.saved_model.save(module, str(tmp_path / "model"), signatures=decoded)
        write_manifest(tmp_path / "model", {})
        servable = load(tmp_path / "model")
        whole = self.png(30, 30)
        with pytest.raises(ServingError) as caught:
            self.ask(servable, whole, whole[:-30])
        reason = f"it does not decode, it is damaged or cut off (Invalid PNG data, size {len(whole) - 30})"
        assert caught.value.message == f"input 'image', row 1: image: {reason}"
        servable.close()

    def test_model_of_others_may_mean_something_else_by_image(self, tmp_path):
        module = tf.Module()

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image")])
        def size(image):
            return {"size": tf.strings.length(image)}

        tf.saved_model.save(module, str(tmp_path / "model"), signatures=size)
        servable = load(tmp_path / "model")
        assert self.ask(servable, b"a/path/in/a/bucket.png") == [22]
        servable.close()


def test_export_of_other_package_versions_is_warned_about(everything, tmp_path, caplog):
    export = copy(everything, tmp_path)
    write_manifest(export, {"versions": {"tensorflow": "1.15.0", "numpy": np.__version__, "no-such-package": "1.0"}})
    load(export).close()
    assert "model version 1 was exported with tensorflow 1.15.0, here " in caplog.text
    assert caplog.text.count("was exported with") == 1


def test_closed_versions_give_their_memory_back(tmp_path):
    """Eight loads of 40 MB, one after another, must not add up."""
    module = tf.Module()
    module.rows = tf.Variable(tf.zeros([10_000_000]))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def first(x):
        return {"y": x + module.rows[0]}

    tf.saved_model.save(module, str(tmp_path / "model"), signatures=first)
    load(tmp_path / "model").close()
    before = resident()
    for _ in range(8):
        load(tmp_path / "model").close()
    assert resident() - before < 3 * 40e6


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
