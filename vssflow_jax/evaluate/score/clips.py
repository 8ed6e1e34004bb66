"""Which files are of one clip, and what else is known of it."""

import dataclasses
import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from vssflow_jax.evaluate.benchmark import Benchmark
from vssflow_jax.evaluate.metrics.of_sets import pair_by_name
from vssflow_jax.evaluate.rows import COLUMNS
from vssflow_jax.input_pipeline.tasks import TASKS
from vssflow_jax.media import VIDEOS
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import version
from vssflow_jax.utils.tables import BEYOND, read_table

SOUNDS = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".aac", ".aif", ".aiff", ".au"),
    *(".caf", ".wma", ".mka"),
    *VIDEOS,
)
"""Suffixes of files with sound; videos are among them."""


@dataclasses.dataclass(frozen=True)
class Given:
    """One clip.

    Attributes:
      clip_id: its name, that of the generated sound's file without its suffix.
      task: its task, a key of `TASKS`.
      generated, reference: files of the sounds.
      video: file of the pictures, or None.
      transcript: what is said, or "".
      caption: what is to be heard, in words, or "".
      voice: name of the speaker, or "".
      event_times_sec: when the picture shows an event that sounds.
    """

    clip_id: str
    task: str
    generated: Path
    reference: Path
    video: Path | None = None
    transcript: str = ""
    caption: str = ""
    voice: str = ""
    event_times_sec: tuple[float, ...] = ()


def read_clips(
    benchmark: Benchmark, generated: Path, reference: Path, videos: Path | None, table: Path | None
) -> tuple[list[Given], list[str]]:
    """The clips of two folders of sounds, in the order of their names.

    Args:
      benchmark: whose tasks count.
      generated: folder of the sounds to score.
      reference: folder of the true sounds, called alike but for their suffixes, or as av-benchmark
        pairs them.
      videos: folder of the clips' videos, called like the true sounds.
      table: of `COLUMNS`, a line a clip; clips that it does not have are left out. Without one all
        clips are of the benchmark's only task.

    Returns:
      The clips, and a line on each kind of file that was left out.

    Raises:
      UserError: a folder or the table cannot be read, two files are of one name, no clip is in all
        that are given, or the task of a clip is unknown.
    """
    (ours, _), (theirs, _) = listed = _by_name(generated), _by_name(reference)
    pairs = pair_by_name(theirs, ours, clean=True)
    seen, passed_over = _by_name(videos, VIDEOS) if videos else ({}, set())
    known = dict(_lines(table)) if table else {name: {} for name in pairs}
    clips = [
        _clip(benchmark, name, ours[name], theirs[pairs[name]], seen.get(pairs[name]), known[name])
        for name in sorted(pairs.keys() & known.keys())
    ]
    others = {clip.clip_id for clip in clips if clip.task not in benchmark.tasks}
    remarks = [
        f"{len(names)} {what}, such as {min(names)}"
        for what, names in (
            (f"sounds in {generated} have no reference", ours.keys() - pairs.keys()),
            (f"references in {reference} have no sound", theirs.keys() - {*pairs.values()}),
            (f"clips of {table} have no sound", known.keys() - pairs.keys()),
            (f"sounds in {generated} are not in {table}", pairs.keys() - known.keys()),
            (f"clips have no video in {videos}", {*pairs.values()} - seen.keys() if videos else {}),
            (f"clips are of tasks that {benchmark.name} is not of", others),
            *(
                (f"files and folders in {folder} are not read", names)
                for folder, names in (
                    (generated, listed[0][1]),
                    (reference, listed[1][1]),
                    (videos, passed_over),
                )
            ),
        )
        if names
    ]
    clips = [clip for clip in clips if clip.task in benchmark.tasks]
    if not clips:
        raise UserError(
            f"{generated}: no clip is in all that was given and of the tasks "
            f"{', '.join(benchmark.tasks)} of benchmark {benchmark.name}"
        )
    return clips, remarks


def contents(clips: Sequence[Given]) -> str:
    """Tells clips and their files from others, and from earlier ones of the same names."""
    found = hashlib.sha256()
    for clip in clips:
        for path in (clip.generated, clip.reference, clip.video):
            found.update(repr(path and version(path)).encode())
        found.update(repr(clip).encode())
    return found.hexdigest()


def _by_name(folder: Path, suffixes: tuple[str, ...] = SOUNDS) -> tuple[dict[str, Path], set[str]]:
    """Files of these suffixes by their names without them, and names of what else there is."""
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder")
    found: dict[str, Path] = {}
    others = set()
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):  # such as macOS leaves beside files
            continue
        if path.suffix.lower() not in suffixes or not path.is_file():
            others.add(path.name)
        else:
            name = _composed(path.stem)
            other = found.setdefault(name, path)
            if other != path:
                raise UserError(f"{folder}: {other.name} and {path.name} are both '{name}'")
    if not found:
        raise UserError(
            f"{folder} holds no file of sound or video ({', '.join(suffixes)}); folders in it are "
            "not looked into"
        )
    return found, others


def _composed(name: str) -> str:
    """With each letter and its accents as one character: macOS writes several in names of files."""
    return unicodedata.normalize("NFC", name)


def _lines(table: Path) -> list[tuple[str, Mapping[str, str]]]:
    found: dict[str, Mapping[str, str]] = {}
    for number, fields in read_table(table, COLUMNS, needed="clip_id"):
        if fields[BEYOND]:
            raise UserError(f"{table}, line {number}: more fields than the header has")
        name = _composed(fields["clip_id"])
        if found.setdefault(name, fields) is not fields:
            raise UserError(f"{table}, line {number}: a second line of '{name}'")
    return [*found.items()]


def _clip(
    benchmark: Benchmark,
    name: str,
    generated: Path,
    reference: Path,
    video: Path | None,
    fields: Mapping[str, str],
) -> Given:
    task = fields.get("task") or (benchmark.tasks[0] if len(benchmark.tasks) == 1 else "")
    if task not in TASKS:
        raise UserError(
            f"clip '{name}': its task is '{task}'; benchmark {benchmark.name} is of several, so a "
            f"table --clips says for each which of {', '.join(TASKS)} it is"
        )
    try:
        times = tuple(map(float, fields.get("event_times_sec", "").replace(",", " ").split()))
    except ValueError as error:
        raise UserError(f"clip '{name}': event_times_sec are no numbers ({error})") from error
    transcript, caption = (
        " ".join(fields.get(name, "").split()) for name in ("transcript", "caption")
    )
    voice = fields.get("voice", "")
    return Given(name, task, generated, reference, video, transcript, caption, voice, times)
