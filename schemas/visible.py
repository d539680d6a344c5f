"""Text of strangers, for people: in what is printed, and in what a run tells of itself."""

import unicodedata

JOINERS = "\u200c\u200d"
"""Not printable by themselves, but parts of words in some scripts, and of emoji."""


def visible(text: str) -> str:
    r"""``text`` with what a terminal would obey, or a page would not show, spelled out: ``\x1b``, ``\u202e``.

    That is what Unicode calls control, format (bidi controls are), surrogate, private or unassigned, and its line
    and paragraph separators: https://www.unicode.org/reports/tr44/#General_Category_Values
    """
    if text.isprintable():
        return text
    return "".join(one if _shows(one) else _spelled(one) for one in text)


def _shows(one: str) -> bool:
    return one.isprintable() or one in JOINERS or unicodedata.category(one) == "Zs"


def _spelled(one: str) -> str:
    number = ord(one)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
