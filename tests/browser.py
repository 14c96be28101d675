"""A headless Chromium, driven over the DevTools protocol.

Debian's package ``chromium`` (``ci_packages.sh``). Without it tests are skipped, but not in CI.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE = 120.0  # seconds for anything to happen, on a loaded machine

# What of a page and its tables, folded ones too, lies beside the window.
CUT_OFF = """(() => {
  document.querySelectorAll("details").forEach(one => (one.open = true));
  const width = document.documentElement.clientWidth;
  const wide = document.documentElement.scrollWidth > width ? ["the page"] : [];
  return [...wide, ...[...document.querySelectorAll("td, pre, dd, nav a, li")]
    .filter(one => one.textContent && (one.getBoundingClientRect().right > width + 1 ||
      one.getBoundingClientRect().width < 2)).map(one => one.outerHTML)];
})()"""


class Page:
    """One open page.

    Attributes:
        messages: Errors of scripts, refusals of the content policy, dialogs and requests.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._number = socket, 0
        self.messages: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        number = self._number
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv(timeout=PATIENCE))
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer.get("method", ""), answer.get("params", {}))

    def _note(self, event: str, told: dict[str, Any]) -> None:
        if event == "Network.requestWillBeSent":
            url = told["request"]["url"]
            if not url.startswith("data:"):
                self.messages.append(f"request {url}")
        elif event in (
            "Runtime.exceptionThrown",
            "Log.entryAdded",
            "Page.javascriptDialogOpening",
            "Runtime.consoleAPICalled",
        ):
            self.messages.append(f"{event} {json.dumps(told)[:500]}")

    def open(self, path: Path) -> None:
        """Open a file and wait until its script is ready."""
        self.send("Page.navigate", url=path.as_uri())
        self.until("document.body && document.body.dataset.ready === 'yes'")

    def run(self, script: str) -> Any:
        """Return the value of an expression, or of the promise that it makes."""
        done = self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def until(self, script: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + PATIENCE
        while not self.run(script):
            assert time.monotonic() < end, f"never true: {script}; {self.messages}"
            time.sleep(0.02)

    def press(self, key: str) -> None:
        """Press a key as a user does."""
        text = {"text": key} if len(key) == 1 else {}
        if key == "Enter":
            text = {"text": "\r"}
        codes = {"Enter": 13, "Escape": 27, "End": 35, "Home": 36, "ArrowUp": 38, "ArrowDown": 40}
        codes |= {"PageUp": 33, "PageDown": 34}
        code = codes.get(key, 0)
        for kind in ("keyDown", "keyUp"):
            self.send(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                windowsVirtualKeyCode=code,
                **(text if kind == "keyDown" else {}),
            )

    def write(self, text: str) -> None:
        """Type a text into what has the focus."""
        self.send("Input.insertText", text=text)

    def look(self, width: int = 1280, height: int = 900, scheme: str = "light") -> None:
        """Set the size of the window and the colour scheme."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.send(
            "Emulation.setEmulatedMedia",
            media="",
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )

    def picture(self, path: Path, whole: bool = False) -> None:
        """Save what is seen, or the whole page, as PNG."""
        made = self.send("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(made["data"]))


@contextmanager
def browser() -> Iterator[Page]:
    """Start the browser with an empty profile and end it."""
    if PROGRAM is None:
        if os.environ.get("CI"):
            pytest.fail("chromium is not installed: tests/ci_packages.sh")
        pytest.skip("chromium is not installed (apt-get install chromium)")
    with TemporaryDirectory(prefix="easi-browser-", ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [
                PROGRAM,
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-extensions",
                "--disable-background-networking",
                "--remote-debugging-port=0",
                f"--user-data-dir={profile}",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            with _connected(Path(profile) / "DevToolsActivePort", process) as socket:
                yield Page(socket)
        finally:
            process.terminate()
            process.wait(PATIENCE)


@contextmanager
def _connected(port_file: Path, process: subprocess.Popen[bytes]) -> Iterator[ClientConnection]:
    """Connect to the first page, once the browser has written its port."""
    end = time.monotonic() + PATIENCE
    while not port_file.exists() or port_file.read_text().count("\n") < 1:
        assert process.poll() is None and time.monotonic() < end, "the browser did not start"
        time.sleep(0.05)
    port, address = port_file.read_text().splitlines()[:2]
    limits = {"max_size": None, "open_timeout": PATIENCE, "proxy": None}
    with connect(f"ws://127.0.0.1:{port}{address}", **limits) as socket:
        socket.send(json.dumps({"id": 1, "method": "Target.getTargets"}))
        targets = json.loads(socket.recv(timeout=PATIENCE))["result"]["targetInfos"]
    page = next(one["targetId"] for one in targets if one["type"] == "page")
    with connect(f"ws://127.0.0.1:{port}/devtools/page/{page}", **limits) as socket:
        yield socket
