"""Text that others wrote, shown as text: a terminal, a Markdown page and a shell obey none of it."""

from __future__ import annotations

import re
import unicodedata

BIDI = set(map(chr, [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]))  # make a line read otherwise than it is


def is_control(character: str) -> bool:
    """Whether a character is none to read: an escape, a line break, half a surrogate pair, a change of direction."""
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in BIDI


def printable(text: str) -> str:
    r"""A text with control characters other than line breaks written out: the escape character as \x1b."""
    return "".join(c if c == "\n" or not is_control(c) else ascii(c)[1:-1] for c in text)


def escaped(text: object) -> str:
    """A text for Markdown, within a line or a table's cell: no tag, link, image, emphasis or further cell comes of it."""
    line = " ".join(printable(str(text)).split("\n")).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*|~]|](?=[(\[:]))", r"\\\1", line)


def as_code(text: str) -> str:
    """A text as code within a line of Markdown."""
    line = " ".join(printable(text).split("\n"))
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{fence}{line}{fence}" if len(fence) == 1 else f"{fence} {line} {fence}"
