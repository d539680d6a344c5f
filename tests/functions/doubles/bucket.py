"""A bucket over HTTP, as far as Google's client reads objects from it; it can be slow, broken or away."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


class Bucket:
    """``url`` is for STORAGE_EMULATOR_HOST. Objects are ``files["<bucket>/<path>"]``."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.reads: list[str] = []
        self.open = threading.Event()
        """Cleared: every read waits until it is set."""
        self.open.set()
        self.url = ""

    @contextmanager
    def serving(self) -> Iterator["Bucket"]:
        """Listen on a free port of the loopback interface."""
        bucket = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                _, _, rest = urlsplit(self.path).path.partition("/b/")
                name, _, path = rest.partition("/o/")
                key = f"{name}/{unquote(path)}"
                bucket.reads.append(key)
                bucket.open.wait(60)
                content = bucket.files.get(key)
                self.send_response(200 if content is not None else 404)
                body = content if content is not None else b"No such object"
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Content-Type", "application/octet-stream")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.open.set()
            server.shutdown()
            server.server_close()
