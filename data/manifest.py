"""The reference's metadata and feature files to records (REFERENCE section 5).

The metadata has a row for each clip, seven fields split by `|`, and no header:

  audio | clip .npy | speaker .npy | lip .npy | synch .npy | phoneme ids | phoneme symbols

The first five are paths, the last two are split by spaces. A file that stands for nothing, a
placeholder, is known by its name, and so is the task of a row; a row of sound has phoneme id 0.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import soundfile

from data.shard_writer import Row, named_file
from vssflow_jax import media
from vssflow_jax.clip import ClipSpec, fit_length, stretch_phonemes, to_int16
from vssflow_jax.features.files import NO_FRAMES, TOLERANCE_SEC, in_shape, read_features
from vssflow_jax.features.phonemes import BLANK, IDS
from vssflow_jax.input_pipeline.streams import STREAMS
from vssflow_jax.utils.errors import Rejected, UserError
from vssflow_jax.utils.files import as_path
from vssflow_jax.utils.object_cache import local

PLACEHOLDERS = ("fake_lip.npy", "fake_sync.npy", "no_video.npy")
MIN_DURATION_SEC = 0.1
FIELDS = ("audio", "visual", "speaker", "lips", "sync", "phonemes", "symbols")
WIDTHS = {name: stream.width for name, stream in STREAMS.items() if name in FIELDS}
SPLITS = ("train", "test")

_JOINT = "_joint"
_LOUDEST = 4.0  # of a sound of full scale 1, which floats may go beyond


@dataclasses.dataclass(frozen=True)
class Part:
    """A metadata file: of which split its rows are, and whether all of them are joint clips."""

    path: Path
    split: str = "train"
    joint: bool = False

    @classmethod
    def parse(cls, text: str) -> "Part":
        """From `FILE`, `SPLIT:FILE` or `SPLIT_joint:FILE`; the first is of the train split."""
        name, _, path = text.partition(":")
        split = name.removesuffix(_JOINT)
        if split not in SPLITS:
            return cls(as_path(text))
        return cls(as_path(path), split, name.endswith(_JOINT))


def read_rows(
    parts: Sequence[Part], strip_prefix: str = "", placeholders: Sequence[str] = PLACEHOLDERS
) -> tuple[list[Row], list[tuple[str, str]]]:
    """The rows of metadata files, and the bad ones among them.

    Args:
      parts: the files.
      strip_prefix: taken away from the start of each path.
      placeholders: names of files that stand for nothing.

    Returns:
      rows with `FIELDS`, `clip_id`, `split` and `task`, the path of a placeholder empty; names and
      reasons of rows with another number of fields or the clip id of an earlier row.

    Raises:
      UserError: a file is not there, or has no rows.
    """
    rows: dict[str, Row] = {}
    places: dict[str, str] = {}
    rejected = []
    for part in parts:
        for place, line in _lines(part.path):
            values = line.split("|")
            if len(values) != len(FIELDS):
                reason = f"wrong number of fields: {len(values)}, expected {len(FIELDS)}"
                rejected.append((place, reason))
                continue
            fields = dict(zip(FIELDS, map(str.strip, values), strict=True))
            for name in ("audio", *WIDTHS):
                absent = Path(fields[name]).name in placeholders
                fields[name] = "" if absent else _without(fields[name], strip_prefix)
            parts_of_path = Path(fields["audio"]).with_suffix("").parts
            clip_id = "-".join(name for name in parts_of_path if name.strip("/."))
            if clip_id in rows:
                rejected.append((clip_id, f"duplicate: {place}, first at {places[clip_id]}"))
                continue
            places[clip_id] = place
            task = _task(fields, part.joint)
            rows[clip_id] = {**fields, "clip_id": clip_id, "split": part.split, "task": task}
    return list(rows.values()), rejected


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Lines that are not blank, and how to name them."""
    try:
        # Not by `splitlines`, which splits at more than the end of a line.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--manifest: {path} cannot be read ({error})") from error
    if not any(map(str.strip, lines)):
        raise UserError(f"--manifest: {path} has no rows")
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield f"{path.name} line {number}", line


