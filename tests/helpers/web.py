"""A server that misbehaves on request."""

import contextlib
import hashlib
import http.server
import random
import socket
import sys
import time

import pytest

from converter.fetch.download import download as fetch

DATA = random.Random(0).randbytes(3_000_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
OTHER = random.Random(1).randbytes(len(DATA))


class QuietServer(http.server.ThreadingHTTPServer):
    """A killed client cuts its connection: that is no error, and nothing to print into a test's stderr."""

    daemon_threads = True

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves ``server.data``; the server's attributes say how badly."""

    def do_GET(self):
        server = self.server
        with server.lock:
            server.requests.append(dict(self.headers))
            drop = server.drops.pop(0) if server.drops else None
        if server.status:
            self.send_error(server.status)
            return
        if server.redirect:
            self.send_response(302)
            self.send_header("Location", server.redirect)
            self.end_headers()
            return
        data, start = server.data, 0
        wanted = self.headers.get("Range")
        if wanted and server.ranges and self.headers.get("If-Range") in (None, server.etag, server.date):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(data):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start + server.shift}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        if server.etag:
            self.send_header("ETag", server.etag)
        if server.date:
            self.send_header("Last-Modified", server.date)
        if server.length:
            self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        rest = data[start:]
        if drop is not None:
            rest = rest[:drop]
        with contextlib.suppress(ConnectionError):
            for at in range(0, len(rest), 1 << 16):
                piece = rest[at : at + (1 << 16)]
                server.sent += len(piece)  # before a client can have it
                self.wfile.write(piece)
                time.sleep(server.delay)
        if drop is not None:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def log_message(self, *args):
        pass


def check_error(kind, url, *says, **options):
    with pytest.raises(kind) as caught:
        fetch(url, **options)
    message = str(caught.value)
    assert "\n" not in message
    for words in says:
        assert words in message
    return message
