"""A headless Chromium that a test drives by its own protocol: open a page, wait for its content, take a picture."""

import base64
import itertools
import json
import shutil
import subprocess
import time
import urllib.request
from contextlib import contextmanager

import websocket

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


class Browser:
    """One tab."""

    def __init__(self, address):
        self._socket = websocket.create_connection(address, timeout=60, suppress_origin=True)
        self._numbers = itertools.count(1)
        self.call("Page.enable")

    def call(self, method, **params):
        """Call a function of the protocol, and return its result."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            answer = json.loads(self._socket.recv())
            if answer.get("id") == number:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def open(self, url, width=1400, height=1000):
        """Open an address in a window of this size; wait for nothing."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        # Pages that differ in the part after `#` alone are one to the browser.
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=url)

    def value(self, script):
        """Return the value of an expression of JavaScript on the page."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, script, seconds=90):
        """Wait until an expression of JavaScript is true, and return its value."""
        deadline = time.monotonic() + seconds
        while True:
            value = self.value(script)
            if value:
                return value
            assert time.monotonic() < deadline, f"{script} stays false on a page with: {self.text()[:3000]}"
            time.sleep(0.2)

    def text(self):
        """Return the text that the page shows."""
        return self.value("document.body ? document.body.innerText : ''")

    def wait_for_text(self, *wanted, sight="null"):
        """Wait until the page shows all of these words, and return its text at that moment.

        sight: script of an element that is kept in sight meanwhile, though the page above it grows.
        """
        words = f"{json.dumps(wanted)}.every(word => document.body.innerText.includes(word))"
        return self.wait(f"void ({sight})?.scrollIntoView() || document.body && {words} && document.body.innerText")

    def click(self, selector):
        """Click the first element that a CSS selector finds, once it is there."""
        self.wait(f"!!document.querySelector({json.dumps(selector)})")
        self.value(f"document.querySelector({json.dumps(selector)}).click()")

    def press(self, key, code):
        """Press and release a key."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def picture(self, path):
        """Take a picture of the window, as PNG."""
        path.write_bytes(self.pixels())

    def pixels(self):
        """Return a picture of the window, as the bytes of a PNG file."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def close(self):
        """Leave the tab to the end of the browser."""
        self._socket.close()


@contextmanager
def chromium(profile):
    """Run a browser with a profile of its own; yield its tab."""
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += [f"--user-data-dir={profile}", "--disable-background-networking", "--disable-component-update"]
    command += ["--hide-scrollbars", "--remote-debugging-port=0", "--remote-allow-origins=*", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    tab = None
    try:
        tab = Browser(_address_of_tab(profile / "DevToolsActivePort", process))
        yield tab
    finally:
        if tab is not None:
            tab.close()
        process.kill()
        process.wait(10)


def _address_of_tab(file, process):
    """Wait until the browser has written its port, and return the address of its tab."""
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None and time.monotonic() < deadline, "Chromium does not start"
        try:
            port = file.read_text().splitlines()[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=5) as answer:
                pages = [page for page in json.load(answer) if page["type"] == "page"]
            return pages[0]["webSocketDebuggerUrl"]
        except (OSError, IndexError):
            time.sleep(0.05)
