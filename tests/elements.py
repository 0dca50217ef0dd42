"""What a browser would find in a page, for tests that need none."""

import json
from html.parser import HTMLParser
from typing import Any


class Elements(HTMLParser):
    """What a browser would find: start tags with attributes, text outside of scripts, and the scripts."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self._inside: str | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag if tag in ("script", "style") else None
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside is None:
            self.text += data

    def figures(self) -> list[dict[str, Any]]:
        """The embedded figures, read as the page's script reads them."""
        embedded = (attributes.get("type") == "application/json" for tag, attributes in self.tags if tag == "script")
        return [json.loads(script) for script, is_json in zip(self.scripts, embedded, strict=True) if is_json]
