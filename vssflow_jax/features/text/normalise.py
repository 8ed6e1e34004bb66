"""Text as it is written to text as it is spoken.

The rules are those of the reference's cleaner (NETWORKS section 6, after keithito's tacotron),
with readings for what that one garbles: addresses, times, fractions, decades, temperatures.
"""

import functools
import html
import re
import unicodedata
from collections.abc import Callable
from typing import Any, NamedTuple

from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.optional import require

EXTRA = "demo"

# Signs of typesetters as a typewriter has them.
_PLAIN = {
    **dict.fromkeys("‘’‚‛ʼʻʹ′`´＇", "'"),
    **dict.fromkeys("“”„‟«»″＂", '"'),
    **dict.fromkeys("—―⸺⸻", ", "),  # a pause; what only joins words is none
    **dict.fromkeys("‐‑‒–−﹣－", "-"),
    **{"№": "number ", "℃": "°C", "℉": "°F", "²": " squared", "³": " cubed", "µ": " micro"},
}
_BRACKETS = r"\[[^\]]*\]"
_UNSEEN = ("Cf", "Cs")  # joiners, marks of direction, and bytes that were no text
_SELECTORS = "\N{VARIATION SELECTOR-15}\N{VARIATION SELECTOR-16}"
_SPOKEN_SYMBOLS = {
    "&": "and",
    "%": "percent",
    "+": "plus",
    "=": "equals",
    "@": "at",
    "×": "times",
    "÷": "divided by",
    "±": "plus or minus",
    "§": "section",
    "©": "copyright",
}
_CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"),
    "¥": ("yen", "yen", "sen", "sen"),
    "₹": ("rupee", "rupees", "paisa", "paise"),
}
_CENTS = {"¢": ("cent", "cents")}
_SCALES = {"k": "thousand", "m": "million", "bn": "billion"}
_ABBREVIATIONS = {
    "mrs": "missus",
    "mr": "mister",
    "dr": "doctor",
    "st": "saint",
    "co": "company",
    "jr": "junior",
    "maj": "major",
    "gen": "general",
    "drs": "doctors",
    "rev": "reverend",
    "lt": "lieutenant",
    "hon": "honorable",
    "sgt": "sergeant",
    "capt": "captain",
    "esq": "esquire",
    "ltd": "limited",
    "col": "colonel",
    "ft": "fort",
    "vs": "versus",
    "sen": "senator",
    "prof": "professor",
    "gov": "governor",
    "dept": "department",
    "approx": "approximately",
    "ave": "avenue",
    "blvd": "boulevard",
    "mt": "mount",
    "jan": "january",
    "feb": "february",
    "mar": "march",
    "apr": "april",
    "aug": "august",
    "sept": "september",
    "sep": "september",
    "oct": "october",
    "nov": "november",
    "dec": "december",
}
_TITLES = ("Mrs", "Mr", "Dr", "St")  # that are written without a dot too
_ROADS = {"St": "street", "Dr": "drive"}
_PHRASES = {"i.e.": "that is", "e.g.": "for example"}
_DIVISORS = (*range(2, 11), 12, 16, 20, 32, 50, 64, 100)
_DENOMINATORS = {2: ("half", "halves"), 4: ("quarter", "quarters")}
_TOP_LEVELS = "com org net edu gov io co ai tv me info dev app de fr uk us eu ca jp cn".split()
# A number of more digits than this is a name, and so is one that starts with 0.
_MAX_DIGITS = 12


_Say = Callable[[re.Match[str]], str]
"""What is said instead of a part of a text."""


class Normalised(NamedTuple):
    """A text as it is spoken.

    Attributes:
      text: words of ASCII letters (case as it was), apostrophes, dots of abbreviations, and the
        marks , . ? ! for pauses; single spaces.
      left_out: parts of the text that are not spoken, such as "[music]".
    """

    text: str
    left_out: tuple[str, ...]


