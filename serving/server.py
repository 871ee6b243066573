"""Serve exported models over the TensorFlow Serving API: `python -m serving.server --model_base_path saved_models`.

Flags are spelled as those of tensorflow_model_server where it has them. Exit codes: 0 ended by SIGTERM or
SIGINT, 1 a model does not load, 2 wrong arguments, 3 the port cannot be had.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from tfthesis.errors import UserError

OK, LOAD_FAILED, USAGE, NO_PORT = 0, 1, 2, 3

logger = logging.getLogger("serving.server")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m serving.server", description=__doc__.split(":")[0] + ".")
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


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; a second signal ends the process at once."""
    parser = make_parser()
    arguments = parser.parse_args(argv)
    if arguments.model_config_file is not None and arguments.model_name:
        parser.error("--model_name goes with --model_base_path; a --model_config_file names its models itself")
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    stop = threading.Event()

    def on_signal(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    try:
        return _serve(arguments, stop)
    except UserError as error:
        logger.error("%s", error)
        return USAGE


def _serve(arguments: argparse.Namespace, stop: threading.Event) -> int:
    # TensorFlow is imported only now: --help and wrong arguments answer at once.
    # Its log on standard error repeats what arrives here as exceptions, and alarms those who have no GPU.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    from serving.embedded import EmbeddedServer, PortError
    from serving.loader import StartError

    tf.get_logger().setLevel(logging.ERROR)
    _import_modules(arguments.import_module)
    server = EmbeddedServer(_catalogue(arguments), _options(arguments))
    code = OK
    try:
        if server.start(stop):
            stop.wait()
            logger.info("stopping: waiting for running requests")
    except PortError as error:
        logger.error("%s; is another server running? Choose another --port", error)
        code = NO_PORT
    except StartError as error:
        logger.error("Failed to start server. %s", error)
        code = LOAD_FAILED
    if not server.stop():
        # A load or a request that does not end would keep the process; nothing of it is worth waiting for.
        logger.warning("stopped with work unfinished")
        logging.shutdown()
        os._exit(code)
    logger.info("stopped")
    return code


def _catalogue(arguments: argparse.Namespace):
    from serving.config import catalogue_below, catalogue_of_file

    if arguments.model_config_file is not None:
        return catalogue_of_file(arguments.model_config_file)
    return catalogue_below(arguments.model_base_path, arguments.model_name)


def _options(arguments: argparse.Namespace):
    from serving.embedded import Options
    from serving.image_inputs import ImageLimits

    default = ImageLimits()
    return Options(
        host=arguments.host,
        port=arguments.port,
        poll_seconds=arguments.file_system_poll_wait_seconds,
        threads=arguments.grpc_max_threads,
        max_request_bytes=arguments.max_request_bytes,
        images=ImageLimits(
            arguments.max_image_bytes or default.max_bytes, arguments.max_image_pixels or default.max_pixels
        ),
        as_content=arguments.enable_serialization_as_tensor_content,
        grace_seconds=arguments.shutdown_grace_seconds,
    )


def _import_modules(names: Sequence[str]) -> None:
    from serving.op_libraries import import_modules

    try:
        import_modules(names)
    except ImportError as error:
        raise UserError(f"--import_module: {error}") from error


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


if __name__ == "__main__":
    sys.exit(main())
