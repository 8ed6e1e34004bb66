"""Phonemes: the 70 ARPAbet symbols of the reference, and their ids.

The table is REFERENCE section 3; ids start at 1, and 0 means that no phoneme is there.
"""

from collections.abc import Sequence

import numpy as np

from vssflow_jax.utils.errors import UserError

BLANK = "<blank>"
SYMBOLS = tuple(
    """
    AA0 DH AY0 V F AH2 D P EH1 AW1 ER0 OW0 TH UH1 OW2 IY2 HH UW0 CH AH1 JH OY2 Z AO2 IH0 NG UH0 AE1
    AO0 IH2 IY0 EH0 AY2 T OY1 ER2 AA2 Y AW0 UH2 M UW2 IH1 R SH G S AE0 EH2 W UW1 AW2 EY1 ZH OY0 OW1
    EY0 L <blank> ER1 N AA1 AY1 AO1 B EY2 K AH0 IY1 AE2
    """.split()
)
IDS = {symbol: index for index, symbol in enumerate(SYMBOLS, start=1)}
NUM_IDS = 1 + len(SYMBOLS)  # with 0, which is no phoneme


def phoneme_ids(symbols: Sequence[str]) -> np.ndarray:
    """Ids of ARPAbet symbols, int32 [p].

    Raises:
      UserError: a symbol is not one of `SYMBOLS`.
    """
    unknown = sorted(set(symbols) - set(IDS))
    if unknown:
        raise UserError(f"phonemes: unknown symbols {', '.join(unknown)}; use ARPAbet with stress")
    return np.array([IDS[symbol] for symbol in symbols], np.int32)
