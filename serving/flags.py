"""The flags of `python -m serving.server`, spelled as those of tensorflow_model_server where it has them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path

_INTEGER = re.compile(r"-?\d+", re.ASCII)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.server", description="Serve exported models over the TensorFlow Serving API."
    )
    parser.add_argument("--version", action="store_true", help="print the versions and exit")
    models = parser.add_mutually_exclusive_group()
    models.add_argument(
        "--model_base_path",
        type=Path,
        metavar="DIR",
        help="folder of models (DIR/NAME/VERSION), or of one model's versions (DIR/VERSION)",
    )
    models.add_argument(
        "--model_config_file", type=Path, metavar="FILE", help="ModelServerConfig in protobuf text format"
    )
    _add_model_flags(parser.add_argument_group("models").add_argument)
    _add_transport_flags(parser.add_argument_group("ports").add_argument)
    _add_work_flags(parser.add_argument_group("requests").add_argument)
    return parser


def _add_model_flags(add: Callable) -> None:
    """Which models and versions are served, and how they are loaded."""
    add("--model_name", metavar="NAME", help="serve only this model of the folder, or the one model under this name")
    add(
        "--file_system_poll_wait_seconds",
        type=_seconds,
        default=1.0,
        metavar="SECONDS",
        help="time between two looks for new versions (1); 0 looks once",
    )
    add(
        "--model_config_file_poll_wait_seconds",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="time between two readings of --model_config_file (0: never again)",
    )
    add(
        "--allow_version_labels_for_unavailable_models",
        **_SWITCH,
        help="let new labels name versions that are not loaded; a configuration with labels needs it at the start",
    )
    add(
        "--allowed_base_path",
        action="append",
        type=Path,
        default=[],
        metavar="DIR",
        help="let HandleReloadConfigRequest name models below this folder; may be repeated (those it started with)",
    )
    add("--max_num_load_retries", type=_count, default=0, metavar="N", help="of a version that does not load (0)")
    add(
        "--load_retry_interval_micros",
        type=_count,
        default=60_000_000,
        metavar="MICROSECONDS",
        help="between two of these attempts (60000000)",
    )
    add("--enable_model_warmup", **{**_SWITCH, "default": True}, help="replay a version's warm-up records (true)")
    add("--num_request_iterations_for_warmup", type=_positive, default=1, metavar="N", help="for each record (1)")
    add(
        "--saved_model_tags",
        type=lambda text: tuple(text.split(",")),
        default=("serve",),
        metavar="TAG,TAG",
        help="of the graph to load (serve)",
    )
    add(
        "--enable_signature_method_name_check",
        **_SWITCH,
        help="let Classify and Regress answer only signatures whose method_name is theirs",
    )
    add(
        "--import_module",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="import this first, for the operations that it registers; may be repeated",
    )
    add(
        "--op_library",
        action="append",
        type=Path,
        default=[],
        metavar="FILE",
        help="load this shared library of operations first; may be repeated",
    )


def _add_transport_flags(add: Callable) -> None:
    """How requests come in."""
    add(
        "--host",
        default="127.0.0.1",
        help="address to listen on (127.0.0.1); only --ssl_config_file can tell clients apart",
    )
    add("--port", type=_port, default=8500, help="gRPC port (8500); 0 picks a free one, which is logged")
    add("--grpc_socket_path", default="", metavar="FILE", help="Unix socket to listen on as well")
    add(
        "--grpc_channel_arguments",
        type=_arguments,
        default={},
        metavar="K=V,K=V",
        help="options of the gRPC server, as grpc.max_connection_age_ms=5000",
    )
    add(
        "--ssl_config_file",
        type=Path,
        metavar="FILE",
        help="SSLConfig in protobuf text format (PEM texts, not paths): encrypt --port",
    )
    add("--enable_grpc_healthcheck_service", **_SWITCH, help="answer grpc.health.v1 by whether all models are there")
    add("--rest_api_port", type=_port, default=0, help="port of the REST API (0: none); always plain HTTP")
    add("--rest_api_num_threads", type=_positive, default=32, metavar="N", help="REST requests at once (32)")
    add(
        "--rest_api_timeout_in_ms",
        type=_positive,
        default=30_000,
        metavar="MS",
        help="from the arrival of a REST request to its answer (30000)",
    )
    add("--demo", action="store_true", help="a search page on --rest_api_port")
    add(
        "--demo_index",
        action="append",
        type=Path,
        default=[],
        metavar="DIR",
        help="folder of python -m serving.index whose pictures the page shows; may be repeated",
    )
    add("--rest_api_enable_cors_support", **_SWITCH, help="let web pages of other origins ask")
    add(
        "--monitoring_config_file",
        type=Path,
        metavar="FILE",
        help="MonitoringConfig in protobuf text format: a Prometheus page on --rest_api_port",
    )
    add(
        "--enable_serialization_as_tensor_content",
        **_SWITCH,
        help="send answers as raw bytes, which is faster, but which clients that read float_val do not see",
    )


def _add_work_flags(add: Callable) -> None:
    """How much is done at once, and what one request may ask for."""
    add("--grpc_max_threads", type=_positive, default=32, metavar="N", help="requests worked on at once (32)")
    add("--max_request_bytes", type=_positive, default=2**27, metavar="N", help=f"of one request ({2**27})")
    add("--max_image_bytes", type=_positive, metavar="N", help="of one encoded image")
    add("--max_image_pixels", type=_positive, metavar="N", help="of one encoded image")
    for name, what in (
        ("intra_op", "within an operation"),
        ("inter_op", "between operations"),
        ("session", "of both kinds, where they are not given"),
    ):
        add(
            f"--tensorflow_{name}_parallelism",
            type=_count,
            default=0,
            metavar="N",
            help=f"TensorFlow's threads {what} (0: one a processor)",
        )
    add("--enable_batching", **_SWITCH, help="merge requests that wait for the same signature into one run")
    add(
        "--batching_parameters_file",
        type=Path,
        metavar="FILE",
        help="BatchingParameters in protobuf text format, for --enable_batching",
    )
    add(
        "--enable_per_model_batching_parameters",
        **_SWITCH,
        help="batch the versions that have a batching_params.pbtxt in their folder, as it says",
    )
    add(
        "--shutdown_grace_seconds",
        type=_seconds,
        default=30.0,
        metavar="SECONDS",
        help="time that running requests get when the server is told to end (30)",
    )


def _seconds(text: str) -> float:
    value = float(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected 0 or more seconds, got {text}")
    return value


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"expected 0 to 65535, got {text}")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {text}")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected 0 or more, got {text}")
    return value


def _arguments(text: str) -> dict[str, int | str]:
    pairs = [pair.partition("=") for pair in text.split(",") if pair]
    if not all(name and equals for name, equals, _ in pairs):
        raise argparse.ArgumentTypeError(f"expected k=v,k=v, got {text!r}")
    return {name: int(value) if _INTEGER.fullmatch(value) else value for name, _, value in pairs}


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")
    return text.lower() in ("true", "1")


# Given alone it is true, as in tensorflow_model_server.
_SWITCH = dict(type=_truth, nargs="?", const=True, default=False, metavar="BOOL")