def _without(path: str, prefix: str) -> str:
    folder = prefix.rstrip("/") + "/"
    return path.removeprefix(folder) if prefix else path


def _task(fields: Row, joint: bool) -> str:
    if joint:
        return "joint"
    if set(fields["phonemes"].split()) <= {"0"}:
        return "v2s"
    return "visualtts" if fields["lips"] else "tts"


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The source of the rows that `read_rows` finds.

    Attributes:
      root: root of the files that rows name.
      spec: geometry of the clips.
      tolerance_sec: by which lips may last longer or shorter than the sound.
    """

    root: Path
    spec: ClipSpec
    tolerance_sec: float = TOLERANCE_SEC

    def record(self, row: Row) -> dict[str, Any]:
        """See `data.shard_writer.Source`.

        What is longer than the window is cut, phonemes too. A file of zeros is as good as none.
        """
        task, path = row["task"], named_file(self.root, row["audio"])
        samples = read_sound(path, self.spec.sampling_rate)
        duration_sec = round(len(samples) / self.spec.sampling_rate, 2)  # As the reference has it.
        if duration_sec < MIN_DURATION_SEC:
            raise Rejected(f"too short: {path}: {duration_sec} s, expected {MIN_DURATION_SEC}")
        streams = {name: self._stream(row, name) for name in WIDTHS}
        self._check_lips(row, streams["lips"], duration_sec)
        if task in ("v2s", "joint") and not (len(streams["visual"]) or len(streams["sync"])):
            raise Rejected(f"missing stream: a {task} clip has no features of its picture")
        samples = samples[: self.spec.num_samples]
        return {
            "clip_id": row["clip_id"],
            "task": task,
            "transcript": "",
            "voice": "" if task == "v2s" else Path(row["speaker"]).parent.name,
            "video": "",
            "duration_sec": min(duration_sec, self.spec.duration_sec),
            "audio": samples,
            "phonemes": self._phonemes(row, duration_sec),
            **streams,
            "lips": streams["lips"][: self.spec.video_frames],
        }

    def _stream(self, row: Row, name: str) -> np.ndarray:
        if not row[name]:
            return NO_FRAMES
        path = named_file(self.root, row[name])
        array = read_features(path)
        if path.suffix == ".npz" and name == "visual" and len(array):
            if array.ndim != 2 or array.shape[1] > WIDTHS[name]:
                raise Rejected(f"wrong shape: {path}: CAVP features are {array.shape}")
            array = align_cavp(array, self.spec.visual_frames, WIDTHS[name])
        return in_shape(array, name, self.spec, path)

    def _check_lips(self, row: Row, lips: np.ndarray, duration_sec: float) -> None:
        """Checks that there are lips where the task says so, as long as the sound."""
        if row["task"] == "visualtts" and not len(lips):
            raise Rejected(
                f"zeros for lips: {row['lips']}; if it stands for no lips, name it in "
                "--placeholders"
            )
        lips_sec = len(lips) / self.spec.video_rate
        # Lips of a sound that is longer than the window may have been cut to it already.
        shortest_sec = min(duration_sec, self.spec.duration_sec) - self.tolerance_sec
        if len(lips) and not shortest_sec <= lips_sec <= duration_sec + self.tolerance_sec:
            raise Rejected(
                f"wrong length: {row['lips']}: lips of {lips_sec:.2f} s, the sound lasts "
                f"{duration_sec:.2f} s"
            )

    def _phonemes(self, row: Row, duration_sec: float) -> np.ndarray:
        """The ids of the phonemes that are heard in the window, int32 [p]."""
        ids = read_phonemes(row["phonemes"], row["symbols"])
        if row["task"] == "joint" and not len(ids):
            raise Rejected("missing stream: a joint clip has no phonemes")
        total = self.spec.phoneme_frames(duration_sec)
        if len(ids) and total > self.spec.latent_frames:
            heard = stretch_phonemes(np.arange(len(ids)), total)[: self.spec.latent_frames]
            ids = ids[: heard[-1] + 1]
        return ids


def read_phonemes(ids: str, symbols: str) -> np.ndarray:
    """Phoneme ids, int32 [p]; none if they are zeros, which stand for no speech.

    The id of `<blank>` may stand beside any symbol, as of a comma, and `<blank>` beside no speech:
    such rows are in the metadata of the reference.

    Raises:
      Rejected: they are not the ids of the symbols.
    """
    if set(ids.split()) <= {"0"}:
        spoken = [symbol for symbol in symbols.split() if symbol in IDS and symbol != BLANK]
        if spoken:
            raise Rejected(f"bad phonemes: {len(spoken)} symbols, but no ids")
        return np.zeros(0, np.int32)
    try:
        found = np.array([int(word) for word in ids.split()], np.int32)
    except (ValueError, OverflowError) as error:
        raise Rejected(f"bad phonemes: {error}") from error
    outside = [number for number in found if not 1 <= number <= len(IDS)]
    if outside:
        raise Rejected(f"bad phonemes: id {outside[0]}, expected 1 to {len(IDS)}")
    expected = [IDS.get(symbol, 0) for symbol in symbols.split()]
    if len(expected) != len(found):
        raise Rejected(f"bad phonemes: {len(found)} ids of {len(expected)} symbols")
    for place in np.flatnonzero((found != expected) & (found != IDS[BLANK]))[:1]:
        symbol = symbols.split()[place]
        raise Rejected(f"bad phonemes: id {found[place]} for the symbol {symbol}")
    return found


def align_cavp(frames: np.ndarray, num_frames: int, width: int) -> np.ndarray:
    """Bring CAVP features [n, d] to [num_frames, width] as the reference does.

    Each frame is the nearest one, of two as near the earlier; channels that are missing are zeros.
    """
    positions = np.linspace(0, len(frames) - 1, num_frames)
    return fit_length(frames[np.ceil(positions - 0.5).astype(np.int64)].T, width).T


def read_sound(path: Path, sampling_rate: int) -> np.ndarray:
    """int16 samples, mono, at `sampling_rate`, of a sound file or of a video's sound track.

    Raises:
      Rejected: it cannot be read, or has values that are not finite.
    """
    try:
        if path.suffix.lower() in media.VIDEOS:
            waveform = media.read_audio(path, sampling_rate)
        else:
            channels, rate = soundfile.read(local(path), dtype="float32", always_2d=True)
            waveform = librosa.resample(media.mono(channels), orig_sr=rate, target_sr=sampling_rate)
    except UserError as error:
        raise Rejected(f"unreadable file: {error}") from error
    except (soundfile.SoundFileError, librosa.ParameterError, OSError) as error:
        kind = "unreadable" if _exists(path) else "missing"
        raise Rejected(f"{kind} file: {path}") from error
    check_scale(waveform, path)
    samples = to_int16(waveform)
    if not samples.any():
        raise Rejected(f"no sound: {path} is silent")
    return samples


def check_scale(waveform: np.ndarray, path: Path) -> None:
    """Checks that a sound is of finite numbers and full scale 1.

    One at the scale of integers would be clipped to a square wave.

    Raises:
      Rejected: it is not.
    """
    if not np.isfinite(waveform).all():
        raise Rejected(f"not finite: {path}: its sound holds NaN or infinity")
    loudest = float(np.abs(waveform).max(initial=0))
    if loudest > _LOUDEST:
        raise Rejected(f"wrong scale: {path}: floats up to {loudest:.0f}; divide them by 32768")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that no file can have
        return False
