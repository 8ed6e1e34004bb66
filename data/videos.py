"""Videos with transcripts to records: features by one set of encoders (`docs/features.md`)."""

import collections
import contextlib
import dataclasses
import functools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data import segments
from data.manifest import check_scale
from data.shard_writer import Row, named_file
from vssflow_jax import media
from vssflow_jax.clip import ClipSpec, fit_length
from vssflow_jax.features.footage import Encoders, Footage, Mouth
from vssflow_jax.features.phonemes import phoneme_ids
from vssflow_jax.features.text import read
from vssflow_jax.features.video import VOICE_SAMPLE_SEC, parse_box
from vssflow_jax.input_pipeline.tasks import TASKS
from vssflow_jax.utils.errors import Rejected, UserError
from vssflow_jax.utils.files import as_path
from vssflow_jax.utils.tables import BEYOND, read_table

COLUMNS = (
    "video clip_id split task transcript caption voice voice_sample mouth_box start_sec end_sec"
).split()
SPLITS = ("train", "test")

_INT16_MAX = 32767
_SPEECH_SLACK_SEC = 0.5  # of silence that may lie beyond the window
_VOICES_KEPT = 64


@dataclasses.dataclass(frozen=True)
class Videos:
    """The source of rows that name a video file.

    Attributes:
      root: root of the files that rows name.
      encoders: encoders of the features.
      spec: geometry of the clips.
      find_mouths: whether to find the mouth in rows of speech that do not say where it is.
    """

    root: Path
    encoders: Encoders
    spec: ClipSpec
    find_mouths: bool = False

    def record(self, row: Row) -> dict[str, Any]:
        """See `data.shard_writer.Source`."""
        return self.finish([self.prepare(row)])[0]

    def finish(self, prepared: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """See `data.shard_writer.NetworkSource`."""
        streams = self.encoders.finish(prepared, self.spec)
        return [{**values, **made} for values, made in zip(prepared, streams, strict=True)]

    def prepare(self, row: Row) -> dict[str, Any]:
        """See `data.shard_writer.NetworkSource`."""
        spec, path = self.spec, as_path(self.root, row["video"])  # or a piece of it
        with _rejecting("unreadable file"):
            track = media.read_track(path)
            mouth: Mouth | None = tuple(row["mouth_box"]) if row["mouth_box"] else None
            reader = self.encoders.lip_reader if row["transcript"] else None
            if mouth is None and self.find_mouths and reader:
                found = reader.find_mouth(track, spec)
                mouth = found.mouth if found else None
            kept = self.encoders.watch(track, spec, mouth)
            sample = row["voice_sample"]
            voice = as_path(self.root, sample)
            voice_sample = _read_voice(voice, spec.sampling_rate) if sample else None
        with _rejecting("no sound"):
            audio = media.read_audio(path, spec.sampling_rate)
        check_scale(audio, path)
        _check_end(path, float(track.duration))
        with _rejecting("bad transcript"):
            reading = read(row["transcript"]) if row["transcript"] else None
        ids = phoneme_ids(reading.symbols if reading else [])
        audio_sec = len(audio) / spec.sampling_rate
        video_sec = min(float(track.duration), spec.duration_sec)
        duration_sec = row["duration_sec"] or min(video_sec, audio_sec)
        audio = fit_length(audio, round(duration_sec * spec.sampling_rate))
        samples = np.round(np.clip(audio, -1, 1) * _INT16_MAX).astype(np.int16)
        # A clip that is made here may have a sound as long as the window.
        longest_sec = spec.duration_sec if row["duration_sec"] else duration_sec
        _check(samples, audio_sec, len(ids), spec.phoneme_frames(duration_sec), longest_sec)
        footage = Footage(
            clip_id=row["clip_id"],
            spec=spec,
            duration_sec=duration_sec,
            source_sec=min(float(track.duration), audio_sec),
            kept=kept,
            voice=row["voice"],
            voice_sample=voice_sample,
        )
        return {
            **{name: row[name] for name in ("clip_id", "task", "voice", "video")},
            "transcript": " ".join(reading.words) if reading else "",
            "caption": row.get("caption", ""),
            "duration_sec": duration_sec,
            "event_times_sec": row["event_times_sec"],
            "audio": samples,
            "phonemes": ids,
            "phoneme_frames": phoneme_frames(row, spec),
            **self.encoders.prepare(footage),
        }


def read_rows(
    videos_dir: Path, transcripts_tsv: Path, segment_sec: float = 0.0, at_silence: bool = False
) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """Rows for `Videos` from a table with a header, tabs between fields, one line a clip.

    Of the columns only `video` must be there (`docs/features.md` has them all).

    Args:
      videos_dir: where the files that the table names are.
      transcripts_tsv: the table, in UTF-8.
      segment_sec: a clip that is longer becomes several rows, none longer than this; 0 for never.
      at_silence: whether such clips are cut in silence, where somebody speaks.

    Returns:
      Rows, in the order of the table; and names and reasons of lines that cannot be rows.

    Raises:
      UserError: the table cannot be read, or has another column; a package is not installed.
    """
    rows: dict[str, dict[str, Any]] = {}
    rejected = []
    for number, fields in read_table(transcripts_tsv, COLUMNS, needed="video"):
        try:
            row = _row(videos_dir.absolute(), fields)
            pieces = _pieces(row, segment_sec, at_silence)
            if not rows.keys().isdisjoint(piece["clip_id"] for piece in pieces):
                raise Rejected("duplicate: an earlier line has the same clip_id")
            rows |= {piece["clip_id"]: piece for piece in pieces}
        except Rejected as reason:
            name = fields["clip_id"] or fields["video"]
            rejected.append((name, f"{reason} ({transcripts_tsv.name}, line {number})"))
    return list(rows.values()), rejected


def _pieces(row: dict[str, Any], segment_sec: float, at_silence: bool) -> list[dict[str, Any]]:
    """The row, or those of its pieces if it is longer than a segment."""
    if not segment_sec:
        return [row]
    with _rejecting("unreadable file"):
        duration_sec = float(media.read_track(row["video"]).duration)
    if duration_sec <= segment_sec:
        return [row]
    if row["transcript"]:
        raise Rejected(
            f"too long: {duration_sec:.1f} s with a transcript; say which words are in which "
            "piece, by rows with start_sec and end_sec"
        )
    spoken = segments.speech(row["video"]) if at_silence else ()
    path, whole = media.located(row["video"])
    first = whole[0] if whole else 0
    return [
        row
        | {
            "clip_id": f"{row['clip_id']}-{number:04}",
            "video": _piece(path, float(first) + start, float(first) + end),
        }
        for number, (start, end) in enumerate(segments.cuts(duration_sec, segment_sec, spoken))
    ]


def _piece(path: Path, start_sec: float, end_sec: float | None) -> str:
    """The name of a piece of a video, see `vssflow_jax.media.located`."""
    return f"{path}#t={start_sec:.3f}" + ("" if end_sec is None else f",{end_sec:.3f}")


def _seconds(name: str, text: str) -> float | None:
    """A time of the table; None if there is none."""
    try:
        seconds = float(text) if text else None
    except ValueError:
        seconds = math.nan
    if seconds is not None and not 0 <= seconds < math.inf:
        raise Rejected(f"bad {name}: '{text}' are no seconds")
    return seconds


def shared_files(rows: Iterable[Mapping[str, Any]]) -> list[Path]:
    """Files of which there are pieces in several parts, such as "train" and "test"."""
    parts: dict[Path, set[str]] = collections.defaultdict(set)
    for row in rows:
        parts[media.located(row["video"]).path].add(row["split"])
    return sorted(path for path, names in parts.items() if len(names) > 1)


def remarks(rows: Iterable[Mapping[str, Any]], limit: int = 10) -> Iterator[str]:
    """What is not read as it stands in transcripts, a line each, of at most `limit` rows.

    Transcripts that cannot be read at all are rejected later, with their reason.
    """
    found = 0
    for row in rows:
        with contextlib.suppress(UserError):
            lines = read(row["transcript"]).remarks() if row["transcript"] else []
            found += bool(lines)
            if found <= limit:
                yield from (f"{row['clip_id']}: {line}" for line in lines)
    if found > limit:
        yield f"... and of {found - limit} more rows"


def _row(videos_dir: Path, fields: Mapping[str, str]) -> dict[str, Any]:
    if fields[BEYOND]:
        raise Rejected("wrong number of fields: more than the header has; a tab in a text?")
    video, sample = (named_file(videos_dir, fields[name]) for name in ("video", "voice_sample"))
    transcript = " ".join(fields["transcript"].split())
    split = fields["split"] or "train"
    task = fields["task"] or ("visualtts" if transcript else "v2s")
    for path in (video, *([sample] if fields["voice_sample"] else ())):
        if not path.is_file():
            raise Rejected(f"missing file: {path}")
    start_sec, end_sec = (_seconds(name, fields[name]) for name in ("start_sec", "end_sec"))
    name = str(Path(fields["video"]).with_suffix("")).replace("/", "-")
    piece = str(video)
    if start_sec is not None or end_sec is not None:
        start_sec = start_sec or 0.0
        if end_sec is not None and end_sec <= start_sec:
            raise Rejected(f"bad end_sec: {end_sec:g} is not after start_sec, {start_sec:g}")
        piece, name = _piece(video, start_sec, end_sec), f"{name}-{start_sec:.3f}"
    clip_id = fields["clip_id"] or name
    for name, value in (("clip_id", clip_id), ("voice", fields["voice"])):
        if "/" in value or value.startswith("."):
            raise Rejected(f"bad {name}: '{value}' names files: no '/', and no '.' in front")
    pictured = [name for name, task in TASKS.items() if task.pictured]
    for name, value, known in (("split", split, SPLITS), ("task", task, pictured)):
        if value not in known:
            raise Rejected(f"bad {name}: '{value}', not one of {', '.join(known)}")
    if fields["transcript"] and not any(map(str.isalnum, transcript)):
        raise Rejected(f"bad transcript: '{fields['transcript']}' has no words")
    mouth_box = parse_box(fields["mouth_box"])
    if fields["mouth_box"] and not mouth_box:
        wrong = f"'{fields['mouth_box']}', not four numbers: left top right bottom"
        raise Rejected(f"bad mouth_box: {wrong}")
    if bool(transcript) == (task == "v2s"):
        raise Rejected(f"bad task: {task} {'with a' if transcript else 'without'} transcript")
    return {
        "clip_id": clip_id,
        "split": split,
        "task": task,
        "video": piece,
        "duration_sec": None,  # as long as the file, or the piece of it
        "transcript": transcript,
        "caption": " ".join(fields["caption"].split()),
        "voice": fields["voice"],
        "voice_sample": str(sample) if fields["voice_sample"] else "",
        "speech_end_sec": None,
        "phoneme_starts_sec": [],
        "event_times_sec": [],
        "mouth_box": mouth_box,
    }


def _check(
    samples: np.ndarray, audio_sec: float, num_phonemes: int, num_frames: int, longest_sec: float
) -> None:
    """Checks that there is a sound, and that what is said fits into the clip."""
    if not samples.any():
        raise Rejected("no sound: it is silent")
    if num_phonemes and audio_sec > longest_sec + _SPEECH_SLACK_SEC:
        raise Rejected(
            f"too long: {audio_sec:.1f} s of speech; cut file and transcript to "
            f"{longest_sec:g} s, as the pictures and the window last"
        )
    if num_frames < max(num_phonemes, 1):
        raise Rejected(f"too short: {num_frames} latent frames, {num_phonemes} phonemes")


def _check_end(path: Path, duration_sec: float) -> None:
    """Checks that a piece ends where its file does at the latest."""
    piece = media.located(path).piece
    if piece and piece[1] is not None:
        behind_sec = float(piece[1] - piece[0]) - duration_sec
        if behind_sec > _SPEECH_SLACK_SEC:
            raise Rejected(f"bad end_sec: it is {behind_sec:.1f} s behind the end of the pictures")


@contextlib.contextmanager
def _rejecting(fault: str) -> Iterator[None]:
    """What cannot be read of a row is the row's fault."""
    try:
        yield
    except UserError as error:
        raise Rejected(f"{fault}: {error}") from error


@functools.lru_cache(_VOICES_KEPT)
def _read_voice(path: Path, sampling_rate: int) -> np.ndarray:
    """The start of a voice sample, which many rows may name."""
    return media.read_voice(path, sampling_rate, VOICE_SAMPLE_SEC)


def phoneme_frames(row: Row, spec: ClipSpec) -> np.ndarray:
    """Latent frames that each phoneme of a row's transcript lasts, by the speech engine's times.

    A frame belongs to the phoneme that is heard in its middle; the blanks at both ends last as
    long as the silence there. Where the engine has as many phonemes for a word as the dictionary,
    theirs are the same times; elsewhere the word's time is shared out in proportion.

    Returns:
      int32 [p], their sum `spec.phoneme_frames`; empty where the row has no times.
    """
    words = row["phoneme_starts_sec"]
    if not words:
        return np.zeros(0, np.int32)
    starts_sec = [0.0]
    ends_sec = [*(word[0] for word in words[1:]), row["speech_end_sec"]]
    for text, times_sec, end_sec in zip(row["transcript"].split(), words, ends_sec, strict=True):
        count = len(read(text).symbols) - 2
        positions = np.arange(count) / count
        bounds = np.arange(len(times_sec) + 1) / len(times_sec)
        starts_sec += list(np.interp(positions, bounds, [*times_sec, end_sec]))
    starts_sec.append(row["speech_end_sec"])
    total = spec.phoneme_frames(row["duration_sec"])
    first_frames = np.minimum(np.rint(np.array(starts_sec) * spec.latent_rate), total)
    return np.diff(first_frames, append=total).astype(np.int32)
