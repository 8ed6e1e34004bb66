"""Mouth shapes of phonemes, and how they follow one another."""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from scipy import ndimage


class Viseme(NamedTuple):
    """A mouth shape. All values are from 0 to 1.

    Attributes:
      openness: height of the gap between the lips.
      width: 0 narrow as in "w", 0.5 at rest, 1 spread as in "see".
      roundness: how far the lips stick out.
      teeth: how much of the upper teeth shows in the gap.
      tongue: height of the tongue's tip in the gap.
      press: how far the lips are rolled in, as in "m".
      tuck: how far the lower lip is under the upper teeth, as in "f".
      dominance: how strongly the shape asserts itself against its neighbours (not drawn).
    """

    openness: float
    width: float
    roundness: float = 0.0
    teeth: float = 0.0
    tongue: float = 0.0
    press: float = 0.0
    tuck: float = 0.0
    dominance: float = 1.0


VISEMES: Final = {
    "rest": Viseme(0.0, 0.5),
    "bilabial": Viseme(0.0, 0.5, press=1.0, dominance=4.0),
    "labiodental": Viseme(0.16, 0.55, teeth=1.0, tuck=1.0, dominance=3.0),
    "dental": Viseme(0.30, 0.55, teeth=0.6, tongue=1.0, dominance=2.0),
    "alveolar": Viseme(0.22, 0.60, teeth=0.9, tongue=0.35),
    "sibilant": Viseme(0.14, 0.85, teeth=1.0, dominance=1.5),
    "postalveolar": Viseme(0.28, 0.25, roundness=0.7, teeth=0.9, dominance=2.0),
    "velar": Viseme(0.38, 0.55, teeth=0.4),
    "lateral": Viseme(0.42, 0.55, teeth=0.4, tongue=0.9, dominance=1.5),
    "rhotic": Viseme(0.20, 0.25, roundness=0.5, teeth=0.3),
    "close_round": Viseme(0.16, 0.0, roundness=1.0, dominance=2.0),
    "close_front": Viseme(0.28, 1.0, teeth=0.8, tongue=0.2),
    "mid_front": Viseme(0.58, 0.80, teeth=0.6, tongue=0.1),
    "open": Viseme(1.0, 0.60, teeth=0.5, tongue=0.2),
    "mid_back_round": Viseme(0.66, 0.20, roundness=0.8, teeth=0.2),
    "central": Viseme(0.40, 0.50, teeth=0.4),
}

# Of each viseme, and of each pair in turn: espeak-ng mnemonics without stress marks.
_PHONEMES: Final = {
    "bilabial": "p b m",
    "labiodental": "f v",
    "dental": "T D",
    "alveolar": "t t# d n",
    "sibilant": "s z",
    "postalveolar": "S Z tS dZ",
    "velar": "k g N",
    "lateral": "l",
    "rhotic": "r r- 3:",
    "close_round": "w U u:",
    "close_front": "j i i:",
    "mid_front": "I I2 E",
    "open": "a A: 0 V",
    "mid_back_round": "O:",
    "central": "h a# @",
    "mid_front close_front": "eI",
    "open close_front": "aI",
    "open close_round": "aU",
    "mid_back_round close_round": "oU",
    "mid_back_round close_front": "OI",
    "open rhotic": "A@",
    "close_front central": "i@",
    "mid_back_round rhotic": "o@",
}
PHONEME_VISEMES: Final = {
    phoneme: visemes.split()
    for visemes, phonemes in _PHONEMES.items()
    for phoneme in phonemes.split()
}
"""Mnemonic -> its visemes, which share its duration equally."""

_STRESS_MARKS: Final = "',%=;"
"""";" stands alone: a mark of palatalisation, with no shape of its own."""

_TRACK_RATE: Final = 200
"""Resolution of the mouth's track in time, in Hz."""

_COARTICULATION_SEC: Final = 0.06
"""Width, at half height, of the window over which neighbouring shapes blend."""


def visemes_of(phoneme: str) -> list[str]:
    """Names of the visemes that a phoneme mnemonic passes through; none for a mere mark.

    Raises:
      KeyError: the phoneme is not in `PHONEME_VISEMES`.
    """
    bare = phoneme.strip(_STRESS_MARKS)
    return PHONEME_VISEMES[bare] if bare else []


def mouth_track(
    phonemes: Sequence[tuple[float, str]], end_sec: float, times_sec: np.ndarray
) -> list[Viseme]:
    """The mouth's shape at given times: at rest in silence, smoothly blended in between.

    Args:
      phonemes: (start in seconds, mnemonic) in order of time; each lasts until the next one.
      end_sec: end of the last phoneme.
      times_sec: increasing, from 0 on, [n].

    Returns:
      n mouth shapes.
    """
    num_points = math.ceil((times_sec[-1] + _COARTICULATION_SEC) * _TRACK_RATE) + 1
    track = np.tile(np.array(VISEMES["rest"]), (num_points, 1))
    stops_sec = [start_sec for start_sec, _ in phonemes[1:]] + [end_sec]
    for (start_sec, phoneme), stop_sec in zip(phonemes, stops_sec, strict=True):
        names = visemes_of(phoneme)
        for index, name in enumerate(names):
            share_sec = (stop_sec - start_sec) / len(names)
            start = round((start_sec + index * share_sec) * _TRACK_RATE)
            stop = round((start_sec + (index + 1) * share_sec) * _TRACK_RATE)
            # A shape shorter than a point of the grid still gets one.
            track[start : max(stop, start + 1)] = VISEMES[name]

    # Blend with weights: window x dominance. A strong shape holds its ground, a weak one yields.
    window = np.hanning(round(2 * _COARTICULATION_SEC * _TRACK_RATE) + 1)
    weights = track[:, -1:]  # Dominance is the last field.
    weighted = np.concatenate([track * weights, weights], axis=1)
    blended = ndimage.convolve1d(weighted, window, axis=0, mode="nearest")
    shapes = blended[:, :-1] / blended[:, -1:]

    grid_sec = np.arange(num_points) / _TRACK_RATE
    sampled = [np.interp(times_sec, grid_sec, column) for column in shapes.T]
    return [Viseme(*row) for row in np.transpose(sampled).tolist()]
