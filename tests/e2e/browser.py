"""A real Chromium, driven over its DevTools protocol with what tickmesh already depends on: nothing to install.

``find`` looks for a browser on this machine (TICKMESH_CHROMIUM, then the usual names); tests skip without one.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "headless_shell")
_START_S = 30.0
_CALL_S = 20.0


def find() -> str | None:
    """Path of a Chromium on this machine, or None."""
    named = os.environ.get("TICKMESH_CHROMIUM", "")
    return next((path for name in (named, *NAMES) if name and (path := shutil.which(name))), None)


class Browser:
    """One tab. ``problems`` collects what its console complained about, CSP violations included."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, session_id: str) -> None:
        self._socket = socket
        self._session_id = session_id
        self._number = 0
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reader = asyncio.create_task(self._read())
        self.problems: list[str] = []
        self.requested: list[str] = []

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One DevTools command."""
        self._number += 1
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[self._number] = answer
        body: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session_id:
            body["sessionId"] = self._session_id
        await self._socket.send_json(body)
        async with asyncio.timeout(_CALL_S):
            result = await answer
        assert "error" not in result, f"{method}: {result['error']}"
        return dict(result["result"])

    async def _read(self) -> None:
        async for message in self._socket:
            body = json.loads(message.data)
            if "id" in body:
                waiting = self._waiting.pop(body["id"], None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(body)
            elif body["method"] == "Network.requestWillBeSent":
                self.requested.append(body["params"]["request"]["url"])
            elif body["method"] == "Runtime.exceptionThrown":
                self.problems.append(json.dumps(body["params"]["exceptionDetails"])[:500])
            elif body["method"] == "Log.entryAdded" and body["params"]["entry"]["level"] == "error":
                self.problems.append(f"{body['params']['entry']['text']} {body['params']['entry'].get('url', '')}")

    async def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression; an exception in it fails the test."""
        result = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, json.dumps(result["exceptionDetails"])[:800]
        return result["result"].get("value")

    async def until(self, script: str, timeout_s: float = 15.0) -> Any:
        """Wait until the expression is true; returns its value."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    # While a page loads its elements are missing: that is "not yet".
                    found = await self.evaluate(f"(() => {{ try {{ return {script}; }} catch {{ return null; }} }})()")
                    if found:
                        return found
                    await asyncio.sleep(0.05)
        except TimeoutError:
            shown = await self.evaluate("document.body.innerText")
            raise AssertionError(f"{script} did not come true; the page says:\n{shown}\n{self.problems}") from None

    async def go(self, url: str) -> None:
        await self.call("Page.navigate", url=url)

    async def size(self, width: int, height: int, *, phone: bool = False) -> None:
        """The window; a phone has touch and two pixels a point."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )  # fmt: skip

    async def click(self, selector: str) -> None:
        """A real mouse click in the middle of the element, which must be there and not covered."""
        box = await self.evaluate(
            f"(() => {{ const e = document.querySelector({selector!r}); e.scrollIntoView({{block: 'center'}});"
            " const r = e.getBoundingClientRect(), x = r.x + r.width / 2, y = r.y + r.height / 2;"
            " const top = document.elementFromPoint(x, y);"
            " return {x, y, free: e === top || e.contains(top)}; })()"
        )
        assert box["free"], f"{selector} is covered or not visible"
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, x=box["x"], y=box["y"], button="left", clickCount=1)

    async def type(self, selector: str, text: str) -> None:
        """Focus a field, select what is in it, and type."""
        await self.evaluate(f"(e => {{ e.focus(); e.select(); }})(document.querySelector({selector!r}))")
        await self.call("Input.insertText", text=text)

    async def screenshot(self, path: Path) -> None:
        result = await self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(result["data"]))


@contextlib.asynccontextmanager
async def open_browser(path: str) -> AsyncIterator[Browser]:
    """Start a headless Chromium with a profile of its own; it and its children are gone afterwards."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [
            path, "--headless=new", "--remote-debugging-port=0", f"--user-data-dir={profile}", "--no-first-run",
            "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", "--mute-audio", "--force-color-profile=srgb",
        ]  # fmt: skip
        if os.geteuid() == 0:
            command.append("--no-sandbox")  # Chromium refuses root otherwise; it only ever sees our own page
        process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
            [*command, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            async with aiohttp.ClientSession() as session:
                url = await _address(Path(profile), process)
                async with session.ws_connect(url, max_msg_size=64 * 1024 * 1024) as socket:
                    yield await _tab(socket)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


async def _address(profile: Path, process: subprocess.Popen[bytes]) -> str:
    async with asyncio.timeout(_START_S):
        while True:
            assert process.poll() is None, "the browser ended while starting"
            with contextlib.suppress(OSError, ValueError):
                port, path = (profile / "DevToolsActivePort").read_text().split()
                return f"ws://127.0.0.1:{port}{path}"
            await asyncio.sleep(0.05)


async def _tab(socket: aiohttp.ClientWebSocketResponse) -> Browser:
    whole = Browser(socket, "")
    target = await whole.call("Target.createTarget", url="about:blank")
    attached = await whole.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
    whole._session_id = attached["sessionId"]
    for domain in ("Page", "Runtime", "Log", "Network"):
        await whole.call(f"{domain}.enable")
    await whole.size(1280, 900)
    return whole


async def _picture(url: str, path: Path, width: int, height: int) -> None:
    found = find()
    assert found is not None, "no Chromium on this machine"
    async with open_browser(found) as tab:
        await tab.size(width, height, phone=width < 600)
        await tab.go(url)
        await tab.until("document.getElementById('link').textContent === 'live'")
        await asyncio.sleep(2)
        await tab.screenshot(path)
        print("\n".join(tab.problems) or f"wrote {path}")


if __name__ == "__main__":
    # python tests/e2e/browser.py http://127.0.0.1:17400 docs/images/dashboard.png 1280 1000
    _, address, file, wide, high = sys.argv
    asyncio.run(_picture(address, Path(file), int(wide), int(high)))
