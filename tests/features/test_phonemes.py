"""The ARPAbet table."""

import pytest

from vssflow_jax.features.phonemes import BLANK, IDS, SYMBOLS, phoneme_ids
from vssflow_jax.utils.errors import UserError

VOWELS = "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW"
CONSONANTS = "B CH D DH F G HH JH K L M N NG P R S SH T TH V W Y Z ZH"


def test_the_table_is_arpabet_with_stress_and_a_blank():
    stressed = {vowel + stress for vowel in VOWELS.split() for stress in "012"}
    assert set(SYMBOLS) == stressed | set(CONSONANTS.split()) | {BLANK}
    assert len(SYMBOLS) == len(IDS) == 70


def test_ids_are_those_of_the_reference():
    # Spot checks along the table of REFERENCE section 3.
    known = {"AA0": 1, "DH": 2, "EH1": 9, "Z": 23, "T": 34, "M": 41, "S": 47, BLANK: 59, "AE2": 70}
    assert {symbol: IDS[symbol] for symbol in known} == known
    assert sorted(IDS.values()) == list(range(1, 71))


def test_unknown_symbols_are_named():
    with pytest.raises(UserError, match="QQ1, XX"):
        phoneme_ids(["T", "XX", "QQ1"])
