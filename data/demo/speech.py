"""Synthetic speech with its phoneme times, by the espeak-ng engine.

The engine is the shared library that the package `espeakng_loader` carries, called through ctypes.
"""

import _ctypes
import ctypes
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import espeakng_loader
import librosa
import numpy as np

from vssflow_jax.utils.errors import UserError

SAMPLING_RATE: Final = 16_000
"""Of every waveform that this module returns, in Hz."""


VOICES: Final = {"f2": 140, "f3": 135, "f5": 140, "klatt": 138, "klatt4": 138, "m6": 138}
"""espeak-ng's variants of American English -> words per minute that the recogniser reads well."""

PITCH: Final = 50
"""The voices' own."""


class Speech(NamedTuple):
    """One synthesised utterance.

    Attributes:
      waveform: float32 [n] at `SAMPLING_RATE`, full scale 1, without silence at its ends.
      phonemes: (start in seconds, espeak-ng phoneme mnemonic such as "'aI"), in order of time; the
        first starts at 0, each lasts until the next one starts, the last until the end.
      words: for each word of the text, when its phonemes start, in seconds.
    """

    waveform: np.ndarray
    phonemes: tuple[tuple[float, str], ...]
    words: tuple[tuple[float, ...], ...]

    @property
    def duration_sec(self) -> float:
        return len(self.waveform) / SAMPLING_RATE


def synthesize(text: str, voice: str, words_per_minute: int, pitch: int = PITCH) -> Speech:
    """Speaks a text; equal arguments give an equal waveform, in any process and any order.

    Args:
      text: English; a word of one letter, "a" too, is read as the letter's name.
      voice: name of an espeak-ng voice variant, such as "f2".
      words_per_minute: speaking rate, 80-450.
      pitch: 0-99.

    Raises:
      UserError: the engine has no such voice or cannot start.
    """
    variants = Path(espeakng_loader.get_data_path()) / "voices" / "!v"
    if not (variants / voice).is_file():  # The engine itself would speak on in its own voice.
        raise UserError(f"espeak-ng has no voice variant {voice!r}; those that it has: {variants}")
    with _engine() as (engine, engine_rate):
        if engine.espeak_SetVoiceByName(f"en-us+{voice}".encode()) != _EE_OK:
            raise UserError(f"espeak-ng cannot load its voice en-us+{voice}: reinstall it")
        engine.espeak_SetParameter(_ESPEAK_RATE, words_per_minute, 0)
        engine.espeak_SetParameter(_ESPEAK_PITCH, pitch, 0)
        pcm, events = _speak(engine, _spell_letters(text))

    # The engine ends an utterance with a pause: its own phonemes "_:" and "_".
    sounding = [i for i, event in enumerate(events) if not event.phoneme.startswith("_")]
    begin, end = events[0].sample, events[sounding[-1] + 1].sample
    waveform = pcm[begin:end].astype(np.float32) / _INT16_FULL_SCALE
    waveform = librosa.resample(
        waveform, orig_sr=engine_rate, target_sr=SAMPLING_RATE, res_type="soxr_hq"
    )
    spoken = [event for event in events if event.sample < end]
    phonemes = tuple(((event.sample - begin) / engine_rate, event.phoneme) for event in spoken)
    words: dict[int, list[float]] = {}
    for event, (start, _) in zip(spoken, phonemes, strict=True):
        words.setdefault(event.text_position, []).append(start)
    return Speech(_fade_out(waveform), phonemes, tuple(map(tuple, words.values())))


_INT16_FULL_SCALE: Final = 32_768
_FADE_OUT_SEC: Final = 0.01
"""The female variants have an echo, which would end in a click where the pause is cut off."""


def _fade_out(waveform: np.ndarray) -> np.ndarray:
    num_samples = round(_FADE_OUT_SEC * SAMPLING_RATE)
    gain = np.ones_like(waveform)
    gain[-num_samples:] = np.linspace(1.0, 0.0, num_samples, dtype=np.float32)
    return waveform * gain


def _spell_letters(text: str) -> str:
    """Writes the letter "a" in phonemes: as a word the engine would read it as the article."""
    return " ".join("[['eI]]" if word == "a" else word for word in text.split())


