"""A browser, driven over a pipe by its own protocol (DevTools): nothing to install but Chromium."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

KEYS = {
    "Enter": (13, "\r"), "Escape": (27, ""), "Tab": (9, "\t"), "Home": (36, ""), "End": (35, ""), "PageUp": (33, ""), "PageDown": (34, ""),
    "ArrowLeft": (37, ""), "ArrowUp": (38, ""), "ArrowRight": (39, ""), "ArrowDown": (40, ""), "/": (191, "/"), "?": (191, "?"),
}  # fmt: skip
CTRL = 2
SHIFT = 8


def chromium():
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    if not found:
        raise SystemExit("no chromium here: apt-get install -y chromium")
    return found


class Browser:
    """One Chromium and one tab. `errors` is all that the console complained of."""

    def __init__(self):
        self.profile = tempfile.mkdtemp(prefix="prx-page-")
        ours, theirs = os.pipe(), os.pipe()  # what it reads, what it writes
        flags = [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-dev-shm-usage",
            "--disable-background-networking", "--remote-debugging-pipe", f"--user-data-dir={self.profile}", "about:blank",
        ]  # fmt: skip
        line = f'exec "$0" "$@" 3<&{ours[0]} 4>&{theirs[1]}'
        self.process = subprocess.Popen(
            ["sh", "-c", line, chromium(), *flags], pass_fds=(ours[0], theirs[1]), stderr=subprocess.DEVNULL
        )
        os.close(ours[0])
        os.close(theirs[1])
        self.into, self.out = ours[1], theirs[0]
        self.buffer, self.last, self.session, self.errors, self.requests = b"", 0, None, [], []
        self.loaded = set()  # the loaders whose load event has come
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Performance", "DOM", "Accessibility"):
            self.send(f"{domain}.enable")
        self.send("Page.setLifecycleEventsEnabled", enabled=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(10)
        shutil.rmtree(self.profile, ignore_errors=True)

    def send(self, method, **params):
        self.last += 1
        message = {"id": self.last, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        rest = json.dumps(message).encode() + b"\0"
        while rest:
            rest = rest[os.write(self.into, rest) :]
        while True:
            answer = self._read()
            if answer.get("id") == self.last:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def _read(self, seconds=60):
        while b"\0" not in self.buffer:
            if not select.select([self.out], [], [], seconds)[0]:
                raise TimeoutError("the browser says nothing")
            piece = os.read(self.out, 1 << 20)
            if not piece:
                raise RuntimeError("the browser is gone")
            self.buffer += piece
        line, self.buffer = self.buffer.split(b"\0", 1)
        answer = json.loads(line)
        self._note(answer)
        return answer

    def _note(self, event):
        method, params = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.errors.append(str([one.get("value") for one in params["args"]]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Page.lifecycleEvent" and params["name"] == "load":
            self.loaded.add(params["loaderId"])

    def emulate(self, width, height, *, phone=False, dark=False, **features):
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=2 if phone else 1, mobile=phone,
        )  # fmt: skip
        self.send("Emulation.setTouchEmulationEnabled", enabled=phone)
        media = {"prefers-color-scheme": "dark" if dark else "light", **features}
        self.send("Emulation.setEmulatedMedia", features=[{"name": name, "value": media[name]} for name in media])

    def open(self, url):
        """Seconds until it is loaded and has drawn. It waits for this very navigation: the page before may still be loading."""
        started = time.monotonic()
        loader = self.send("Page.navigate", url=url).get("loaderId")
        while loader and loader not in self.loaded:
            self._read()
        self.frames()
        return time.monotonic() - started

    def frames(self, count=2):
        for _ in range(count):
            self.js("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")

    def js(self, expression):
        answer = self.send(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(
                answer["exceptionDetails"].get("exception", {}).get("description", "?") + f"\n in {expression}"
            )
        return answer["result"].get("value")

    def until(self, expression, seconds=30):
        end = time.monotonic() + seconds
        while not (value := self.js(f"!!({expression})")):
            if time.monotonic() > end:
                raise AssertionError(f"never: {expression}")
            time.sleep(0.02)
        return value

    def key(self, name, modifiers=0):
        code, text = KEYS.get(name, (ord(name[0].upper()), name))
        base = {"key": name, "windowsVirtualKeyCode": code, "modifiers": modifiers}
        self.send(
            "Input.dispatchKeyEvent",
            type="keyDown" if text else "rawKeyDown",
            **base,
            **({"text": text} if text else {}),
        )
        self.send("Input.dispatchKeyEvent", type="keyUp", **base)
        self.frames(1)

    def click(self, selector):
        self.js(
            "Promise.all(document.getAnimations().map((one) => one.finished)).then(() => 0)"
        )  # what slides must have slid
        x, y = self.js(
            f"(() => {{ const b = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            " return [b.x + b.width / 2, b.y + b.height / 2] })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        self.frames(1)

    def picture(self, path):
        Path(path).write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))

    def printed(self, path):
        made = base64.b64decode(self.send("Page.printToPDF", preferCSSPageSize=True, printBackground=False)["data"])
        Path(path).write_bytes(made)
        return made

    def tree(self):
        """The accessibility tree's nodes, as (role, name, value of each property)."""
        nodes = self.send("Accessibility.getFullAXTree")["nodes"]
        return [
            {
                "role": node.get("role", {}).get("value"), "name": node.get("name", {}).get("value", ""),
                **{one["name"]: one["value"].get("value") for one in node.get("properties", ())},
            }
            for node in nodes if not node.get("ignored")
        ]  # fmt: skip
