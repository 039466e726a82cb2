"""Pages in a browser that may load nothing but the file: how one is opened and asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, Page, Route

LOW_CONTRASTS: Final = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const [r, g, b] = colour.slice(0, 3).map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgb(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const low = [];
  let seen = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const element = text.parentElement;
    const silent = ["SCRIPT", "STYLE", "title", "desc"];
    if (!text.data.trim() || silent.includes(element.tagName)) continue;
    const style = getComputedStyle(element);
    const ink = light(rgb(element.tagName === "text" ? style.fill : style.color));
    const paper = light(ground(element));
    const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    seen += 1;
    if (ratio < 4.5) low.push(`${text.data.trim()}: ${ratio.toFixed(2)}`);
  }
  return [seen, low];
}"""
"""Texts whose contrast with what is behind them is below WCAG's AA."""

UNFOLD: Final = "document.querySelectorAll('details').forEach((part) => { part.open = true; })"


@dataclass
class Opened:
    """A page in the browser, and all that it has asked for or complained of."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def visible_crops(self, name: str) -> list[str]:
        images = self.page.locator(f'ul[data-name="{name}"] img')
        return [image.get_attribute("alt") or "" for image in images.all() if image.is_visible()]

    def focused(self) -> str:
        return str(self.page.evaluate("document.activeElement.outerHTML"))


OpenPage = Callable[..., Opened]
"""Opens a page's HTML from a file, with options of the browser's context."""


def open_file(browser: Browser, file: Path, **options: Any) -> Opened:  # noqa: ANN401
    options = {"viewport": {"width": 1280, "height": 900}} | options
    context = browser.new_context(**options)
    opened = Opened(context.new_page())

    def only_the_file(route: Route) -> None:
        opened.requests.append(route.request.url)
        if route.request.url == file.as_uri():
            route.continue_()
        else:
            route.abort()

    context.route("**/*", only_the_file)
    opened.page.on("console", lambda message: opened.complaints.append(message.text))
    opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
    opened.page.goto(file.as_uri())
    return opened
