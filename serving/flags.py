"""The flags of `python -m serving.server`, spelled as those of tensorflow_model_server where it has them."""

from __future__ import annotations

import argparse
from pathlib import Path


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.server", description="Serve exported models over the TensorFlow Serving API."
    )
    add = parser.add_argument
    models = parser.add_mutually_exclusive_group(required=True)
    models.add_argument(
        "--model_base_path",
        type=Path,
        metavar="DIR",
        help="folder of models (DIR/NAME/VERSION), or of one model's versions (DIR/VERSION)",
    )
    models.add_argument(
        "--model_config_file", type=Path, metavar="FILE", help="ModelServerConfig in protobuf text format"
    )
    add("--model_name", metavar="NAME", help="serve only this model of the folder, or the one model under this name")
    add("--host", default="127.0.0.1", help="address to listen on (127.0.0.1); there is no authentication")
    add("--port", type=_port, default=8500, help="gRPC port (8500); 0 picks a free one, which is logged")
    add(
        "--file_system_poll_wait_seconds",
        type=_seconds,
        default=1.0,
        metavar="SECONDS",
        help="time between two looks for new versions (1); 0 looks once",
    )
    add(
        "--import_module",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="import this first, for the operations that it registers; may be repeated",
    )
    add(
        "--enable_serialization_as_tensor_content",
        type=_truth,
        nargs="?",
        const=True,
        default=False,
        metavar="BOOL",
        help="send answers as raw bytes, which is faster, but which clients that read float_val do not see",
    )
    add("--grpc_max_threads", type=_positive, default=32, metavar="N", help="requests worked on at once (32)")
    add("--max_request_bytes", type=_positive, default=2**27, metavar="N", help=f"of one request ({2**27})")
    add("--max_image_bytes", type=_positive, metavar="N", help="of one encoded image")
    add("--max_image_pixels", type=_positive, metavar="N", help="of one encoded image")
    add(
        "--shutdown_grace_seconds",
        type=_seconds,
        default=30.0,
        metavar="SECONDS",
        help="time that running requests get when the server is told to end (30)",
    )
    return parser


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


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")
    return text.lower() in ("true", "1")
