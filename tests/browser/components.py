"""A component's own files in an empty page, called as Streamlit calls them, without a server."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any, TypeAlias

from pages import _film, _rows, _viewer

Component: TypeAlias = tuple[Path, tuple[str, ...]]
"""Its folder, and its scripts in their order."""

VIEWER: Component = (_viewer.FOLDER, _viewer.SCRIPTS)
FILM: Component = (_film.FOLDER, ("../viewer/calls.js", "../viewer/decode.js", "film.js"))
ROWS: Component = (_rows.FOLDER, ("../viewer/calls.js", "rows.js"))
PLACED = """async ([style, html, script, messages]) => {
  document.body.innerHTML = `<style>${style}</style>${html}`;
  const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  const component = (await import(url)).default;
  const bytes = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const data = messages.map((m) => (m.base64 === undefined ? m : bytes(m.base64)));
  window.sent = [];
  const tell = (name, value) => window.sent.push(JSON.parse(JSON.stringify(value)));
  window.called = (n) => component({ data: data.at(n), parentElement: document.body,
    setStateValue: tell, setTriggerValue: tell });
}"""


def placed(page, component: Component, messages: list[Any]) -> None:
    """Ready to be called: ``called(n)`` with the nth message; ``sent`` is what it tells."""
    folder, scripts = component
    style, html = (
        (folder / f"{folder.name}.{kind}").read_text(encoding="utf-8") for kind in ("css", "html")
    )
    script = "\n".join((folder / name).read_text(encoding="utf-8") for name in scripts)
    page.goto("about:blank")
    # Playwright takes a list apart number by number, which takes seconds for a picture.
    coded = {i: b64encode(m).decode() for i, m in enumerate(messages) if isinstance(m, bytes)}
    data = [{"base64": coded[i]} if i in coded else m for i, m in enumerate(messages)]
    page.evaluate(PLACED, [style, html, script, data])
