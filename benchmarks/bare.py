"""A gRPC server that answers at once, with ready-made bytes: what transport alone costs. `python -m benchmarks.bare`.

It has as many threads as the embedded server and speaks the same method.
"""

from __future__ import annotations

import argparse
import concurrent.futures

import grpc

from benchmarks.load import METHOD

_THREADS = 32


def main() -> None:
    """Serve until it is ended; prints the address first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bytes", type=int, default=2100, help="of each answer (2100, as those of 512 floats)")
    answer = bytes(parser.parse_args().bytes)
    _, service, name = METHOD.split("/")
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: answer)
    server = grpc.server(
        concurrent.futures.ThreadPoolExecutor(_THREADS),
        handlers=[grpc.method_handlers_generic_handler(service, {name: handler})],
    )
    print(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}", flush=True)
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
