"""A gRPC channel to a Google service, by its endpoint URL. The URL's scheme decides how it is secured."""

from urllib.parse import urlsplit

import grpc
import grpc.aio

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
OPTIONS: list[tuple[str, int]] = [
    # gRPC's own limit is 4 MiB; Datastore and Pub/Sub go up to 10 MiB.
    ("grpc.max_receive_message_length", 32 << 20),
    ("grpc.max_send_message_length", 32 << 20),
    # gRPC waits up to two minutes between attempts to connect; a function must notice at once that
    # the service is back.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # No pause, whatever it is called, but the least time that an attempt is given: its MIN_CONNECT_TIMEOUT, 20 s if it
    # is not set (https://github.com/grpc/grpc/blob/master/doc/connection-backoff.md). Longer than a call of ours waits,
    # for an instance that has just been woken takes seconds for a TLS handshake; not much longer, for an attempt that
    # gets no answer at all is to be given up and made anew.
    ("grpc.min_reconnect_backoff_ms", 5000),
]


def open_channel(endpoint: str) -> grpc.aio.Channel:
    """Open a channel inside the running event loop.

    ``https``: TLS with Google's default credentials. ``http``: plaintext, without credentials and without the
    environment's proxy.

    Raises:
        google.auth.exceptions.DefaultCredentialsError: https, and no credentials on this machine.
    """
    parts = urlsplit(endpoint)
    if parts.scheme == "http":
        return grpc.aio.insecure_channel(parts.netloc, options=[*OPTIONS, ("grpc.enable_http_proxy", 0)])
    from google.api_core import grpc_helpers_async

    return grpc_helpers_async.create_channel(f"{parts.hostname}:{parts.port or 443}", scopes=[SCOPE], options=OPTIONS)
