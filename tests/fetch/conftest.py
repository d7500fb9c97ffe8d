"""A server that misbehaves on request, and a cache."""

import threading

import pytest
from helpers.web import DATA, SHA256, Handler, QuietServer


@pytest.fixture
def server():
    server = QuietServer(("127.0.0.1", 0), Handler)
    server.data, server.etag, server.date = DATA, '"v1"', None
    server.ranges, server.length, server.shift, server.delay = True, True, 0, 0
    server.status = server.redirect = None
    server.drops, server.requests, server.sent, server.lock = [], [], 0, threading.Lock()
    server.url = f"http://127.0.0.1:{server.server_address[1]}/models/tiny-{SHA256[:8]}.pth"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()