# The engine's C interface: names and values of its header, speak_lib.h.

_AUDIO_OUTPUT_SYNCHRONOUS: Final = 2
_ESPEAK_INITIALIZE_PHONEME_EVENTS: Final = 0x0001
_ESPEAK_INITIALIZE_DONT_EXIT: Final = 0x8000
_ESPEAK_CHARS_UTF8: Final = 1
_ESPEAK_PHONEMES: Final = 0x100
_ESPEAK_RATE: Final = 1
_ESPEAK_PITCH: Final = 3
_ESPEAK_EVENT_LIST_TERMINATED: Final = 0
_ESPEAK_EVENT_PHONEME: Final = 7
_EE_OK: Final = 0
_MAX_DATA_PATH: Final = 140
"""The engine cuts the path of its data folder off at 160 characters, file names included."""


class _EventId(ctypes.Union):
    _fields_ = (
        ("number", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("string", ctypes.c_char * 8),
    )


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


class _Spoken(NamedTuple):
    """A phoneme event: its sample at the engine's rate, mnemonic, and where its word is written."""

    sample: int
    phoneme: str
    text_position: int


_SynthCallback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@contextmanager
def _engine() -> Iterator[tuple[ctypes.CDLL, int]]:
    """A freshly loaded engine and its sampling rate in Hz.

    The engine keeps the phases of its oscillators in static variables and draws its noise from the
    C library's `rand` and from a generator of its own. Only loading it anew and seeding both makes
    an utterance independent of what was spoken before; it costs a few milliseconds.
    """
    engine = ctypes.CDLL(espeakng_loader.get_library_path())
    try:
        with _short_path(espeakng_loader.get_data_path()) as data_path:
            options = _ESPEAK_INITIALIZE_PHONEME_EVENTS | _ESPEAK_INITIALIZE_DONT_EXIT
            rate = engine.espeak_Initialize(
                _AUDIO_OUTPUT_SYNCHRONOUS, 0, os.fsencode(data_path), options
            )
            if rate <= 0:
                raise UserError(
                    f"espeak-ng cannot read its data in {data_path}: reinstall espeakng_loader"
                )
            ctypes.CDLL(None).srand(0)
            engine.espeak_ng_SetRandSeed(ctypes.c_long(0))
            yield engine, rate
            engine.espeak_Terminate()
    finally:
        _ctypes.dlclose(engine._handle)


@contextmanager
def _short_path(path: str) -> Iterator[str]:
    """The path itself, or where it is too long for the engine, a temporary link to it."""
    if len(path) <= _MAX_DATA_PATH:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / "espeak-ng-data"
        link.symlink_to(path, target_is_directory=True)
        yield str(link)


def _speak(engine: ctypes.CDLL, text: str) -> tuple[np.ndarray, list[_Spoken]]:
    """Returns the waveform, int16 [n] at the engine's rate, and the phoneme events."""
    pieces: list[np.ndarray] = []
    phonemes: list[_Spoken] = []

    @_SynthCallback
    def collect(wave, num_samples, events) -> int:  # type: ignore[no-untyped-def]
        if wave and num_samples:
            pieces.append(np.ctypeslib.as_array(wave, (num_samples,)).copy())
        index = 0
        while events[index].type != _ESPEAK_EVENT_LIST_TERMINATED:
            event = events[index]
            if event.type == _ESPEAK_EVENT_PHONEME:
                phoneme = event.id.string.decode()
                phonemes.append(_Spoken(event.sample, phoneme, event.text_position))
            index += 1
        return 0  # Go on.

    engine.espeak_SetSynthCallback(collect)
    encoded = text.encode()
    flags = _ESPEAK_CHARS_UTF8 | _ESPEAK_PHONEMES
    size = ctypes.c_size_t(len(encoded) + 1)
    if engine.espeak_Synth(encoded, size, 0, 0, 0, flags, None, None) != _EE_OK:
        raise RuntimeError(f"espeak-ng failed on {text!r}")
    return np.concatenate(pieces), phonemes
