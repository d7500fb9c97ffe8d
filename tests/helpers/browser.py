"""A headless Chromium that tests drive, by the DevTools protocol over pipes."""

from __future__ import annotations

import functools
import http.server
import itertools
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync --hide-scrollbars""".split()


class Tab:
    """A page of the browser: what it asked for, and what it wrote to the console."""

    def __init__(self, to: int, back: int) -> None:
        self.to, self.back, self.rest = to, back, b""
        self.numbers = itertools.count(1)
        self.session: str | None = None
        self.console: list[str] = []
        self.asked: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> Any:
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.heard()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def heard(self) -> Any:
        while b"\0" not in self.rest:
            more = os.read(self.back, 1 << 20)
            assert more, "the browser is gone"
            self.rest += more
        line, _, self.rest = self.rest.partition(b"\0")
        message = json.loads(line)
        params = message.get("params", {})
        if message.get("method") == "Network.requestWillBeSent":
            self.asked.append(params["request"]["url"])
        elif message.get("method") in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
            self.console.append(json.dumps(params))
        return message

    def run(self, script: str) -> Any:
        """What a script gives, as JSON; it may wait."""
        wrapped = f"(async () => JSON.stringify(await ({script}) ?? null))()"
        found = self.call("Runtime.evaluate", expression=wrapped, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return json.loads(found["result"]["value"])

    def until(self, script: str, seconds: float = 90) -> Any:
        """What a script gives as soon as that is true."""
        end = time.monotonic() + seconds
        while not (value := self.run(script)):
            assert time.monotonic() < end, (script, self.console)
            time.sleep(0.05)
        return value

    def open(self, address: str) -> None:
        self.call("Page.navigate", url=address)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def give(self, selector: str, file: Path) -> None:
        """Choose a file in an input, as a person does."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file)])

    def width(self, pixels: int, height: int = 900) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=pixels, height=height, deviceScaleFactor=1, mobile=pixels < 600
        )


@contextmanager
def browser(profile: Path) -> Iterator[Tab]:
    """A tab of a new browser, which is gone in the end."""
    assert CHROMIUM
    (in_read, in_write), (out_read, out_write) = os.pipe(), os.pipe()
    command = [CHROMIUM, *QUIET, "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(  # it reads from 3 and writes to 4
        ["bash", "-c", f'exec "$0" "$@" 3<&{in_read} 4>&{out_write}', *command],
        pass_fds=(in_read, out_write),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        os.close(in_read)
        os.close(out_write)
        yield Tab(in_write, out_read)
    finally:
        os.close(in_write)
        with suppress(subprocess.TimeoutExpired):
            process.terminate()
            process.wait(20)
        process.kill()
        process.wait()
        os.close(out_read)


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address under which a folder is served, as ``python -m http.server`` does."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Silent, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
