"""The package of fonts that has a character, by the character's block of Unicode."""

from collections.abc import Iterable

CJK, SYMBOLS, OTHERS = "fonts-noto-cjk", "fonts-symbola", "fonts-noto-core"

# First and last character of a block. Figures draw outlines: fonts of coloured bitmaps have none.
_BLOCKS: tuple[tuple[int, int, str], ...] = (
    (0x1100, 0x11FF, CJK),  # Hangul Jamo
    (0x2190, 0x2BFF, SYMBOLS),  # arrows, mathematics, dingbats, and their emoji
    (0x2E80, 0x31FF, CJK),  # radicals, kana, Bopomofo
    (0x3200, 0x9FFF, CJK),  # ideographs
    (0xA960, 0xA97F, CJK),  # Hangul Jamo
    (0xAC00, 0xD7FF, CJK),  # Hangul
    (0xF900, 0xFAFF, CJK),  # compatibility ideographs
    (0xFE30, 0xFE4F, CJK),  # compatibility forms
    (0xFF00, 0xFFEF, CJK),  # full-width forms
    (0x1F000, 0x1FAFF, SYMBOLS),  # emoji
    (0x20000, 0x3FFFF, CJK),  # further ideographs
)


def packages(chars: Iterable[str]) -> list[str]:
    """Return the packages of Debian with fonts for some characters, without repetition, in alphabetical order."""
    return sorted({_package(ord(char)) for char in chars})


def _package(code: int) -> str:
    return next((name for first, last, name in _BLOCKS if first <= code <= last), OTHERS)
