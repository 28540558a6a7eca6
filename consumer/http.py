"""A tiny server on loopback: /metrics, /healthz (does the loop turn?), /readyz (does it serve?)."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from prometheus_client import CollectorRegistry, generate_latest

STUCK_SECONDS = 120.0


class Health:
    """What the loop says of itself; written by the loop, read by the server."""

    def __init__(self) -> None:
        self.turned_at: float | None = None
        """None: the loop has not begun; what comes before it (a registry that is away, a download) may take long."""
        self.ready = False
        self.reason = "starting"

    def turn(self) -> None:
        """Note that the loop turns."""
        self.turned_at = time.monotonic()

    def say(self, ready: bool, reason: str) -> None:
        """Note whether lists are served now, and why not."""
        self.ready, self.reason = ready, reason

    @property
    def alive(self) -> bool:
        """Whether the loop turned lately, or has not begun; says nothing of the broker."""
        return self.turned_at is None or time.monotonic() - self.turned_at < STUCK_SECONDS


class Server:
    """Serves until closed; a context manager."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry, health: Health) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, kind, body = answer(self.path, registry, health)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing: probes come every second."""

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def answer(path: str, registry: CollectorRegistry, health: Health) -> tuple[int, str, bytes]:
    """Return status, content type and body of a GET."""
    plain = "text/plain; charset=utf-8"
    match path.partition("?")[0]:
        case "/metrics":
            return 200, "text/plain; version=0.0.4; charset=utf-8", generate_latest(registry)
        case "/healthz":
            return (200, plain, b"ok\n") if health.alive else (503, plain, b"the loop does not turn\n")
        case "/readyz":
            return (200 if health.ready else 503), plain, f"{health.reason}\n".encode()
    return 404, plain, b"there are /metrics, /healthz, /readyz\n"
