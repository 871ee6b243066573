"""Configuration messages of TensorFlow Serving that its Python package leaves out.

Built from descriptors with the names and numbers of its .proto files, so that text files written for
tensorflow_model_server are read as they are.
"""

from __future__ import annotations

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_BOOL = descriptor_pb2.FieldDescriptorProto.TYPE_BOOL
_STRING = descriptor_pb2.FieldDescriptorProto.TYPE_STRING
_OPTIONAL = descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL


def _describe() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="tfthesis_serving/messages.proto", package="tfthesis_serving", syntax="proto3"
    )
    ssl_config = file.message_type.add(name="SSLConfig")
    for number, (name, kind) in enumerate(
        [("server_key", _STRING), ("server_cert", _STRING), ("custom_ca", _STRING), ("client_verify", _BOOL)], 1
    ):
        ssl_config.field.add(name=name, number=number, type=kind, label=_OPTIONAL)
    return file


# A pool of its own: another package in the process may bring the original messages.
_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(_describe())


def _message(name: str) -> type:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"tfthesis_serving.{name}"))


SSLConfig = _message("SSLConfig")
