"""An S3 server for tests: moto on a free port of 127.0.0.1, printed on stdout. `python -m tests.export.s3_server`.

One request at a time: moto looks and then writes, so that of two conditional writes at once both could be let in.
Two kinds of buckets stand for what real stores do: `old-...` knows no conditional writes, and `lossy-...` does what it
was asked to, but loses its answer to every first writing of a pointer.
"""

from collections.abc import Callable, Iterable
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

Start = Callable[..., Any]


class Quiet(WSGIRequestHandler):
    """Logs nothing."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing of a request."""


class Flaws:
    """Passes requests on, with the two flaws above."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._lost: set[str] = set()

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        """Answer a request."""
        path = str(environ["PATH_INFO"])
        if path.startswith("/old-"):
            environ.pop("HTTP_IF_NONE_MATCH", None)
        answer: Iterable[bytes] = self._app(environ, start)
        pointer = environ["REQUEST_METHOD"] == "PUT" and "/current/0" in path
        if pointer and path.startswith("/lossy-") and path not in self._lost:
            self._lost.add(path)
            list(answer)
            raise ConnectionAbortedError(path)  # the server closes the connection, having written
        return answer


def main() -> None:
    """Serve until killed."""
    app: Any = Flaws(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=False, request_handler=Quiet)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