def normalise(text: str) -> Normalised:
    """Writes out in words what is not: numbers, money, times, abbreviations, addresses, symbols.

    Letters of other scripts are left out, as are emoji and what stands in square brackets.

    Raises:
      UserError: a package of the `demo` extra is not installed.
    """
    text = tidy(text)
    left_out: list[str] = []

    def leave_out(match: re.Match[str]) -> str:
        left_out.append(match.group().strip())
        return " "

    # What happens and is not said, and tags of subtitles.
    text = re.sub(_BRACKETS, leave_out, text)
    text = re.sub(r"</?[a-z][^<>]*>", leave_out, text, flags=re.IGNORECASE)
    text = "".join(map(_unaccented, text))
    text = re.sub(r"\b[a-z]+://(www\.)?", leave_out, text, flags=re.IGNORECASE)
    text = _ADDRESS.sub(_say_address, text)
    for pattern, say in _RULES:
        text = pattern.sub(_apart(say), text)
    text = re.sub(r"[^\sa-z0-9,.?!'\-;:()<>\"{}/_]+", leave_out, text, flags=re.IGNORECASE)
    text = re.sub(r"[;:]", ",", text)
    text = re.sub(r"[()<>\"{}]", "", text)
    text = re.sub(r"[-/_]", " ", text)
    text = re.sub(r"\s+([,.?!])", r"\1", text)
    return Normalised(" ".join(text.split()), tuple(left_out))


def _apart(say: _Say) -> _Say:
    """With space on both sides, since letters may stand beside digits."""
    return lambda match: f" {say(match)} "


def _always(words: str) -> _Say:
    return lambda match: words


def tidy(text: str) -> str:
    """Signs of typesetters and web pages as a typewriter has them, without what cannot be seen."""
    plain = "".join(_PLAIN.get(character, character) for character in html.unescape(text))
    seen = (x for x in plain if unicodedata.category(x) not in _UNSEEN and x not in _SELECTORS)
    return " ".join("".join(seen).split())


# What stands for what could not be read, controls of Windows' code page, and UTF-8 read in it.
_SPOILED = re.compile(
    "\N{REPLACEMENT CHARACTER}|[\x80-\x84\x86-\x9f]|\u00e2\u20ac|[\u00c2\u00c3][\x80-\xbf]"
)


def check_script(text: str) -> None:
    """Sees that the letters of a text are Latin ones, but for what is in square brackets.

    Raises:
      UserError: some are not; the message shows them.
    """
    if any(unicodedata.category(x) == "Cs" for x in text):
        raise UserError("transcript: it is no text in UTF-8; save it so")
    if spoiled := _SPOILED.search(text):
        raise UserError(
            f"transcript: {spoiled[0]!a} comes of a text that was read in another encoding "
            "than it was saved in; make it anew in UTF-8"
        )
    said = re.sub(_BRACKETS, " ", tidy(text))
    foreign = [x for x in said if x.isalpha() and not _unaccented(x)[:1].isascii()]
    if foreign:
        raise UserError(
            f"transcript: '{''.join(foreign[:12])}' is not in Latin letters "
            f"({unicodedata.name(foreign[0], 'without a name').lower()}); only English is read, "
            "write it as it is pronounced"
        )


@functools.lru_cache(maxsize=4096)
def _unaccented(character: str) -> str:
    """An ASCII spelling of a Latin letter or of digits in one sign; others as they are."""
    kind = unicodedata.category(character)
    if character.isascii() or character in _KEPT or kind.startswith("S"):
        return character
    apart = unicodedata.normalize("NFKD", character)
    plain = "".join(part for part in apart if not unicodedata.combining(part))
    if kind == "No":  # 2½ is 2 1/2
        return " " + plain.replace("\N{FRACTION SLASH}", "/")
    if plain.isascii():
        return plain
    if unicodedata.name(character, "").startswith("LATIN"):
        return str(require("anyascii", EXTRA).anyascii(character))
    return character


_KEPT = set(_CURRENCIES) | set(_CENTS) | set(_SPOKEN_SYMBOLS) | {"°"}


