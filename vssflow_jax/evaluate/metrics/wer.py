"""Word error rate of GRID sentences, read by a real recogniser (the `demo` extra).

The recogniser is pocketsphinx with the English acoustic model that its package carries, told by a
grammar that it will hear GRID sentences only (`vssflow_jax.grid`).
"""

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Final

import numpy as np

from vssflow_jax import grid
from vssflow_jax.optional import require

SAMPLING_RATE: Final = 16_000
"""That the acoustic model was trained on, in Hz."""

_EXTRA: Final = "demo"
_INT16_MAX: Final = 32_767
_MIN_SAMPLES: Final = SAMPLING_RATE // 20
"""The recogniser fails on less than its analysis window; less than 50 ms holds no word anyway."""
_NOISE_FLOOR: Final = 1e-3
"""Standard deviation of the white noise that is added before recognition.

The acoustic model comes from recordings, which are never quite silent. In the digital silence
around synthetic speech its features are far from anything it was trained on; this faint noise
brings word error rates of 4-14 % down to 2-7 %.
"""


def transcribe(waveforms: Sequence[np.ndarray], workers: int) -> list[str]:
    """Reads each waveform as a GRID sentence.

    A transcript does not depend on the other waveforms nor on the number of workers.

    Args:
      waveforms: each float [n] at `SAMPLING_RATE`, full scale 1.
      workers: processes to use; with 1 the work is done in this process.

    Returns:
      Transcripts in the order of the waveforms. A waveform in which no sentence is found gives the
      words that are, or "".

    Raises:
      UserError: pocketsphinx is not installed.
    """
    require("pocketsphinx", _EXTRA)
    workers = min(workers, len(waveforms))
    if workers <= 1:
        decoder = _decoder()
        return [_decode(decoder, waveform) for waveform in waveforms]
    # Spawned, not forked: JAX has threads in the parent.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_start_worker) as pool:
        return list(pool.map(_work, waveforms))


def utterance_wer(references: Sequence[str], hypotheses: Sequence[str]) -> list[float]:
    """Word error rate of each utterance: (substitutions + deletions + insertions) / words.

    Raises:
      ValueError: the two lists differ in length.
      UserError: jiwer is not installed.
    """
    pairs = zip(references, hypotheses, strict=True)
    return [corpus_wer([reference], [hypothesis]) for reference, hypothesis in pairs]


def corpus_wer(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Word error rate over all utterances: errors of all divided by words of all references.

    Raises:
      ValueError: the two lists are empty or differ in length.
      UserError: jiwer is not installed.
    """
    jiwer = require("jiwer", _EXTRA)
    if len(references) != len(hypotheses) or not references:
        raise ValueError(f"{len(references)} references for {len(hypotheses)} hypotheses")
    return float(jiwer.wer(list(references), list(hypotheses)))


_worker_decoder: Any = None


def _start_worker() -> None:
    global _worker_decoder
    _worker_decoder = _decoder()


def _work(waveform: np.ndarray) -> str:
    return _decode(_worker_decoder, waveform)


def _decoder() -> Any:
    pocketsphinx = require("pocketsphinx", _EXTRA)
    decoder = pocketsphinx.Decoder(
        samprate=SAMPLING_RATE,
        lm=None,
        # The cepstral mean of the utterance itself; "live" would carry it on to the next one.
        cmn="batch",
        loglevel="FATAL",
    )
    decoder.add_jsgf_string("grid", grid.jsgf())
    decoder.activate_search("grid")
    return decoder


def _decode(decoder: Any, waveform: np.ndarray) -> str:
    if len(waveform) < _MIN_SAMPLES:
        return ""
    noise = np.random.default_rng(0).standard_normal(len(waveform))
    samples = np.clip(waveform + _NOISE_FLOOR * noise, -1.0, 1.0) * _INT16_MAX
    decoder.start_stream()  # forget the noise level of the utterance before
    decoder.start_utt()
    decoder.process_raw(samples.astype(np.int16).tobytes(), full_utt=True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    return hypothesis.hypstr if hypothesis is not None else ""
