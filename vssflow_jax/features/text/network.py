"""Pronunciations of words that no dictionary has, by the network inside the package g2p_en.

A GRU reads the letters, another writes the phonemes. Only files of the package are used: to import
it asks for downloads.
"""

import functools
from pathlib import Path

import numpy as np

from vssflow_jax.features.text.normalise import EXTRA
from vssflow_jax.utils.optional import package_file

_PACKAGE = "g2p_en"
_MAX_PHONEMES = 20
_END_LETTER, _LETTERS = 2, "abcdefghijklmnopqrstuvwxyz"
_UNKNOWN_LETTER = 1
_START, _END = 2, 3
_SYMBOLS = (
    None,
    None,
    None,
    None,
    *"""
    AA0 AA1 AA2 AE0 AE1 AE2 AH0 AH1 AH2 AO0 AO1 AO2 AW0 AW1 AW2 AY0 AY1 AY2 B CH D DH EH0 EH1 EH2
    ER0 ER1 ER2 EY0 EY1 EY2 F G HH IH0 IH1 IH2 IY0 IY1 IY2 JH K L M N NG OW0 OW1 OW2 OY0 OY1 OY2 P
    R S SH T TH UH0 UH1 UH2 UW1 UW0 UW1 UW2 V W Y Z ZH
    """.split(),
)
"""What its classes stand for. One is a UW without stress, which ARPAbet with stress has not."""


def file(name: str) -> Path:
    """A file of the package g2p_en.

    Raises:
      UserError: the package is not installed.
    """
    return package_file(_PACKAGE, name, EXTRA)


def guess(word: str) -> list[str]:
    """ARPAbet symbols of a word, the likeliest one after the other.

    Args:
      word: lower case; what is not a to z is an unknown letter.
    """
    weights = _weights()
    state = np.zeros(weights["enc_w_hh"].shape[1], np.float32)
    letters = [3 + _LETTERS.find(x) if x in _LETTERS else _UNKNOWN_LETTER for x in word]
    for letter in (*letters, _END_LETTER):
        state = _gru("enc", weights["enc_emb"][letter], state)
    symbols: list[str] = []
    symbol = _START
    for _ in range(_MAX_PHONEMES):
        state = _gru("dec", weights["dec_emb"][symbol], state)
        symbol = int(np.argmax(weights["fc_w"] @ state + weights["fc_b"]))
        if symbol == _END:
            break
        if (found := _SYMBOLS[symbol]) is not None:
            symbols.append(found)
    return symbols


@functools.cache
def _weights() -> dict[str, np.ndarray]:
    with np.load(file("checkpoint20.npz")) as arrays:
        return dict(arrays)


def _gru(name: str, inputs: np.ndarray, state: np.ndarray) -> np.ndarray:
    """One step of the gated recurrent unit of Cho et al. 2014, as PyTorch has it.

    Gates are reset, update, new; the reset gate acts on the state after its matrix.
    """
    weights = _weights()
    of_inputs = weights[f"{name}_w_ih"] @ inputs + weights[f"{name}_b_ih"]
    of_state = weights[f"{name}_w_hh"] @ state + weights[f"{name}_b_hh"]
    reset_in, update_in, new_in = np.split(of_inputs, 3)
    reset_state, update_state, new_state = np.split(of_state, 3)
    reset, update = _sigmoid(reset_in + reset_state), _sigmoid(update_in + update_state)
    new = np.tanh(new_in + reset * new_state)
    return (1 - update) * new + update * state


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))