# ------------------------------------------------------------------------------------ in words
def _cardinal(digits: str) -> str:
    """A whole number; years in pairs, names digit by digit."""
    plain = digits.replace(",", "")
    if len(plain) > _MAX_DIGITS or (plain.startswith("0") and len(plain) > 1):
        return _by_digits(plain)
    number = int(plain)
    if "," in digits or not 1010 <= number < 3000 or 2000 <= number < 2010:
        return _in_words(number)
    # A year, most often.
    if number % 100 == 0:
        return f"{_in_words(number // 100)} hundred"
    return _in_words(number, group=2, zero="oh")


def _in_words(number: int, **form: Any) -> str:
    words = _inflect().number_to_words(number, andword="", **form)
    return str(words).replace(",", "").replace("-", " ")


def _by_digits(digits: str) -> str:
    return " ".join(_in_words(int(digit)) for digit in digits)


def _ordinal(digits: str) -> str:
    if len(digits.replace(",", "")) > _MAX_DIGITS:
        return f"{_cardinal(digits)} th"
    words = _inflect().number_to_words(f"{int(digits.replace(',', ''))}th", andword="")
    return str(words).replace(",", "").replace("-", " ")


@functools.cache
def _inflect() -> Any:
    return require("inflect", EXTRA).engine()


def _say_decimal(match: re.Match[str]) -> str:
    whole, *rest = match.group().split(".")  # the whole of .5 is empty
    if len(rest) > 1:  # a version
        return " point ".join(_cardinal(part) for part in (whole, *rest))
    return f"{_cardinal(whole) if whole else 'zero'} point {_by_digits(rest[0])}"


def _say_money(match: re.Match[str]) -> str:
    sign, amount, scale = match.group("sign", "amount", "scale")
    one, many, cent, cents = _CURRENCIES[sign]
    whole, _, part = amount.partition(".")
    whole = whole or "0"
    if scale:
        return f"{amount} {_SCALES.get(scale.lower(), scale.lower())} {many}"
    said = []
    if len(part) > 2 or len(whole) > _MAX_DIGITS:
        return f"{amount} {many}"
    number, hundredths = int(whole.replace(",", "")), int(part.ljust(2, "0")[:2]) if part else 0
    if number or not hundredths:
        said.append(f"{whole} {one if number == 1 else many}")
    if hundredths:
        said.append(f"{hundredths} {cent if hundredths == 1 else cents}")
    return ", ".join(said)


def _say_cents(match: re.Match[str]) -> str:
    return f"{match[1]} {_CENTS[match[2]][match[1] != '1']}"


def _say_time(match: re.Match[str]) -> str:
    hour, minute = match.groups()
    said = {"0": f"oh {minute[1]}"}.get(minute[0], minute)
    return _cardinal(str(int(hour))) + ("" if minute == "00" else f" {said}")


def _say_fraction(match: re.Match[str]) -> str:
    whole, above, below = match[1], int(match[2]), int(match[3])
    if not (0 < above < below and below in _DIVISORS):
        return match.group()
    one, many = _DENOMINATORS.get(below, (_ordinal(match[3]), f"{_ordinal(match[3])}s"))
    said = f"{_cardinal(match[2])} {one if above == 1 else many}"
    return f"{_cardinal(whole)} and {said}" if whole else said


def _say_decade(match: re.Match[str]) -> str:
    words = _cardinal(match[1])
    return words[:-1] + "ies" if words.endswith("y") else words + "s"


def _say_temperature(match: re.Match[str]) -> str:
    scale = {"C": " Celsius", "F": " Fahrenheit"}.get((match[1] or "").upper(), "")
    return f"degrees{scale}"


def _say_address(match: re.Match[str]) -> str:
    said = match.group()
    for sign, word in {".": "dot", "@": "at", "/": "slash", "-": "dash", "_": "underscore"}.items():
        said = said.replace(sign, f" {word} ")
    return said


def _say_abbreviation(match: re.Match[str]) -> str:
    return _ABBREVIATIONS[match[1].lower()]


