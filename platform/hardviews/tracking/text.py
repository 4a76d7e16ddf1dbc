"""Text of the user, made suitable for figures and for MLflow: any file name can be a class name."""

import unicodedata

# Most characters of a name in a figure.
_LONGEST = 24
# Python keeps a byte of a file name that is not UTF-8 as one of these.
_FIRST_BYTE, _LAST_BYTE = 0xDC80, 0xDCFF


def encodable(text: str) -> str:
    """Return the text with an escape for each character that UTF-8 cannot hold, such as a byte of a Latin-1 name."""
    if text.isascii():
        return text
    return "".join(_escaped(char) if 0xD800 <= ord(char) <= 0xDFFF else char for char in text)


def drawable(text: str, longest: int = _LONGEST) -> str:
    """Return one line that a figure can show: no control characters, at most `longest` characters."""
    shown = "".join(_escaped(char) if unicodedata.category(char) in ("Cc", "Cs") else char for char in text)
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}\u2026"


def _escaped(char: str) -> str:
    code = ord(char)
    if _FIRST_BYTE <= code <= _LAST_BYTE:
        return f"\\x{code - 0xDC00:02x}"
    return char.encode("unicode_escape").decode()
