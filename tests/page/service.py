"""The page of `prx serve` in a real browser: python tests/page/service.py [FOLDER for the pictures]. Needs Chromium; exits 1 where something fails.

Services run with calls, errors, a target that rests and a broken file, and the page is looked at while all of it happens.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1] / "engine")]

from browser import Browser  # noqa: E402
from helpers.byte_server import DONE, RawServer, delta, response, stream  # noqa: E402
from helpers.served import CALLER, Service, begun, provider  # noqa: E402
from run import PHONE, contrast, equal, holds, summed_up  # noqa: E402

from prx.emulator.server import Emulator  # noqa: E402

DESK = {"width": 1280, "height": 900}
SIZES = (("desk", DESK), ("phone", PHONE))
KEYED = """[serve]
keys = ["${CALLER_KEY}"]
[serve.keys_by_name.team]
key = "${TEAM_KEY}"
models = ["up/*"]
requests_per_minute = 600
"""
TEAM = "team-key-51c0"
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def text_of(selector):
    return f"(document.querySelector({json.dumps(selector)})?.innerText || '')"


class Desk:
    """The browser, and the services that the checks start."""

    def __init__(self, browser, folder, up):
        self.browser, self.folder, self.up = browser, folder, up
        self.services = contextlib.ExitStack()

    def start(self, config="", *arguments, **more):
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        running = Service(folder, provider("up", self.up) + config, *arguments, TEAM_KEY=TEAM, **more)
        self.services.callback(running.stop)
        return running

    def slow(self):
        """A provider that begins an answer, and goes on only when it is left."""
        pieces = [delta("Once "), *(piece for _ in range(600) for piece in (0.1, delta("more ")))]
        return self.services.enter_context(RawServer(stream(*pieces, delta("", "stop"), DONE)))

    def answers(self, *scripts):
        return self.services.enter_context(RawServer(*scripts))

    def open(self, service, size=DESK, **media):
        self.browser.emulate(**size, **media)
        self.browser.open("about:blank")
        self.browser.open(f"http://127.0.0.1:{service.port}/")
        self.browser.until("last || !document.getElementById('door').hidden")

    def shows(self, selector, text, seconds=12):
        self.browser.until(f"{text_of(selector)}.includes({json.dumps(text)})", seconds)

    def picture(self, name):
        height = self.browser.js("document.documentElement.scrollHeight")
        self.browser.picture(self.folder / f"{name}.png")
        self.browser.send("Emulation.setDeviceMetricsOverride", width=self.browser.js("innerWidth"), height=min(height, 6000),
                          deviceScaleFactor=1, mobile=False)  # fmt: skip
        self.browser.picture(self.folder / f"{name}-whole.png")


def busy(desk):
    """A service with a running call, failures of three kinds, refusals, a target that rests and a broken file."""
    slow, strict = desk.slow(), desk.answers(response(429, {"error": {"message": "wait"}}, "retry-after: 1"))
    route = '[[model_routes]]\npattern = "fast"\ntargets = ["dead/words", "up/words"]\ncooldown = 120\n'
    others = provider("slow", slow.url) + provider("strict", strict.url) + provider("dead", "http://127.0.0.1:1/v1")
    service = desk.start(others + route)
    for _ in range(4):
        equal(service.chat("fast", stream=True).status, 200)
    equal([service.chat("up/words").status, service.chat("dead/words").status], [200, 502])
    equal([service.chat("strict/words").status, service.chat("up/nobody").status], [429, 404])
    equal([service.chat("nowhere/x").status, service.get("/nothing").status], [404, 404])
    desk.services.enter_context(begun(service, "slow/words"))
    return service


# ------------------------------------------------------------------ what is told


@check
def before_any_call_it_says_how_to_make_one(desk):
    service = desk.start()
    for where, size in SIZES:
        desk.open(service, size)
        equal(desk.browser.js(text_of("#state")), "Ready")
        desk.shows("#calls", "No call has come yet")
        desk.shows("#running", "No call runs")
        desk.shows("#models", "up/words")
        desk.picture(f"fresh-{where}")


@check
def each_command_that_it_shows_works(desk):
    service = desk.start()
    desk.open(service)
    ids = desk.browser.js("[...document.getElementById('dialect').options].map((one) => one.value)")
    assert len(ids) >= 5, ids
    for name in ids:
        desk.browser.js(f"get('dialect').value = {json.dumps(name)}; get('dialect').dispatchEvent(new Event('change'))")
        shown = desk.browser.js("get('curl').textContent")
        done = subprocess.run(["sh", "-c", f"{shown} -s"], capture_output=True, text=True, timeout=30, check=False)
        assert "Hello!" in done.stdout, (shown, done)


@check
def it_copies_the_command(desk):
    service = desk.start()
    desk.open(service)
    grant = {"permissions": ["clipboardReadWrite"], "origin": f"http://127.0.0.1:{service.port}"}
    session, desk.browser.session = desk.browser.session, None
    desk.browser.send("Browser.grantPermissions", **grant)
    desk.browser.session = session
    desk.browser.click("#copy")
    desk.shows("#copied", "Copied.")


@check
def figures_come_without_a_reload(desk):
    service = desk.start()
    desk.open(service)
    desk.browser.js("window.here = true")
    for _ in range(5):
        service.chat("up/words", stream=True)
    desk.shows("#tiles", "Calls so far\n5")
    desk.shows("#calls", "up/words")
    desk.shows("#tiles", "half of them")
    for _ in range(3):
        service.chat("up/words")
    desk.shows("#tiles", "Calls so far\n8")
    told = json.loads(service.get("/status").text)
    equal([row["count"] for row in told["calls"]], [8])
    assert told["calls"][0]["tokens"]["output"] > 0, told["calls"]
    equal(desk.browser.js("[window.here, performance.getEntriesByType('navigation').length]"), [True, 1])


@check
def a_running_call_is_shown_and_goes(desk):
    service = desk.start(provider("slow", desk.slow().url))
    desk.open(service)
    with begun(service, "slow/words"):
        desk.shows("#running", "slow/words")
        desk.shows("#running", "answering")
        desk.shows("#tiles", "Running now\n1")
        desk.browser.until("document.title.startsWith('1 running')")
    desk.shows("#running", "No call runs")
    desk.shows("#errors", "cancelled")
    desk.shows("#tiles", "none failed")


@check
def everything_at_once(desk):
    service = busy(desk)
    for theme, dark in (("light", False), ("dark", True)):
        for where, size in SIZES:
            desk.open(service, size, dark=dark)
            for kind in ("connection", "rate_limit", "not_found"):
                desk.shows("#errors", kind)
            desk.shows("#alerts", "dead/words for ")
            desk.shows("#models", "rests")
            desk.shows("#failures", "strict/words")
            equal(desk.browser.js("[innerWidth, document.documentElement.scrollWidth]"), [size["width"]] * 2)
            desk.picture(f"busy-{where}-{theme}")


@check
def a_broken_file_is_told_and_goes_once_it_is_mended(desk):
    service = desk.start()
    desk.open(service)
    good = service.file.read_text()
    service.file.write_text("[nonsense")
    desk.shows("#problems", "config.toml")
    equal(desk.browser.js(text_of("#state")), "Ready, with a fault")
    desk.shows("#told", "Ready, with a fault")
    equal(service.chat("up/words").status, 200)
    for where, size in SIZES:
        desk.open(service, size)
        desk.picture(f"broken-{where}")
    service.file.write_text(good)
    desk.browser.until("!document.getElementById('problems')")
    equal(desk.browser.js(text_of("#state")), "Ready")


@check
def it_says_when_nobody_answers(desk):
    service = desk.start()
    desk.open(service)
    service.stop()
    desk.shows("#state", "No answer")
    desk.shows("#told", "does not answer")
    desk.browser.errors.clear()


@check
def several_processes_are_added_up(desk):
    service = desk.start(provider("slow", desk.slow().url), "--workers", "2")
    for _ in range(12):
        service.chat("up/words", stream=True)
    with begun(service, "slow/words"), begun(service, "slow/words"):
        desk.open(service)
        desk.shows("#calls", "of all processes")
        desk.shows("#tiles", "Calls so far\n12")
        desk.shows("#tiles", "Running now\n2")
        counts = {json.dumps(json.loads(service.get("/status").text)["calls"]) for _ in range(6)}
        equal(len(counts), 1)
        desk.picture("workers-desk")


# ------------------------------------------------------------------ keys


@check
def a_person_gives_the_key_in_a_form(desk):
    service = desk.start(KEYED)
    browser = desk.browser
    desk.open(service)
    equal(browser.js("[document.activeElement.id, get('key').type, get('tiles').hidden]"), ["key", "password", True])
    equal(browser.js("document.body.innerText.includes('up/words')"), False)
    equal([url for url in browser.requests if url.endswith("/status")], [])
    for where, size in SIZES:
        desk.open(service, size)
        desk.picture(f"door-{where}")
    desk.open(service)
    for given, shown in (("wrong-key", False), (CALLER, True)):
        browser.send("Input.insertText", text=given)
        browser.key("Enter")
        browser.until("!get('tiles').hidden" if shown else "get('wrong').textContent")
    desk.shows("#callers", "team")
    desk.shows("#curl", "Bearer $PRX_KEY")
    equal(browser.js(f"document.documentElement.outerHTML.includes({json.dumps(CALLER)})"), False)
    assert not [url for url in browser.requests if CALLER in url or "wrong-key" in url]
    browser.open(f"http://127.0.0.1:{service.port}/")
    browser.until("!get('tiles').hidden")  # the tab has it still
    desk.picture("keyed-desk")
    browser.click("#forget")
    browser.until("!get('door').hidden")
    equal(browser.js("[sessionStorage.length, localStorage.length, document.cookie]"), [0, 0, ""])
    equal(browser.js("document.body.innerText.includes('up/words')"), False)
    browser.errors = [line for line in browser.errors if "401" not in line]


@check
def a_key_with_a_name_sees_its_own_models(desk):
    service = desk.start(KEYED + provider("other", "http://127.0.0.1:1/v1"))
    service.chat("other/words")
    told = json.loads(service.get("/status", key=TEAM).text)
    equal([row["name"] for row in told["models"]], ["up/words"])
    equal([row["id"] for row in told["providers"]], ["up"])
    equal([row["name"] for row in told["callers"]], ["team"])
    equal([told["calls"], told["failures"]], [[], []])
    equal(len(json.loads(service.get("/status").text)["calls"]), 1)


@check
def a_key_in_the_address_does_not_stay_there(desk):
    service = desk.start(KEYED)
    desk.browser.emulate(**DESK)
    desk.browser.open(f"http://127.0.0.1:{service.port}/?key={CALLER}")
    desk.browser.until("!get('door').hidden")
    equal(desk.browser.js("[location.search, location.pathname]"), ["", "/"])
    desk.browser.errors = [line for line in desk.browser.errors if "401" not in line]
    desk.browser.requests = [url for url in desk.browser.requests if CALLER not in url]


# ------------------------------------------------------------------ for everybody


@check
def what_callers_and_providers_say_is_never_read_as_html(desk):
    nasty = "<img src=x onerror='window.pwned = 1'>"
    service = desk.start()
    service.chat(f"up/{nasty}")
    desk.open(service)
    desk.shows("#failures", nasty)
    equal(desk.browser.js("[window.pwned === undefined, document.images.length]"), [True, 0])


@check
def colours_contrast(desk):
    service = busy(desk)
    pairs = (
        [("ink", place) for place in ("paper", "card", "well")] + [("soft", place) for place in ("paper", "card", "well")]
        + [(name, place) for name in ("good", "bad", "wait") for place in (f"{name}-tint", "card")]
        + [("ink", f"{name}-tint") for name in ("good", "bad", "wait")]
    )  # fmt: skip
    for dark in (False, True):
        desk.open(service, dark=dark)
        names = sorted({name for pair in pairs for name in pair} | {"edge", "focus"})
        colours = desk.browser.js(
            "(() => { const one = document.body.appendChild(document.createElement('i')), found = {};"
            f" for (const name of {json.dumps(names)}) {{ one.style.color = `var(--${{name}})`; found[name] = getComputedStyle(one).color }}"
            " one.remove(); return found })()"
        )
        wanted = [(*pair, 4.5) for pair in pairs] + [("edge", "card", 3), ("focus", "paper", 3), ("focus", "card", 3)]
        poor = {
            (one, other): round(contrast(colours[one], colours[other]), 2)
            for one, other, least in wanted
            if contrast(colours[one], colours[other]) < least
        }
        equal((dark, poor), (dark, {}))


@check
def everything_has_a_role_and_a_name(desk):
    service = busy(desk)
    for _, size in SIZES:
        desk.open(service, size)
        tree = desk.browser.tree()
        named = {"button", "table", "columnheader", "rowheader", "combobox", "heading", "region", "link"}
        equal([node for node in tree if node["role"] in named and not node["name"]], [])
        roles = [node["role"] for node in tree]
        assert roles.count("table") >= 6, roles.count("table")
        assert roles.count("cell") > 20, roles.count("cell")
        equal([roles.count(role) for role in ("main", "banner")], [1, 1])
        heads = (
            "[...document.querySelectorAll('h1, h2')].filter((one) => one.offsetWidth).map((one) => one.textContent)"
        )
        equal(desk.browser.js(heads)[1:3], ["1 target rests", "Ask it"])
        equal(
            desk.browser.js("[...document.querySelectorAll('[id]')].length - new Set([...document.querySelectorAll('[id]')].map((one) => one.id)).size"),
            0,
        )  # fmt: skip
        small = desk.browser.js(
            "[...document.querySelectorAll('button, select, input')].filter((one) => one.offsetWidth && (one.offsetWidth < 24 || one.offsetHeight < 24)).length"
        )
        equal(small, 0)


@check
def keys_reach_everything_and_nothing_takes_the_focus_away(desk):
    service = desk.start()
    desk.open(service)
    browser, visited = desk.browser, []
    for _ in range(8):
        browser.key("Tab")
        visited.append(browser.js("document.activeElement.id"))
    equal(visited[:6], ["skip", "pause", "dialect", "model", "curl", "copy"])
    browser.js("get('model').focus(); getSelection().selectAllChildren(get('curl'))")
    service.chat("up/words")
    desk.shows("#tiles", "Calls so far\n1")
    equal(browser.js("[document.activeElement.id, getSelection().toString().startsWith('curl')]"), ["model", True])


@check
def it_can_be_paused(desk):
    service = desk.start()
    desk.open(service)
    desk.browser.js("get('pause').focus()")
    desk.browser.key("Enter")
    equal(desk.browser.js("get('pause').getAttribute('aria-pressed')"), "true")
    before = len(desk.browser.requests)
    time.sleep(4)
    desk.browser.js("0")
    equal(len(desk.browser.requests) - before, 0)
    service.chat("up/words")
    desk.browser.key("Enter")
    desk.shows("#tiles", "Calls so far\n1", 3)


@check
def its_headers_let_nothing_else_through(desk):
    service = desk.start(KEYED)
    for key, accept, status, kind in (
        (CALLER, "*/*", 200, "text/html; charset=utf-8"),
        (None, "text/html", 401, "text/html; charset=utf-8"),
        (None, "*/*", 401, "application/json"),
    ):
        answer = service.get("/", key=key, accept=accept)
        equal((answer.status, answer.headers["content-type"]), (status, kind))
        if kind.startswith("text/html"):
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; script-src 'sha256-"), policy
            assert "unsafe" not in policy
            assert "connect-src 'self'" in policy
    desk.open(service)
    desk.browser.errors.clear()
    blocked = desk.browser.js(
        "new Promise((done) => { addEventListener('securitypolicyviolation', (event) => done(event.effectiveDirective));"
        " const one = document.createElement('script'); one.textContent = 'window.pwned = 1'; document.body.append(one) })"
    )
    equal((blocked, desk.browser.js("window.pwned === undefined")), ("script-src-elem", True))
    desk.browser.errors.clear()


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    ours = ("about:", "http://127.0.0.1:", "data:image/svg")
    results = []
    with Browser() as browser, Emulator({"models": ["words"], "key": "sk-provider-key-77b1"}) as up:
        for function in CHECKS:
            desk = Desk(browser, folder, up.url)
            results.append(holds(function, desk, folder, ours))
            browser.open("about:blank")
            desk.services.close()
    return summed_up(results, folder)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp(prefix="prx-served-page-"))))