def _say_road(match: re.Match[str]) -> str:
    return f"{match[1]} {_ROADS[match[2]]}"


_ADDRESS = re.compile(
    r"\b(?:[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
    r"|www\.[\w-]+(?:\.[\w-]+)+(?:/[\w/.-]*\w)?"
    r"|[\w-]+(?:\.[\w-]+)*\.(?:" + "|".join(_TOP_LEVELS) + r")\b(?:/[\w/.-]*\w)?)",
    re.ASCII | re.IGNORECASE,
)
_PHONE = (
    r"(?<!\d)(?:\+?1[ -])?(?:\(\d{3}\) ?|\d{3}[ -])\d{3}[ -]\d{4}(?!\d)"
    r"|(?<![\d-])\d{3}-\d{4}(?!\d)"
)
_MONEY = "".join(_CURRENCIES)
_SIGNS = _MONEY + "".join(_CENTS)
_NUMBER = r"\d{1,3}(?:,\d{3})+|\d+"
_RULES: tuple[tuple[re.Pattern[str], _Say], ...] = tuple(
    (re.compile(pattern, re.ASCII | re.IGNORECASE), say)
    for pattern, say in (
        *((rf"\b{re.escape(phrase)}", _always(words)) for phrase, words in _PHRASES.items()),
        (r"(?<=\d)\s?ft\b\.?", _always("feet")),
        (r"(?-i:\b([A-Z]\w+|\d+[a-z]{2}) (St|Dr)\.(?!\s+[A-Z]))", _say_road),
        (r"\bno\.\s?(?=\d)", _always("number")),
        (rf"\b({'|'.join(_ABBREVIATIONS)})\.", _say_abbreviation),
        (rf"(?-i:\b({'|'.join(_TITLES)}) (?=[A-Z]))", _say_abbreviation),
        (r"#(?=\d)", _always("number")),
        (r"#(?=\w)", _always("hashtag")),
        (r"'(?=\d)", _always("")),
        (rf"(?<![\w.,)%°{_SIGNS}-])-(?=[{_SIGNS}]?\.?\d)", _always("minus")),
        (
            rf"(?P<sign>[{_MONEY}])\s?(?P<amount>(?:{_NUMBER})?(?:\.\d+)?(?<=\d))"
            r"(?:\s?(?P<scale>k|m|bn|thousand|million|billion|trillion)\b)?",
            _say_money,
        ),
        (
            rf"(?P<amount>(?:{_NUMBER})(?:\.\d+)?)\s?(?P<sign>[{_MONEY}])(?P<scale>(?!\d))",
            _say_money,
        ),
        (rf"({_NUMBER})\s?([{''.join(_CENTS)}])", _say_cents),
        (_PHONE, lambda match: _by_digits(re.sub(r"\D", "", match.group()))),
        (r"\b\d{1,3}(?: \d{3}){2,}\b", lambda match: match.group().replace(" ", ",")),
        (r"\b\d{1,2}\.\d{1,2}\.\d{4}\b", lambda match: match.group().replace(".", " ")),
        (r"\b([01]?\d|2[0-3]):([0-5]\d)(?!\d)", _say_time),
        (r"\b(?:(\d+)\s)?(?<![/\d.])(\d{1,2})/(\d{1,3})\b(?!/)", _say_fraction),
        (r"\s?°\s?([CF]\b)?", _say_temperature),
        (rf"\b({_NUMBER})(?:st|nd|rd|th)\b", lambda match: _ordinal(match[1])),
        (rf"\b((?:{_NUMBER})(?<=0))'?s\b", _say_decade),
        (rf"(?:{_NUMBER})(?:\.\d+)+|(?<![\w.])\.\d+", _say_decimal),
        (r"(?<=\d)(?=[a-z])|(?<=[a-z])(?=\d)", _always("")),
        (_NUMBER, lambda match: _cardinal(match.group())),
        *((re.escape(sign), _always(word)) for sign, word in _SPOKEN_SYMBOLS.items()),
    )
)
