"""Read an answer as people do: its words, its sentences, the number on its first line.

What grows from left to right, as a model's answer does, never changes these readings behind itself:
`settled_words` are the words that no continuation can change any more.
"""

import unicodedata
from fractions import Fraction

import regex

__all__ = [
    "ARTICLES",
    "count_sentences",
    "count_words",
    "first_line",
    "is_wordy",
    "last_number",
    "plain",
    "settled_words",
    "visible",
    "without_invisible",
    "words",
]

ARTICLES = ("a", "an", "the")
# Scripts that write no spaces between words: each of their characters counts as a word.
_SPACELESS = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
_LETTERS = rf"(?:(?!{_SPACELESS})[^\W_])+"
_MINUS = r"(?:(?<!\w)-(?=\d))?"
_WORD = regex.compile(rf"{_SPACELESS}|{_MINUS}{_LETTERS}(?:(?<=\d)[.,](?=\d){_LETTERS})*")
_THOUSANDS = regex.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
# Characters that look like others and are only written in another form: full width, ligatures.
_FORMS = ("<wide>", "<narrow>", "<compat>", "<noBreak>", "<font>")
_INVISIBLE = regex.compile(r"[\p{Cf}\p{Cs}]|(?!\s)\p{Cc}")
_LINE_BREAK = regex.compile(r"[\n\r\v\f\x85\u2028\u2029]")
_NUMBER = regex.compile(
    r"(?<![^\W_])-?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<![^\W_]|\.)-?\.\d+"
)
_OPERATION = regex.compile(r"(?<=[\d)]\s*|\w)[-+*/×÷=]\s*(?=[-.\d])")
_CHUNK = regex.compile(rf"{_SPACELESS}|(?:(?!{_SPACELESS})(?:(?<=\d),(?=\d)|[^\s,;/|–—]))+")
_SENTENCE_END = regex.compile(r"[.!?…]+[\"'”’»)\]*_]*\s+|[。！？]+")
_ABBREVIATION = regex.compile(
    r"(?:^|[\s(])(?:(?i:mrs?|ms|drs?|prof|st|vs|e\.g|i\.e)|\p{Lu})\.\s+$|^\d+\.\s+$"
)


def without_invisible(text: str) -> str:
    """Remove the characters that nobody sees: marks of direction, escapes, lone surrogates."""
    return str(_INVISIBLE.sub("", text))


def plain(text: str) -> str:
    """Write a text as its readers see it: one form of each character, one space between words."""
    if text.isascii() and text.isprintable():
        return " ".join(text.split())
    seen = unicodedata.normalize("NFC", without_invisible(text))
    seen = unicodedata.normalize("NFC", "".join(map(_common, seen)))
    return " ".join(seen.split())


def _common(letter: str) -> str:
    """Write a character in its common form; superscripts and fractions stay what they are."""
    form = unicodedata.decomposition(letter).startswith(_FORMS)
    return unicodedata.normalize("NFKC", letter) if form else letter


def visible(text: str) -> str:
    """Remove the characters that nobody sees, and the spaces at both ends."""
    return without_invisible(text).strip()


def words(text: str) -> list[str]:
    """Return the words of a text, without their case, punctuation and thousands separators."""
    return [_plain(found.group()) for found in _WORD.finditer(_folded(text))]


def settled_words(text: str) -> list[str]:
    """Return the words that stay the same however the text goes on."""
    folded = _folded(text)
    found = list(_WORD.finditer(folded))
    if found and _may_grow(folded, found[-1].end()):
        found.pop()
    return [_plain(word.group()) for word in found]


def _folded(text: str) -> str:
    """Write equal letters equally: composed, without case, with one kind of minus."""
    plain = without_invisible(text).replace("\N{MINUS SIGN}", "-")
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", plain).casefold())


def _may_grow(text: str, end: int) -> bool:
    """Tell whether the word that ends there is the last thing said, or a number's `3.` or `3,`."""
    rest = text[end:]
    return not rest or (rest in (".", ",") and text[end - 1].isdigit())


def _plain(word: str) -> str:
    return word.replace(",", "") if _THOUSANDS.fullmatch(word) else word


def is_wordy(letter: str) -> bool:
    """Tell a character that may go on a word: a letter or digit of a script with spaces."""
    return bool(regex.fullmatch(rf"(?!{_SPACELESS})[\w\p{{M}}]", letter))


def count_words(text: str) -> int:
    """Count words as an editor does: what stands between spaces, `well-known` and `3.5` once."""
    return sum(bool(_WORD.search(chunk.group())) for chunk in _CHUNK.finditer(visible(text)))


def count_sentences(text: str) -> int:
    """Count sentences; a line break ends one, too, as in a list."""
    lines = _LINE_BREAK.split(visible(text))
    return sum(bool(_WORD.search(part)) for line in lines for part in _sentences(line))


def _sentences(line: str) -> list[str]:
    """Cut a line behind `.`, `!` and `?`, but not behind `Dr.`, an initial or a list's `1.`"""
    parts, start = [], 0
    for end in _SENTENCE_END.finditer(line):
        if not _ABBREVIATION.search(line[start : end.end()]):
            parts.append(line[start : end.end()])
            start = end.end()
    return [*parts, line[start:]]


def first_line(text: str) -> tuple[str, bool]:
    """Return the first line that says anything, and whether another one has begun."""
    line, *more = _LINE_BREAK.split(without_invisible(text).lstrip(), maxsplit=1)
    return line.strip(), bool(more)


def last_number(line: str) -> Fraction | None:
    """Return the last number of a line: `2 - 5 = -3` ends in -3, `7-3` in 3."""
    plain = unicodedata.normalize("NFKC", line).replace("\N{MINUS SIGN}", "-")
    apart = _OPERATION.sub(lambda sign: f" {sign.group().strip()} ", plain)
    found = _NUMBER.findall(apart)
    return Fraction(found[-1].replace(",", "")) if found else None
