"""Chromium without a window, driven over its DevTools protocol: the page as a user would see it."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import websocket

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_FLAGS = (
    "--headless=new",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--remote-allow-origins=*",
    "--remote-debugging-port=0",
    "--use-gl=angle",
    "--use-angle=swiftshader",  # WebGL without a GPU
    "--enable-unsafe-swiftshader",
    "--hide-scrollbars",
)
_INSIDE = ("file:", "data:", "blob:", "about:")


def find_chromium() -> str | None:
    """The browser's path; None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page of a browser that was started for it.

    Attributes:
        requests: addresses that it asked for beside those of the file itself.
        errors: what it logged as an error, and exceptions that nobody caught.
    """

    def __init__(self, folder: Path) -> None:
        sandbox = (
            ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        )  # Chromium demands it of root
        command = [str(find_chromium()), *_FLAGS, *sandbox, f"--user-data-dir={folder / 'profile'}", "about:blank"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.downloads = folder / "downloads"
        self._number = 0
        port, path = _wait_for_port(folder / "profile" / "DevToolsActivePort")
        self._socket = websocket.create_connection(f"ws://127.0.0.1:{port}{path}", timeout=120)
        self._session: str | None = None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")
        self.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.downloads))
        self.resize(1280, 900)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and wait for its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None and not method.startswith(("Target.", "Browser.")):
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv())
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self._note(answer)

    def _note(self, event: dict[str, Any]) -> None:
        values = event.get("params", {})
        match event.get("method"):
            case "Network.requestWillBeSent" if not values["request"]["url"].startswith(_INSIDE):
                self.requests.append(values["request"]["url"])
            case "Runtime.exceptionThrown":
                details = values["exceptionDetails"]
                self.errors.append(details.get("exception", {}).get("description") or details["text"])
            case "Runtime.consoleAPICalled" if values["type"] in ("error", "assert"):
                self.errors.append(str([part.get("value", part.get("description")) for part in values["args"]]))
            case "Log.entryAdded" if values["entry"]["level"] == "error":
                self.errors.append(values["entry"]["text"])

    def open(self, address: str) -> float:
        """Load a page and wait until a case is shown; returns the seconds that took."""
        self.send("Page.navigate", url="about:blank")
        started = time.monotonic()
        self.send("Page.navigate", url=address)
        self.wait(
            "document.readyState === 'complete' && document.querySelectorAll('#numbers tr, #note:not([hidden])').length > 0"
        )
        return time.monotonic() - started

    def load(self, address: str) -> None:
        """Load a page that shows all it has at once."""
        self.send("Page.navigate", url=address)
        self.wait(f"document.readyState === 'complete' && location.href === {json.dumps(address)}")

    def run(self, script: str) -> Any:
        """Value of an expression in the page, of a promise once it is kept."""
        answer = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"].get("description"))
        return answer["result"].get("value")

    def wait(self, script: str, limit_s: float = 60) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + limit_s
        while not self.run(f"Boolean({script})"):
            if time.monotonic() > end:
                raise TimeoutError(f"never true: {script}; errors {self.errors}")
            time.sleep(0.05)

    def press(self, key: str) -> None:
        """Press and release a key."""
        text = {"text": key} if len(key) == 1 else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key)

    def click(self, x: float, y: float, to: tuple[float, float] | None = None) -> None:
        """Press the mouse at a place of the window, and release it there or at another one."""
        button = {"button": "left", "clickCount": 1}
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        self.send("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, buttons=1, **button)
        x, y = to or (x, y)
        if to is not None:
            self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y, buttons=1, button="left")
        self.send("Input.dispatchMouseEvent", type="mouseReleased", x=x, y=y, **button)

    def resize(self, width: int, height: int = 900, dark: bool = False, medium: str = "") -> None:
        """Size of the window, whether the user prefers dark pages, and whether it is laid out for "print"."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        value = "dark" if dark else "light"
        self.send(
            "Emulation.setEmulatedMedia", media=medium, features=[{"name": "prefers-color-scheme", "value": value}]
        )

    def shoot(self, path: Path, whole: bool = False) -> Path:
        """Write what is seen as PNG."""
        answer = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))
        return path

    def wait_for_download(self, name: str) -> Path:
        """The file of that name, once it is whole."""
        path = self.downloads / name
        end = time.monotonic() + 30
        while not path.is_file() or list(self.downloads.glob("*.crdownload")):
            if time.monotonic() > end:
                raise TimeoutError(f"no {name} in {list(self.downloads.glob('*'))}")
            time.sleep(0.05)
        return path

    def close(self) -> None:
        """End the browser."""
        self._socket.close()
        self.process.terminate()
        self.process.wait(timeout=30)


def _wait_for_port(path: Path) -> tuple[str, str]:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if path.is_file() and len(lines := path.read_text().split()) == 2:
            return lines[0], lines[1]
        time.sleep(0.05)
    raise TimeoutError("Chromium did not start")
