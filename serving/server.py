"""Serve exported models over the TensorFlow Serving API: `python -m serving.server --model_base_path saved_models`.

Exit codes: 0 ended by SIGTERM or
SIGINT, 1 a model does not load, 2 wrong arguments, 3 the port cannot be had.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from serving.flags import make_parser
from tfthesis.errors import UserError

if TYPE_CHECKING:
    from serving.config import Catalogue
    from serving.embedded import Options

OK, LOAD_FAILED, USAGE, NO_PORT = 0, 1, 2, 3

logger = logging.getLogger("serving.server")


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; a second signal ends the process at once."""
    parser = make_parser()
    arguments = parser.parse_args(argv)
    if arguments.version:
        print(_versions())
        return OK
    if arguments.model_base_path is None and arguments.model_config_file is None:
        parser.error("one of the arguments --model_base_path --model_config_file is required")
    if arguments.model_config_file is not None and arguments.model_name:
        parser.error("--model_name goes with --model_base_path; a --model_config_file names its models itself")
    if arguments.rest_api_port and arguments.rest_api_port == arguments.port:
        parser.error(f"--rest_api_port and --port: expected two ports, got {arguments.port} twice")
    if arguments.monitoring_config_file is not None and not arguments.rest_api_port:
        parser.error("--monitoring_config_file needs --rest_api_port, which has the page")
    if arguments.demo and not arguments.rest_api_port:
        parser.error("--demo needs --rest_api_port, which has the page")
    if arguments.demo_index and not arguments.demo:
        parser.error("--demo_index needs --demo")
    if arguments.batching_parameters_file is not None and not arguments.enable_batching:
        parser.error("--batching_parameters_file needs --enable_batching")
    if arguments.enable_per_model_batching_parameters and not arguments.enable_batching:
        parser.error("--enable_per_model_batching_parameters needs --enable_batching")
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    # It warns of every request that waits for a thread, which is what a busy server does.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
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


def _versions() -> str:
    names = ("tfthesis", "tensorflow", "tensorflow-serving-api", "tensorflow-text", "scann")
    return "\n".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def _serve(arguments: argparse.Namespace, stop: threading.Event) -> int:
    # TensorFlow is imported only now: --help and wrong arguments answer at once.
    # Its log on standard error repeats what arrives here as exceptions, and alarms those who have no GPU.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    from serving.embedded import EmbeddedServer, PortError
    from serving.loader import StartError

    tf.get_logger().setLevel(logging.ERROR)
    _register_operations(arguments)
    catalogue = _catalogue(arguments)
    server = EmbeddedServer(catalogue, _options(catalogue, arguments))
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


def _catalogue(arguments: argparse.Namespace) -> Catalogue:
    from serving.config import catalogue_below, catalogue_of_file

    if arguments.model_config_file is not None:
        return catalogue_of_file(arguments.model_config_file)
    return catalogue_below(arguments.model_base_path, arguments.model_name)


def _options(catalogue: Catalogue, arguments: argparse.Namespace) -> Options:
    from serving.batching import Batching, read_batching
    from serving.embedded import Options
    from serving.image_inputs import ImageLimits
    from serving.loader import Retries
    from serving.metrics import read_path
    from serving.rest.http import RestOptions
    from serving.tls import read_credentials

    batching = None
    if arguments.enable_batching:
        file = arguments.batching_parameters_file
        batching = read_batching(file) if file else Batching()
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
        credentials=read_credentials(arguments.ssl_config_file) if arguments.ssl_config_file else None,
        socket_path=arguments.grpc_socket_path,
        channel_arguments=arguments.grpc_channel_arguments,
        health=arguments.enable_grpc_healthcheck_service,
        allowed_base_paths=arguments.allowed_base_path or _folders(catalogue, arguments),
        label_unavailable=arguments.allow_version_labels_for_unavailable_models,
        config_file=arguments.model_config_file,
        config_poll_seconds=arguments.model_config_file_poll_wait_seconds,
        retries=Retries(arguments.max_num_load_retries, arguments.load_retry_interval_micros / 1e6),
        warm_up_rounds=arguments.num_request_iterations_for_warmup if arguments.enable_model_warmup else 0,
        batching=batching,
        rest_port=arguments.rest_api_port or None,
        rest=RestOptions(
            arguments.rest_api_num_threads,
            arguments.rest_api_timeout_in_ms / 1e3,
            cors=arguments.rest_api_enable_cors_support,
        ),
        metrics_path=read_path(arguments.monitoring_config_file) if arguments.monitoring_config_file else None,
        parallelism=(
            arguments.tensorflow_intra_op_parallelism or arguments.tensorflow_session_parallelism,
            arguments.tensorflow_inter_op_parallelism or arguments.tensorflow_session_parallelism,
        ),
        tags=arguments.saved_model_tags,
        check_method_names=arguments.enable_signature_method_name_check,
        demo_indexes=arguments.demo_index if arguments.demo else None,
        model_batching=arguments.enable_per_model_batching_parameters,
    )


def _folders(catalogue: Catalogue, arguments: argparse.Namespace) -> list[Path]:
    """Return the folders that the first models lie in."""
    if arguments.model_base_path is not None:
        return [arguments.model_base_path]
    return [config.base_path.parent for config in catalogue.models()]


def _register_operations(arguments: argparse.Namespace) -> None:
    from serving.op_libraries import import_modules, load_libraries

    try:
        import_modules(arguments.import_module)
    except ImportError as error:
        raise UserError(f"--import_module: {error}") from error
    try:
        load_libraries(arguments.op_library)
    except OSError as error:
        raise UserError(f"--op_library: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
