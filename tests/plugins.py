"""Plug-ins as others write them, and the page that tells how."""

import re
import textwrap
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "with_other_tools.md"


def blocks_of(section: str) -> list[str]:
    """The indented blocks of a section of the page, as a reader copies them."""
    text = PAGE.read_text(encoding="utf-8").partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    found = re.findall(r"(?:^(?: {4}.*)?\n)+", text, flags=re.MULTILINE)
    return [f"{textwrap.dedent(block).strip()}\n" for block in found if block.strip()]


def install(folder: Path, name: str, module: str, entry_points: str, *, version: str = "0.1") -> None:
    """What an installer leaves of a distribution of one module: the module, and a folder about it."""
    about = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (about / "entry_points.txt").write_text(entry_points)
    (folder / f"{name.replace('-', '_')}.py").write_text(module)
