"""The page in a real browser: python tests/page/run.py [FOLDER for the pictures]. Needs Chromium; exits 1 where something fails.

It makes reports up, opens them, and looks: what is drawn, what keys do, what a screen reader is told, what colours
contrast with, what is loaded, and how long it takes with a thousand providers.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import traceback
from collections import Counter
from itertools import pairwise
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "engine")]

from browser import CTRL, Browser  # noqa: E402
from made_up import report  # noqa: E402

from prx.conformance import compared_page, page  # noqa: E402
from prx.conformance.compare import compared  # noqa: E402
from prx.conformance.saved import Saved  # noqa: E402

DESK = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844, "phone": True}
FOCUS = (
    "document.activeElement.getAttribute('aria-label') || document.activeElement.id || document.activeElement.tagName"
)
CHECKS = []


def say(line):
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def check(function):
    CHECKS.append(function)
    return function


class Desk:
    """The browser with the pages that the checks open."""

    def __init__(self, browser, folder):
        self.browser, self.folder, self.reports, self.told = browser, folder, {}, {}

    def page(self, name, made=None):
        path = self.folder / f"{name}.html"
        if name not in self.reports:
            self.reports[name] = made or report(*name)
            started = time.perf_counter()
            path = self.path(name)
            path.write_text(page.render(self.reports[name]), encoding="utf-8")
            self.told[f"{name}: rendered, seconds"] = round(time.perf_counter() - started, 2)
            self.told[f"{name}: report as JSON, MB"] = round(len(json.dumps(self.reports[name])) / 1e6, 1)
            self.told[f"{name}: page, MB"] = round(path.stat().st_size / 1e6, 2)
        return self.path(name)

    def path(self, name):
        return self.folder / f"{'x'.join(map(str, name)) if isinstance(name, tuple) else name}.html"

    def open(self, name, link="", made=None, size=DESK, **media):
        self.browser.emulate(**size, **media)
        self.page(name, made)
        self.browser.js("try { localStorage.clear() } catch {}")
        self.browser.open("about:blank")
        return self.browser.open(self.path(name).as_uri() + link)

    def picture(self, name):
        time.sleep(0.35)  # what slides has slid
        self.browser.picture(self.folder / f"{name}.png")


def equal(found, expected):
    assert found == expected, f"\n  found    {found!r}\n  expected {expected!r}"


# ------------------------------------------------------------------ what is drawn


@check
def counts_are_the_reports(desk):
    desk.open((1000, 30))
    results = desk.reports[1000, 30]["results"]
    outcomes = Counter(result["outcome"] for result in results)
    asked = sum(outcomes[name] for name in ("passed", "failed", "error", "limited"))
    kinds = Counter((result["evidence"] or {"kind": "none"})["kind"] for result in results)
    shown = desk.browser.js("[...document.querySelectorAll('.chip b')].map(one => +one.textContent.replace(/,/g, ''))")
    equal(shown, [outcomes[name] for name in page.OUTCOMES] + [kinds[name] for name in page.KINDS])
    assert desk.browser.js("document.querySelector('h1').textContent").startswith(
        f"{outcomes['passed']:,} of {asked:,} passed"
    )
    label = desk.browser.js("document.getElementById('share').getAttribute('aria-label')")
    assert label.startswith("Of 30,000 cells: ")


@check
def every_cell_says_what_the_report_says(desk):
    desk.open((10, 30))
    said = desk.browser.js(
        "[...document.querySelectorAll('[role=gridcell]')].map(one => one.getAttribute('aria-label'))"
    )
    words = {
        "limited": "rate limited",
        "unclaimed": "not claimed",
        "unrecorded": "not recorded",
        "server": "real server",
    }
    names = {provider["id"]: provider["name"] for provider in desk.reports[10, 30]["providers"]}
    expected = {
        f"{names[result['provider']]}, {result['case'].replace('_', ' ')}: "
        + ", ".join(
            words.get(word, word) for word in (result["outcome"], (result["evidence"] or {}).get("kind")) if word
        )
        for result in desk.reports[10, 30]["results"]
    }
    equal(set(said), expected)
    equal(len(said), 300)


@check
def only_rows_in_sight_exist(desk):
    desk.open((1000, 30))
    for top in (0, 5000, 20000, 10**6):
        desk.browser.js(f"document.getElementById('view').scrollTop = {top}")
        desk.browser.frames(3)
        rows = desk.browser.js("document.querySelectorAll('#body > [role=row]').length")
        assert 16 <= rows <= 55, rows
        covered = desk.browser.js(
            # below the head, whose place depends on the machine's fonts, and above the bar
            "(() => { const edge = (id) => document.getElementById(id).getBoundingClientRect(), from = edge('head').bottom + 2, to = edge('view').bottom - 2;"
            " if (to - from < 200) return [from, to];"
            " for (let y = from; y < to; y += 20) { const at = document.elementFromPoint(600, y); if (!at.closest('[role=row]')) return [y, at.id] } return true })()"
        )
        if top < 10**6:
            equal(covered, True)
    last = desk.browser.js("document.querySelector('#body > [role=row]:last-child').getAttribute('aria-rowindex')")
    equal(last, "1001")


@check
def head_and_first_column_stay(desk):
    for size in (DESK, PHONE):
        desk.open((1000, 30), size=size)
        desk.browser.js("document.getElementById('view').scrollTo(200, 9000)")
        desk.browser.frames(3)
        places = desk.browser.js(
            "(() => { const of = (one) => one.getBoundingClientRect(), head = of(document.querySelector('.case')), bar = of(document.getElementById('bar')),"
            " rows = [...document.querySelectorAll('#body .who')].map((one) => of(one).left);"
            " return [of(document.getElementById('head')).top - bar.bottom, bar.top, bar.left, Math.max(...rows) - Math.min(...rows), Math.min(...rows)] })()"
        )
        assert max(abs(value) for value in places[:4]) < 1, places
        assert places[4] <= 13, places


@check
def nothing_is_wider_than_the_phone(desk):
    for name in ((1000, 30), (36, 7)):
        desk.open(name, size=PHONE)
        equal(
            desk.browser.js(
                "[innerWidth, document.documentElement.scrollWidth, document.getElementById('top').offsetWidth]"
            ),
            [390, 390, 390],
        )
        small = desk.browser.js(
            "[...document.querySelectorAll('button, select, input, [role=gridcell], [role=columnheader]')].filter((one) => one.offsetWidth && one.id !== 'skip')"
            ".map((one) => [one.offsetWidth, one.offsetHeight, one.className || one.id]).filter((one) => one[0] < 24 || one[1] < 24)"
        )
        equal(small, [])
    desk.open((10, 30), "#groq/stream_tools", size=PHONE)
    desk.browser.until("!document.querySelector('.inside[aria-busy]') && document.querySelector('.said')")
    equal(
        desk.browser.js("[document.getElementById('panel').clientWidth, document.getElementById('panel').scrollWidth]"),
        [390, 390],
    )


# ------------------------------------------------------------------ keys


@check
def keys_move_the_focus(desk):
    desk.open((1000, 30))
    browser = desk.browser
    browser.key("/")
    equal(browser.js("document.activeElement.id"), "search")
    browser.key("ArrowDown")
    first = browser.js("spoken(list[0], 0)")
    equal(browser.js(FOCUS), first)
    for key, modifiers, place in (
        ("ArrowRight", 0, (0, 1)), ("ArrowDown", 0, (1, 1)), ("End", 0, (1, 29)), ("ArrowRight", 0, (1, 29)), ("Home", 0, (1, 0)),
        ("End", CTRL, (999, 29)), ("ArrowDown", 0, (999, 29)), ("ArrowUp", 0, (998, 29)), ("Home", CTRL, (0, 0)),
    ):  # fmt: skip
        browser.key(key, modifiers)
        equal((key, browser.js(FOCUS)), (key, browser.js(f"spoken(list[{place[0]}], {place[1]})")))
        seen = browser.js(
            "(() => { const b = document.activeElement.getBoundingClientRect(); return document.elementFromPoint(b.x + b.width / 2, b.y + b.height / 2) === document.activeElement })()"
        )
        assert seen, f"{key}: the focus is covered"
    equal(browser.js("document.querySelectorAll('#grid [tabindex=\"0\"]').length"), 1)
    browser.key("PageDown")
    assert browser.js("at.p") > 5
    browser.key("Home", CTRL)
    browser.key("ArrowLeft")
    assert browser.js("document.activeElement.getAttribute('role')") == "rowheader"
    browser.key("ArrowUp")
    equal(browser.js("document.activeElement.id"), "corner")
    browser.key("ArrowRight")
    browser.key("Enter")
    equal(
        browser.js("document.querySelector('[aria-sort]').getAttribute('aria-label')"),
        "chat, talking: a text is answered with a text",
    )
    equal(browser.js("outcomes[list[0].outcome[0]]"), "failed")


@check
def enter_opens_and_escape_goes_back(desk):
    desk.open((1000, 30))
    browser = desk.browser
    browser.js("move(700, 9)")
    browser.key("ArrowDown")
    here = browser.js(FOCUS)
    browser.key("Enter")
    browser.until("document.getElementById('panel').open && !document.querySelector('.inside[aria-busy]')")
    equal(browser.js("document.activeElement.id"), "panel-title")
    equal(browser.js("decodeURIComponent(location.hash)"), browser.js("`#${list[701].id}/${cases[9].name}`"))
    dialogs = [node for node in browser.tree() if node["role"] == "dialog"]
    equal(
        [(one["name"], one.get("modal")) for one in dialogs], [(browser.js("list[701].name") + " · stream tools", True)]
    )
    browser.key("ArrowRight")
    browser.until("document.getElementById('panel-title').textContent.endsWith('stream think')")
    browser.key("ArrowLeft")
    browser.click("[data-step='↓']")
    browser.until("document.getElementById('panel-title').textContent === `${list[702].name} · stream tools`")
    equal(browser.js(FOCUS), "Next provider")
    browser.key("Escape")
    browser.until("!document.getElementById('panel').open")
    browser.frames(2)
    equal(browser.js(FOCUS), browser.js("spoken(list[702], 9)"))
    equal(browser.js("location.hash"), "")
    assert here == browser.js("spoken(list[701], 9)")
    browser.key("Enter")
    browser.until("document.getElementById('panel').open")
    browser.js("history.back()")
    browser.until("!document.getElementById('panel').open")


@check
def help_opens_and_keys_can_be_turned_off(desk):
    desk.open((10, 30))
    browser = desk.browser
    browser.js("move(2, 2)")
    here = browser.js(FOCUS)
    browser.key("?")
    browser.until("document.getElementById('keys').open")
    equal([node["name"] for node in browser.tree() if node["role"] == "dialog"], ["How to read this page"])
    desk.picture("help-desk")
    browser.js("document.querySelector('.check input').scrollIntoView()")  # the dialog may be higher than the window
    browser.click(".check input")
    browser.key("Escape")
    browser.until("!document.getElementById('keys').open")
    equal(browser.js(FOCUS), here)
    browser.key("/")
    equal(browser.js(FOCUS), here)


@check
def tab_reaches_everything_once(desk):
    desk.open((1000, 30))
    seen = []
    for _ in range(40):
        desk.browser.key("Tab")
        now = desk.browser.js(
            "document.activeElement === document.body ? '' : document.activeElement.textContent.trim().slice(0, 12) + '|' + (document.activeElement.getAttribute('role') || document.activeElement.tagName)"
        )
        if not now or (seen and now == seen[0]):
            break
        seen.append(now)
    equal(len(seen), len(set(seen)))
    equal((len([one for one in seen if one.endswith("gridcell")]), len(seen)), (1, 20))


@check
def the_focus_survives_scrolling_sorting_and_resizing(desk):
    desk.open((1000, 30))
    browser = desk.browser
    browser.js("move(3, 4)")
    here = browser.js(FOCUS)
    browser.js("document.getElementById('view').scrollTop = 30000")
    browser.frames(3)
    equal(browser.js(FOCUS), here)
    browser.emulate(1000, 700)
    browser.frames(4)
    equal(browser.js(FOCUS), here)
    browser.key("ArrowRight")
    equal(browser.js(FOCUS), browser.js("spoken(list[3], 5)"))
    assert browser.js("document.activeElement.getBoundingClientRect().top > 0")


# ------------------------------------------------------------------ links, filters, sorting


@check
def links_open_what_they_name(desk):
    browser = desk.browser
    desk.open((10, 30), "#groq/stream_tools")
    browser.until("document.querySelector('.said')")
    equal(browser.js("document.getElementById('panel-title').textContent"), "Groq · stream tools")
    desk.open((10, 30), "#groq")
    browser.until("document.querySelectorAll('.tile').length === 30")
    browser.click(".tile")
    browser.until("location.hash.startsWith('#groq/')")
    for wrong in ("#nobody/chat", "#groq/nothing", "#%E0%A4%A", "#/", "#groq/chat/more"):
        desk.open((10, 30), wrong)
        assert browser.js("document.getElementById('panel').open") is (wrong == "#groq/chat/more"), wrong


@check
def filters_show_what_fits(desk):
    desk.open((1000, 30))
    browser, results = desk.browser, desk.reports[1000, 30]["results"]
    browser.js("[...document.querySelectorAll('#by-outcome .chip')][1].click()")
    failed = [result for result in results if result["outcome"] == "failed"]
    equal(browser.js("list.length"), len({result["provider"] for result in failed}))
    browser.js("[...document.querySelectorAll('#by-kind .chip')][0].click()")
    live = {result["provider"] for result in failed if result["evidence"]["kind"] == "live"}
    equal(browser.js("list.length"), len(live))
    equal(browser.js("document.querySelectorAll('.chip[aria-pressed=true]').length"), 2)
    equal(browser.js("document.getElementById('found').textContent"), f"{len(live)} of 1,000 providers")
    browser.frames(2)
    lit = browser.js(
        "[...document.querySelectorAll('.cell:not(.dim)')].every((one) => one.classList.contains('failed') && one.classList.contains('live'))"
    )
    assert lit
    desk.picture("filtered-desk")
    browser.js("document.getElementById('clear').click()")
    equal(
        browser.js("[list.length, document.activeElement.id, document.querySelectorAll('.dim').length]"),
        [1000, "search", 0],
    )
    for letter in "rate limit reached":
        browser.key(letter) if letter != " " else browser.send("Input.insertText", text=" ")
    equal(
        browser.js("list.length"),
        len({result["provider"] for result in results if "Rate limit reached" in result["why"]}),
    )
    browser.js("document.getElementById('search').value = 'zzz no such'; choose()")
    equal(
        browser.js(
            "[list.length, document.getElementById('nothing').hidden, document.getElementById('found').textContent]"
        ),
        [0, False, "0 of 1,000 providers"],
    )
    desk.picture("nothing-desk")
    browser.js("document.querySelector('#nothing button').click()")
    browser.js(
        "document.getElementById('dialect').value = 'gemini'; document.getElementById('dialect').dispatchEvent(new Event('change'))"
    )
    equal(browser.js("list.every((row) => row.dialect === 'gemini') && list.length > 9"), True)


@check
def sorting_sorts(desk):
    desk.open((1000, 30))
    for name, value in {
        "passed": "-row.of.passed",
        "failed": "-(row.of.failed + row.of.error)",
        "live": "-row.live",
    }.items():
        desk.browser.js(
            f"document.getElementById('sort').value = '{name}'; document.getElementById('sort').dispatchEvent(new Event('change'))"
        )
        values = desk.browser.js(f"list.map((row) => {value})")
        equal(values, sorted(values))


# ------------------------------------------------------------------ what is shown of an exchange


@check
def an_exchange_is_shown_to_the_letter(desk):
    browser = desk.browser
    for case in ("chat", "stream"):
        result = next(
            one
            for one in desk.reports.setdefault((10, 30), report(10, 30))["results"]
            if one["case"] == case and one["exchanges"]
        )
        desk.reports.pop((10, 30))
        desk.open((10, 30), f"#{result['provider']}/{case}")
        browser.until("document.querySelectorAll('.said').length === 2")
        shown = browser.js(
            "[...document.querySelectorAll('.said')].map((one) => [...one.querySelectorAll('pre')].map((pre) => pre.textContent))"
        )
        request, response = (result["exchanges"][0][side] for side in ("request", "response"))
        equal(shown[0][1], json.dumps(request["json"], indent=2))
        equal(shown[1][1], response["text"] if "text" in response else json.dumps(response["json"], indent=2))
        equal(
            shown[0][0],
            f"POST {request['uri']}\n" + "\n".join(f"{name}: {value}" for name, value in request["headers"].items()),
        )
        assert "Bearer ***" in shown[0][0]
    broken = next(one for one in desk.reports[10, 30]["results"] if one["outcome"] == "failed")
    desk.open((10, 30), f"#{broken['provider']}/{broken['case']}")
    browser.until("document.querySelector('.said')")
    equal(
        browser.js("[...document.querySelectorAll('.broken code')].map((one) => one.textContent)"), broken["failures"]
    )
    desk.picture("failed-desk")


@check
def what_came_is_marked_beside_what_was_wanted(desk):
    """In the list of conditions, and in the response; the request stands beside the response."""
    made = report(2, 2)
    result = made["results"][1]
    condition, odd = "reply.finish_reason == 'length'", "length(deltas[?content]) > `2`"
    body = {"choices": [{"message": {"content": "a stop sign", "stop": 1}, "finish_reason": "stop"}]}
    result |= {
        "outcome": "failed", "why": "finish_reason: wanted length, came stop", "failures": [condition, odd], "seconds": 1,
        "evidence": {"kind": "live", "what": "w", "date": "2026-11-20", "model": "m"},
        "came": [
            {"condition": condition, "path": "finish_reason", "wanted": "length", "came": "stop"},
            {"condition": odd, "path": "", "wanted": odd, "came": ""},
        ],
        "runs": {"right": 3, "of": 4}, "tokens": 1234,
        "exchanges": [{
            "request": {"method": "POST", "uri": "https://a.example/v1", "headers": {}, "json": {"stop": "stop"}},
            "response": {"status": 200, "headers": {}, "json": body},
        }],
    }  # fmt: skip
    browser = desk.browser
    desk.open("marked", f"#{result['provider']}/{result['case']}", made=made)
    browser.until("document.querySelectorAll('.said').length === 2")
    texts = "[...document.querySelectorAll('{}')].map((one) => one.textContent)"
    equal(browser.js(texts.format(".broken code")), [condition, odd])
    equal(browser.js(texts.format(".broken .wanted")), ["finish_reason length"])
    equal(browser.js(texts.format(".broken .came")), ["stop"])
    equal(browser.js(texts.format(".said .came")), ['"stop"'])
    where = "[...document.querySelectorAll('.pair > section')].map((one) => !!one.querySelector('.said .came'))"
    equal(browser.js(where), [False, True])
    tops = browser.js("[...document.querySelectorAll('.pair > section')].map((one) => one.getBoundingClientRect().top)")
    equal(tops[0], tops[1])
    facts = browser.js(texts.format(".inside > .facts dd"))
    assert "3 of 4 passed" in facts, facts
    assert "1,234" in facts, facts
    desk.picture("marked-desk")


@check
def a_comparison_shows_both_sides(desk):
    """Without a script: each exchange opens, the two of a case beside each other, and nothing is wider than the window."""
    before, after = (Saved(name, report(3, 6)["results"]) for name in ("before", "after"))
    for result in after.rows[:4]:
        result |= {"outcome": "failed", "why": "came <b>stop</b>", "came": []}
    path = desk.folder / "compared.html"
    path.write_text(compared_page.render(compared(before, after)), encoding="utf-8")
    browser = desk.browser
    browser.emulate(**DESK)
    browser.open(path.as_uri())
    rows = browser.js("document.querySelectorAll('tbody tr').length")
    assert 1 <= rows <= 4, rows
    equal(browser.js("document.querySelectorAll('tbody b, script').length"), 0)
    browser.click(".worse summary")
    browser.until("document.querySelector('.worse details[open] pre').offsetHeight > 40")
    assert browser.js("document.querySelector('.worse pre').textContent").startswith("> POST ")
    lefts = browser.js("[...document.querySelectorAll('tr.worse')][0].querySelectorAll('.side').length")
    equal(lefts, 2)
    equal(browser.js("document.documentElement.scrollWidth <= innerWidth"), True)
    desk.picture("compared-desk")


@check
def only_what_was_asked_is_counted(desk):
    made = report(1, 8)
    outcomes = ["passed", "passed", "failed", "limited", "skipped", "unrecorded", "unasked", "unclaimed"]
    for result, outcome in zip(made["results"], outcomes, strict=True):
        result |= {"outcome": outcome, "evidence": {"kind": "live"} if outcome in outcomes[:4] else None}
    desk.open("counted", made=made)
    headline = desk.browser.js("document.querySelector('h1').textContent")
    equal(headline, "2 of 4 passed2 live, 3 not asked")
    equal(desk.browser.js("document.querySelector('#body .who em').textContent"), "2/4")
    bars = desk.browser.js("[...document.querySelectorAll('.case u')].map((one) => one.children.length)")
    equal(sorted(bars), [0, 0, 0, 1, 1, 1, 1, 1])


@check
def what_a_provider_says_is_never_read_as_html(desk):
    nasty = "</script><script>window.pwned = 1</script><img src=x onerror='window.pwned = 2'>\u2028\u2029\ud800 @data@ @script@ \x00 &lt;"
    made = report(3, 4)
    for provider in made["providers"]:
        old = provider["id"]
        provider.update(
            id=old + nasty, name=nasty, dialect=nasty, docs="javascript:window.pwned = 3", base_url=nasty, file=nasty
        )
        provider["flags"] = {nasty: {"value": True, "known": nasty, "what": nasty, "date": nasty}}
        for result in made["results"]:
            if result["provider"] == old:
                result.update(provider=provider["id"], why=nasty, failures=[nasty], outcome="failed")
                result["evidence"] = {"kind": "live", "what": nasty, "date": nasty, "model": nasty}
                result["exchanges"] = [{"request": {"method": nasty, "uri": nasty, "headers": {nasty: nasty}, "json": nasty},
                                        "response": {"status": 200, "headers": {}, "text": nasty}}]  # fmt: skip
    for case in made["cases"]:
        case.update(title=nasty, group=nasty)
    browser = desk.browser
    desk.open("nasty", made=made)
    browser.js("move(0, 0)")
    browser.key("Enter")
    browser.until("document.querySelectorAll('.said').length === 2")
    assert "<img src=x" in browser.js("document.querySelector('.said:last-child pre:last-child').textContent")
    browser.click("[data-step='⌂']")
    browser.until("document.querySelectorAll('.tile').length === 4")
    equal(
        browser.js("[window.pwned === undefined, document.images.length, document.querySelectorAll('a').length]"),
        [True, 0, 0],
    )
    desk.picture("nasty-desk")


@check
def nothing_at_all_is_a_page_too(desk):
    for name, made in {
        "empty": {**report(0, 0)},
        "no-results": {**report(3, 4), "results": []},
        "no-cases": {**report(3, 4), "cases": [], "results": []},
    }.items():
        desk.open(name, made=made)
        for key in ("Tab", "ArrowDown", "ArrowRight", "Enter", "Escape"):
            desk.browser.key(key)
        desk.browser.js("list.length && move(0, 0)")
        desk.browser.key("Enter")
        desk.picture(f"{name}-desk")


# ------------------------------------------------------------------ colours, names, preferences


def luminance(colour):
    parts = [float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@check
def colours_contrast(desk):
    for dark in (False, True):
        desk.open((10, 30), dark=dark)
        colours = desk.browser.js(
            "(() => { const one = document.body.appendChild(document.createElement('i')), found = {};"
            " for (const look of ['', ...outcomes, 'any']) { one.className = look;"
            "  for (const name of look ? ['fill', 'on', 'word', 'tint', 'stripe'] : ['paper', 'card', 'well', 'ink', 'soft', 'edge', 'focus', 'key', 'text', 'number']) {"
            "   one.style.color = `var(--${name})`; found[`${look} ${name}`.trim()] = getComputedStyle(one).color } }"
            " one.remove(); return found })()"
        )
        wanted = [("ink", place, 4.5) for place in ("paper", "card", "well")] + [
            ("soft", place, 4.5) for place in ("paper", "card", "well")
        ]
        wanted += [(name, place, 4.5) for name in ("key", "text", "number") for place in ("well", "card")]
        wanted += [("edge", "card", 3), ("edge", "paper", 3), ("focus", "paper", 3), ("focus", "card", 3)]
        for look in (*page.OUTCOMES, "any"):
            wanted += [
                (f"{look} on", f"{look} fill", 4.5),
                (f"{look} word", "card", 4.5),
                (f"{look} word", "paper", 4.5),
            ]
            wanted += [
                (f"{look} word", f"{look} tint", 4.5),
                (f"{look} word", f"{look} stripe", 3),
                ("ink", f"{look} tint", 4.5),
            ]
            wanted += [(f"{look} fill", "paper", 3)] if look != "limited" else []  # whose rim is its word's colour
        measured = {(one, other): (contrast(colours[one], colours[other]), least) for one, other, least in wanted}
        poor = {pair: round(value, 2) for pair, (value, least) in measured.items() if value < least}
        equal((dark, poor), (dark, {}))
        theme = "dark" if dark else "light"
        desk.told[f"least contrast of a text, {theme}"] = round(
            min(value for value, least in measured.values() if least == 4.5), 2
        )
        desk.told[f"least contrast of a sign, {theme}"] = round(
            min(value for value, least in measured.values() if least == 3), 2
        )


@check
def everything_has_a_role_and_a_name(desk):
    desk.open((10, 30))
    tree = desk.browser.tree()
    roles = Counter(node["role"] for node in tree)
    equal(
        [roles[role] for role in ("grid", "row", "columnheader", "rowheader", "gridcell", "main", "banner", "search")],
        [1, 11, 31, 10, 300, 1, 1, 1],
    )
    named = {
        "button",
        "grid",
        "columnheader",
        "rowheader",
        "gridcell",
        "searchbox",
        "combobox",
        "image",
        "group",
        "dialog",
        "heading",
        "checkbox",
        "link",
    }
    equal([node for node in tree if node["role"] in named and not node["name"]], [])
    unnamed = [
        node
        for node in tree
        if node.get("focusable") and not node["name"] and node["role"] not in ("RootWebArea", "generic")
    ]
    equal(unnamed, [])
    equal(
        desk.browser.js("document.querySelectorAll('[id]').length"),
        desk.browser.js("new Set([...document.querySelectorAll('[id]')].map((one) => one.id)).size"),
    )
    equal(
        desk.browser.js(
            "[document.documentElement.lang, !!document.title, document.querySelectorAll('h1').length, grid.getAttribute('aria-rowcount'), grid.getAttribute('aria-colcount')]"
        ),
        ["en", True, 1, "11", "31"],
    )
    orphans = desk.browser.js(
        "[...document.querySelectorAll('[role=gridcell], [role=rowheader], [role=columnheader]')].filter((one) => one.parentElement.getAttribute('role') !== 'row').length"
        " + [...document.querySelectorAll('[role=row]')].filter((one) => !one.closest('[role=rowgroup]')).length"
    )
    equal(orphans, 0)
    desk.open((10, 30), "#groq/stream_tools")
    desk.browser.until("document.querySelector('.said')")
    tree = desk.browser.tree()
    equal([node for node in tree if node["role"] in named and not node["name"]], [])
    equal(
        [node["role"] for node in tree if node["role"] == "gridcell"], []
    )  # what is behind the dialog is out of reach
    levels = desk.browser.js(
        "[...document.querySelectorAll('#panel h2, #panel h3, #panel h4')].map((one) => +one.tagName[1])"
    )
    equal(levels[0], 2)
    assert all(after - before <= 1 for before, after in pairwise(levels)), levels


@check
def the_theme_follows_the_system_until_told(desk):
    browser = desk.browser
    papers = {}
    for dark in (False, True):
        desk.open((10, 30), dark=dark)
        papers[dark] = browser.js("getComputedStyle(document.body).backgroundColor")
        equal(
            browser.js("document.getElementById('theme').getAttribute('aria-label')"),
            f"Use the {'light' if dark else 'dark'} theme",
        )
    assert luminance(papers[True]) < 0.02
    assert luminance(papers[False]) > 0.8
    browser.click("#theme")
    equal(browser.js("getComputedStyle(document.body).backgroundColor"), papers[False])
    for _ in range(20):  # what is stored is written by another process, some time later
        browser.open(desk.path((10, 30)).as_uri())
        if browser.js("getComputedStyle(document.body).backgroundColor") == papers[False]:
            break
        time.sleep(0.5)
    equal(browser.js("getComputedStyle(document.body).backgroundColor"), papers[False])
    browser.js("localStorage.clear()")


@check
def preferences_are_kept(desk):
    desk.open((10, 30), "#groq/chat", **{"prefers-reduced-motion": "reduce"})
    equal(desk.browser.js("document.getAnimations().length"), 0)
    equal(
        desk.browser.js(
            "[getComputedStyle(panel).animationName, getComputedStyle(document.querySelector('.cell')).transitionDuration]"
        ),
        ["none", "0s"],
    )
    desk.open((10, 30), dark=True, **{"forced-colors": "active"})
    desk.picture("forced-colours-desk")


@check
def it_prints_every_row(desk):
    desk.open((36, 30))
    made = desk.browser.printed(desk.folder / "printed-36.pdf")
    assert made.startswith(b"%PDF")
    assert 1 <= made.count(b"/Type /Page\n") <= 2, made.count(b"/Type /Page\n")
    desk.browser.frames(2)
    assert desk.browser.js("document.querySelectorAll('#body > [role=row]').length") <= 36
    desk.browser.js("dispatchEvent(new Event('beforeprint'))")
    equal(desk.browser.js("document.querySelectorAll('#body > [role=row]').length"), 36)
    desk.browser.js("dispatchEvent(new Event('afterprint'))")
    equal(
        desk.browser.js(
            "[...document.querySelectorAll('#body > [role=row]')].every((one, place) => one.offsetTop === place * tall)"
        ),
        True,
    )


# ------------------------------------------------------------------ what it costs


@check
def a_thousand_rows_stay_small(desk):
    """Times are told and not judged: machines differ. What is judged is what makes them: elements and bytes."""
    for size, name in ((DESK, "desk"), (PHONE, "phone")):
        loads = []
        for _ in range(3):
            desk.open((1000, 30), size=size)
            loads.append(desk.browser.js("performance.getEntriesByType('navigation')[0].domComplete"))
        desk.told[f"1000x30 {name}: loaded, ms"] = round(sorted(loads)[1])
        frames = desk.browser.js(
            "new Promise((done) => { const view = document.getElementById('view'), times = []; let last = performance.now(), step = 0;"
            " const next = (now) => { times.push(now - last); last = now; view.scrollTop += step % 40 === 39 ? 4000 : 160; if (++step < 240) requestAnimationFrame(next); else done(times.slice(2)) };"
            " requestAnimationFrame(next) })"
        )
        frames.sort()
        desk.told[f"1000x30 {name}: a frame while scrolling, ms (median, 95 %, worst)"] = [
            round(frames[int(len(frames) * part)], 1) for part in (0.5, 0.95, 0.999)
        ]
    spent = desk.browser.js(
        "(() => { const times = []; for (const word of ['a', 'ka', 'openai', 'timeout', '']) { const from = performance.now(); document.getElementById('search').value = word; choose(); times.push(performance.now() - from) } return Math.max(...times) })()"
    )
    desk.told["1000x30: a letter typed into the search, ms"] = round(spent, 1)
    spent = desk.browser.js(
        "(async () => { const from = performance.now(); await aboutCell(list[500], 8); return performance.now() - from })()"
    )
    desk.told["1000x30: an exchange unpacked and drawn, ms"] = round(spent, 1)
    desk.told["1000x30: elements"] = desk.browser.js("document.querySelectorAll('*').length")
    assert desk.told["1000x30: elements"] < 3000, "only what is to be seen is drawn"
    desk.told["1000x30: heap, MB"] = round(
        next(
            one["value"]
            for one in desk.browser.send("Performance.getMetrics")["metrics"]
            if one["name"] == "JSHeapUsedSize"
        )
        / 1e6,
        1,
    )
    assert desk.path((1000, 30)).stat().st_size < 8e6


@check
def pictures(desk):
    for name in ((10, 30), (36, 7), (1000, 30)):
        for size, where in ((DESK, "desk"), (PHONE, "phone")):
            for dark in (False, True):
                desk.open(name, size=size, dark=dark)
                desk.picture(f"{name[0]}x{name[1]}-{where}-{'dark' if dark else 'light'}")
                desk.open(name, "#groq/stream", size=size, dark=dark)
                desk.browser.until("document.querySelector('.inside') && !document.querySelector('.inside[aria-busy]')")
                if name == (10, 30):
                    desk.picture(f"cell-{where}-{'dark' if dark else 'light'}")
    for size, where in ((DESK, "desk"), (PHONE, "phone")):
        desk.open((10, 30), "#groq", size=size)
        desk.browser.until("document.querySelector('.tile')")
        desk.picture(f"provider-{where}")
    desk.open((1000, 30))
    for kind in ("deuteranopia", "protanopia", "tritanopia", "achromatopsia"):
        desk.browser.send("Emulation.setEmulatedVisionDeficiency", type=kind)
        desk.picture(f"seen-with-{kind}")
    desk.browser.send("Emulation.setEmulatedVisionDeficiency", type="none")


def holds(function, desk, folder, ours):
    """Whether a check holds: it raises nothing, and its page has no errors and asks for nothing but what begins as one of `ours`."""
    name, browser = function.__name__.replace("_", " "), desk.browser
    browser.errors.clear()
    browser.requests.clear()
    started = time.perf_counter()
    try:
        function(desk)
        equal(browser.errors, [])
        equal([url for url in browser.requests if not url.startswith(ours)], [])
        say(f"ok    {name} ({time.perf_counter() - started:.1f} s)")
    except Exception:
        say(f"FAIL  {name}\n{traceback.format_exc(limit=-3)}")
        browser.picture(folder / f"failed-{function.__name__}.png")
        return False
    return True


def summed_up(results, folder):
    """Say how many checks hold; gives the exit code."""
    say(f"{sum(results)} of {len(results)} hold; pictures in {folder}")
    return 0 if all(results) else 1


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    ours = ("about:blank", folder.resolve().as_uri(), "data:image/svg+xml,")
    with Browser() as browser:
        desk = Desk(browser, folder)
        results = [holds(function, desk, folder, ours) for function in CHECKS]
        for what, value in desk.told.items():
            say(f"      {what}: {value}")
    return summed_up(results, folder)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp(prefix="prx-page-"))))
