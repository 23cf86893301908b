"""The web page in a real browser: it lives, it says when it does not, it halts and resumes, it fits, it can be read."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.e2e import browser as browsers
from tests.e2e.browser import Browser
from tests.gateway_desk import Desk, desk, publish_alert, publish_market

from tickmesh.domain.messages import Control, decode

CHROMIUM = browsers.find()
KEEP = os.environ.get("TICKMESH_SCREENSHOTS", "")

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(
        CHROMIUM is None, reason="no Chromium on this machine: install chromium or name one in TICKMESH_CHROMIUM"
    ),
]


@pytest.fixture
async def tab() -> AsyncIterator[Browser]:
    assert CHROMIUM is not None
    async with browsers.open_browser(CHROMIUM) as opened:
        yield opened


@contextlib.asynccontextmanager
async def market(opened: Desk, steps_before: int = 120) -> AsyncIterator[None]:
    """Publish a moving market until the test is over."""
    for number in range(steps_before):
        publish_market(opened.bus, number)
    publish_alert(opened.bus, "<b>the margin ratio is above 0.8</b>")

    async def move() -> None:
        number = steps_before
        while True:
            publish_market(opened.bus, number)
            number += 1
            await asyncio.sleep(0.1)

    task = asyncio.create_task(move())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def shot(tab: Browser, name: str) -> None:
    if KEEP:
        await tab.screenshot(Path(KEEP) / f"{name}.png")


def text_of(element: str) -> str:
    return f"document.getElementById('{element}').textContent"


async def test_the_page_lives_without_a_complaint_of_the_browser_and_asks_nobody_else(tab: Browser) -> None:
    async with desk() as opened, market(opened):
        await tab.go(opened.url)
        await tab.until(f"{text_of('link')} === 'live'")
        first = await tab.until(f"{text_of('quote')}.includes('60,0') && {text_of('quote')}")
        await tab.until(f"{text_of('quote')} !== {first!r}")
        assert await tab.evaluate("document.querySelectorAll('#ladder tbody tr').length") == 19
        assert "0.025" in await tab.evaluate(text_of("positions"))
        assert await tab.evaluate("document.querySelectorAll('#recent tbody tr').length") > 3
        assert "µs" in await tab.evaluate(text_of("tick"))
        assert await tab.evaluate("document.querySelectorAll('#stages tbody tr').length") == 8
        # What came over the bus as markup stays text.
        assert "<b>the margin" in await tab.evaluate(text_of("alerts"))
        assert await tab.evaluate("document.querySelectorAll('#alerts b').length") == 0
        drawn = "[...document.getElementById('chart').getContext('2d').getImageData(0, 0, 600, 200).data].some(v => v)"
        assert await tab.evaluate(drawn)
        await shot(tab, "desk")
        assert tab.problems == []
        assert [url for url in tab.requested if not url.startswith((opened.url, "ws://127.0.0.1"))] == []


async def test_it_says_that_the_connection_is_lost_and_comes_back_by_itself(tab: Browser) -> None:
    async with desk() as opened, market(opened):
        await tab.go(opened.url)
        await tab.until(f"{text_of('link')} === 'live'")
        await opened.stop()
        await tab.until(f"{text_of('link')} === 'connection lost'")
        assert "What you see is old" in await tab.evaluate(text_of("lost"))
        assert not await tab.evaluate("document.getElementById('lost').hidden")
        await shot(tab, "lost")
        await opened.start()
        await tab.until(f"{text_of('link')} === 'live'", 25)
        assert await tab.evaluate("document.getElementById('lost').hidden")
        assert await tab.evaluate("document.querySelectorAll('#recent tbody tr').length") > 3


async def test_a_person_halts_with_one_action_and_resumes_with_two(tab: Browser) -> None:
    async with desk() as opened, market(opened):
        await tab.go(opened.url)
        await tab.until(f"{text_of('link')} === 'live'")
        await tab.click("#halt")
        await tab.type("#halt-actor", "ann")
        await tab.click("#halt-dialog button.danger")
        # Without a reason nothing leaves.
        assert opened.bus.streams["CTL"] == []
        await tab.type("#halt-reason", "looks wrong")
        await tab.click("#halt-flatten")
        await shot(tab, "halt")
        # Enter in a field does what the dialog asks about.
        for kind in ("keyDown", "keyUp"):
            await tab.call(
                "Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r", windowsVirtualKeyCode=13
            )
        await tab.until(f"{text_of('halted-text')}.includes('HALTED: everything, by ann (looks wrong)')")
        await tab.click("#resume")
        await tab.click("#resume-go")
        word = await tab.until(text_of("resume-word"))
        await tab.type("#resume-typed", "nonsense")
        await tab.click("#resume-go")
        await tab.until("document.querySelector('#resume-dialog .problem').textContent.includes('exactly')")
        assert [decode(Control, m.data).verb for m in opened.bus.streams["CTL"]] == ["halt"]
        await tab.type("#resume-typed", word)
        await tab.click("#resume-go")
        await tab.until("document.getElementById('halted').hidden")
        sent = [decode(Control, m.data) for m in opened.bus.streams["CTL"]]
        assert [(c.verb, c.scope, c.actor) for c in sent] == [("halt", "all", "ann"), ("resume", "all", "ann")]
        assert [c.arguments for c in sent] == [{"flatten": "true"}, {}]
        await tab.click("#halt")
        assert not await tab.evaluate("document.getElementById('halt-flatten').checked"), "asked for anew each time"


async def test_with_a_token_the_page_asks_for_it_once(tab: Browser) -> None:
    async with desk(GATEWAY__TOKEN="correct horse battery") as opened, market(opened):
        await tab.go(opened.url)
        await tab.until("document.getElementById('login-dialog').open")
        await tab.type("#login-token", "wrong")
        await tab.click("#login-dialog button.primary")
        await tab.until("document.querySelector('#login-dialog .problem').textContent.includes('not the token')")
        await tab.type("#login-token", "correct horse battery")
        await tab.click("#login-dialog button.primary")
        await tab.until(f"{text_of('link')} === 'live'")
        assert "correct horse" not in await tab.evaluate("document.documentElement.outerHTML + document.cookie")
        await tab.go(opened.url)
        await tab.until(f"{text_of('link')} === 'live'")


@pytest.mark.parametrize(("width", "height", "phone"), [(1280, 900, False), (390, 844, True)])
async def test_it_fits_a_laptop_and_a_phone(tab: Browser, width: int, height: int, phone: bool) -> None:
    async with desk() as opened, market(opened):
        await tab.size(width, height, phone=phone)
        await tab.go(opened.url)
        await tab.until(f"{text_of('link')} === 'live' && {text_of('quote')}.includes('60,0')")
        assert await tab.evaluate("document.documentElement.scrollWidth") <= width
        out = (
            "[...document.querySelectorAll('section,button:not(dialog *),td:not(.scroll *),.big')]"
            ".filter(e => e.offsetParent && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML)"
        )
        assert await tab.evaluate(out) == []
        await shot(tab, "phone" if phone else "laptop")


CONTRAST = """
(() => {
  const parse = c => (c.match(/[\\d.]+/g) || []).map(Number);
  const linear = v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => [r, g, b].map(v => linear(v / 255))
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const ground = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length === 3 || c[3] === 1) return c; } return [0, 0, 0]; };
  const low = [];
  for (const e of document.querySelectorAll('body *')) {
    if (!e.offsetParent || ![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
    const a = light(parse(getComputedStyle(e).color)), b = light(ground(e));
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) low.push(`${e.tagName} ${e.className} ${e.textContent.slice(0, 30)} ${ratio.toFixed(2)}`);
  }
  return low;
})()
"""


async def test_it_can_be_read_and_used_by_everybody(tab: Browser) -> None:
    async with desk() as opened, market(opened):
        await tab.go(opened.url)
        await tab.until(f"{text_of('link')} === 'live' && {text_of('quote')}.includes('60,0')")
        assert await tab.evaluate(CONTRAST) == []
        await tab.click("#halt")
        assert await tab.evaluate(CONTRAST) == []
        unlabelled = "[...document.querySelectorAll('input,select')].filter(e => !e.labels.length).map(e => e.id)"
        assert await tab.evaluate(unlabelled) == []
        tree = await tab.call("Accessibility.getFullAXTree")
        wanted = {"button", "textbox", "combobox", "table", "tab", "dialog", "image"}
        nameless = [
            node["role"]["value"]
            for node in tree["nodes"]
            if not node.get("ignored") and node.get("role", {}).get("value") in wanted
            and not node.get("name", {}).get("value")
        ]  # fmt: skip
        assert nameless == []
        assert await tab.evaluate("document.documentElement.lang") == "en"
