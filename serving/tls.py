"""Encrypted transport: what `--ssl_config_file` says, checked before the port opens.

A server whose key does not fit must not start in plain text, nor start and refuse every handshake.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Iterator
from pathlib import Path

import grpc
from google.protobuf import text_format

from serving.messages import SSLConfig
from tfthesis.errors import UserError


def read_credentials(path: Path) -> grpc.ServerCredentials:
    """Return the credentials of an `SSLConfig` in protobuf text format; its keys and certificates are PEM texts.

    Raises:
        UserError: the file cannot be read, or key, certificate or authority are missing or do not fit.
    """
    where = f"--ssl_config_file {path}"
    try:
        config = text_format.Parse(path.read_text(encoding="utf-8"), SSLConfig())
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise UserError(f"{where}: {error}") from error
    for field in ("server_key", "server_cert"):
        if not getattr(config, field):
            raise UserError(f"{where}: {field} is missing; it holds PEM text, not a path")
    if config.client_verify and not config.custom_ca:
        raise UserError(f"{where}: client_verify needs custom_ca, the authority that signed the clients' certificates")
    try:
        _check(config.server_key, config.server_cert, config.custom_ca)
    except (ssl.SSLError, ValueError) as error:
        raise UserError(f"{where}: key, certificate or authority cannot be used: {error}") from error
    return grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        root_certificates=config.custom_ca.encode() or None,
        require_client_auth=config.client_verify,
    )


def _check(key: str, certificate: str, authority: str) -> None:
    """Let OpenSSL load the three, which gRPC would do only at the first handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with _in_memory(certificate) as certificate_path, _in_memory(key) as key_path:
        context.load_cert_chain(certificate_path, key_path, password=_no_password)
    if authority:
        context.load_verify_locations(cadata=authority)


def _no_password() -> str:
    raise ValueError("server_key is encrypted; expected a key without a password")


@contextlib.contextmanager
def _in_memory(text: str) -> Iterator[str]:
    """Yield the path of a file that holds `text` and never touches a disk."""
    descriptor = os.memfd_create("pem")
    try:
        with os.fdopen(os.dup(descriptor), "w", encoding="utf-8") as file:
            file.write(text)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
