"""S3 as a process: moto behind a door that verifies checksums, which moto does not, and can be told to fail.

``python -m tests.servers.s3_app PORT``. ``PUT /_fault/NAME`` arms a fault for the next request that it fits:
``corrupt``: one byte of a body turns over on its way in; ``corrupt-unseen``: the same behind the check;
``no-checksums``: none are kept from now on, as by older stores; ``deaf``: a naming request is served and its
reply lost; ``cut``: a download breaks off in the middle; ``hang``: nothing is answered any more.
"""

import base64
import hashlib
import io
import socket
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, run_simple

Environ = dict[str, Any]


class Door:
    """A WSGI application in front of moto's."""

    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._armed: set[str] = set()

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        if path.startswith("/_fault/"):
            self._armed.add(path.removeprefix("/_fault/"))
            start_response("204 No Content", [])
            return []
        if "hang" in self._armed:
            time.sleep(3600)
        if method == "PUT" and "HTTP_X_AMZ_CHECKSUM_SHA256" in environ:
            body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"] or 0))
            if self._take("corrupt"):
                body = _flipped(body)
            digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
            if digest != environ["HTTP_X_AMZ_CHECKSUM_SHA256"]:
                start_response("400 Bad Request", [("Content-Type", "application/xml")])
                return [b"<Error><Code>BadDigest</Code><Message>Checksums differ.</Message></Error>"]
            if self._take("corrupt-unseen"):
                body = _flipped(body)
            environ["wsgi.input"] = io.BytesIO(body)
        if "no-checksums" in self._armed:
            environ.pop("HTTP_X_AMZ_CHECKSUM_MODE", None)
        answer = self._moto(environ, start_response)
        completes = method == "POST" and "uploadId=" in environ["QUERY_STRING"]
        puts = method == "PUT" and path.count("/") > 1 and "uploadId=" not in environ["QUERY_STRING"]
        if (completes or puts) and self._take("deaf"):
            list(answer)
            _hang_up(environ)
        if method == "GET" and path.count("/") > 1 and self._take("cut"):
            return _half(environ, b"".join(answer))
        return answer

    def _take(self, fault: str) -> bool:
        if fault in self._armed:
            self._armed.remove(fault)
            return True
        return False


def _hang_up(environ: Environ) -> NoReturn:
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError


def _half(environ: Environ, body: bytes) -> Iterable[bytes]:
    yield body[: len(body) // 2]
    _hang_up(environ)


def _flipped(body: bytes) -> bytes:
    return bytes([body[0] ^ 1]) + body[1:]


class Quiet(WSGIRequestHandler):
    """Speaks HTTP/1.1, since clients keep connections; says nothing of every request."""

    protocol_version = "HTTP/1.1"

    def log_request(self, *_: object) -> None:
        pass


def main(port: int) -> None:
    run_simple("127.0.0.1", port, Door(), threaded=True, request_handler=Quiet)


if __name__ == "__main__":
    main(int(sys.argv[1]))
