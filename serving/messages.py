"""Configuration messages of TensorFlow Serving that its Python package leaves out.

Built from descriptors with the field names of its .proto files, so that text files written for
tensorflow_model_server are read as they are.
"""

from __future__ import annotations

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {"string": _Field.TYPE_STRING, "bool": _Field.TYPE_BOOL, "int64": _Field.TYPE_INT64}
#: Fields of each message: name, type, and whether there may be many; a type with a capital is a wrapped number.
_MESSAGES = {
    "SSLConfig": [
        ("server_key", "string", False),
        ("server_cert", "string", False),
        ("custom_ca", "string", False),
        ("client_verify", "bool", False),
    ],
    "PrometheusConfig": [("enable", "bool", False), ("path", "string", False)],
    "MonitoringConfig": [("prometheus_config", ".tfthesis_serving.PrometheusConfig", False)],
    "BatchingParameters": [
        ("max_batch_size", "Int64Value", False),
        ("batch_timeout_micros", "Int64Value", False),
        ("max_enqueued_batches", "Int64Value", False),
        ("num_batch_threads", "Int64Value", False),
        ("thread_pool_name", "StringValue", False),
        ("allowed_batch_sizes", "int64", True),
        ("pad_variable_length_inputs", "bool", False),
        ("enable_large_batch_splitting", "BoolValue", False),
        ("max_execution_batch_size", "Int64Value", False),
    ],
}


def _describe() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="tfthesis_serving/messages.proto",
        package="tfthesis_serving",
        syntax="proto3",
        dependency=[wrappers_pb2.DESCRIPTOR.name],
    )
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for number, (name, kind, is_many) in enumerate(fields, 1):
            field = described.field.add(
                name=name, number=number, label=_Field.LABEL_REPEATED if is_many else _Field.LABEL_OPTIONAL
            )
            if kind in _SCALARS:
                field.type = _SCALARS[kind]
            else:
                full_name = kind if kind.startswith(".") else f".google.protobuf.{kind}"
                field.type, field.type_name = _Field.TYPE_MESSAGE, full_name
    return file


# A pool of its own: another package in the process may bring the original messages.
_POOL = descriptor_pool.DescriptorPool()
_POOL.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
_POOL.Add(_describe())


def _message(name: str) -> type:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"tfthesis_serving.{name}"))


SSLConfig = _message("SSLConfig")
BatchingParameters = _message("BatchingParameters")
MonitoringConfig = _message("MonitoringConfig")
