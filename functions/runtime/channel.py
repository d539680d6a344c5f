"""gRPC channels to Google services. The scheme of the endpoint's URL determines how a channel is secured."""

from urllib.parse import urlsplit

import grpc
import grpc.aio

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
"""The OAuth scope of all calls; IAM roles restrict what an account may do."""
OPTIONS: list[tuple[str, int]] = [
    # gRPC's own limit is 4 MiB; Datastore and Pub/Sub go up to 10 MiB.
    ("grpc.max_receive_message_length", 32 << 20),
    ("grpc.max_send_message_length", 32 << 20),
    # gRPC waits up to two minutes between attempts to connect; a function must notice at once that the service is
    # available again.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Despite its name, this is not a pause but the minimum duration of a connection attempt: MIN_CONNECT_TIMEOUT, 20 s
    # by default (https://github.com/grpc/grpc/blob/master/doc/connection-backoff.md). It is longer than the timeout of
    # a call, because an instance that has just resumed needs seconds for a TLS handshake; it is not much longer,
    # because an attempt that gets no answer at all should be abandoned and repeated.
    ("grpc.min_reconnect_backoff_ms", 5000),
]


def open_channel(endpoint: str) -> grpc.aio.Channel:
    """Open a channel inside the running event loop.

    Args:
        endpoint: an ``https`` URL for TLS with Google's default credentials, or an ``http`` URL for plaintext without
            credentials and without the environment's proxy.

    Raises:
        google.auth.exceptions.DefaultCredentialsError: the scheme is https, and this machine has no credentials.
    """
    parts = urlsplit(endpoint)
    if parts.scheme == "http":
        return grpc.aio.insecure_channel(parts.netloc, options=[*OPTIONS, ("grpc.enable_http_proxy", 0)])
    from google.api_core import grpc_helpers_async

    return grpc_helpers_async.create_channel(f"{parts.hostname}:{parts.port or 443}", scopes=[SCOPE], options=OPTIONS)
