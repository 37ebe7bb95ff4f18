"""The font and the colours of the figures and of the PDF.

matplotlib is not imported: a report in which no figure changed does without it.
"""

import zlib
from functools import cache
from importlib import metadata, util
from pathlib import Path
from typing import Any

from reportlab.pdfbase.ttfonts import TTFont

FONT, BOLD = "DejaVuSans", "DejaVuSans-Bold"
COLOURS = INK, GREY, LIGHT, ACCENT = "#222222", "#767676", "#d4d4d4", "#1f5a8c"


def font_file(name: str) -> Path:
    """Return the file of a DejaVu font, which matplotlib includes."""
    package = util.find_spec("matplotlib")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).with_name("mpl-data") / "fonts" / "ttf" / f"{name}.ttf"


@cache
def load_font(name: str) -> TTFont:
    """Load a font once: reading its tables costs 15 ms."""
    return TTFont(name, str(font_file(name)))


def versions() -> list[str]:
    """Return the versions of what draws a figure besides this project."""
    return [*map(metadata.version, ("matplotlib", "numpy")), zlib.ZLIB_RUNTIME_VERSION]


def drawable(text: Any) -> str:
    """Replace white space by a blank, and characters that the font does not have by a square.

    A no-break space remains one.

    >>> drawable("Søn & Co\\n🦄")
    'Søn & Co □'
    """
    text = str(text)
    if text.isascii() and text.isprintable():
        return text
    glyphs = _glyphs()
    return "".join(
        c if c == "\xa0" or (c.isprintable() and ord(c) in glyphs) else " " if c.isspace() else "□"
        for c in text
    )


@cache
def _glyphs() -> frozenset[int]:
    """Return the code points of DejaVu Sans up to U+FFFF; a PDF cannot be searched for others."""
    return frozenset(code for code in load_font(FONT).face.charToGlyph if code <= 0xFFFF)
