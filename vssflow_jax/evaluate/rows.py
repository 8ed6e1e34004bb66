"""What is known of each evaluated clip: a row of JSON, written as soon as the clip is done.

A clip that has a row is not evaluated again. Each process appends to a file of its own; which of
them a row is in does not matter, so an evaluation may go on with another number of processes.
"""

import csv
import dataclasses
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from vssflow_jax.utils.files import whole_lines, write_atomically
from vssflow_jax.utils.logs import JsonLines

FOLDER = "rows"
TABLE = "clips.tsv"
COLUMNS = ("clip_id", "task", "transcript", "caption", "voice", "event_times_sec")
"""Of the table of what is known of clips, which `vssflow_jax.evaluate.score` reads."""
SCORED = "scores.jsonl"


@dataclasses.dataclass(frozen=True)
class Row:
    """One clip.

    Attributes:
      task, index: where it lies in its part of the dataset.
      clip_id: its name; "" if its record could not be read.
      transcript: what is said.
      voice: name of the speaker.
      video: file of its pictures, or "".
      caption: what is to be heard, in words.
      event_times_sec: when the picture shows an event that sounds.
      failed: why there is nothing of it, or "".
      problems: what could not be done or measured -> why.
      recognised: version -> the words that were read.
      scores: version -> score -> what it adds above and below.
      mel_statistics: version -> mean and deviation of each mel band [2 m].
      generate_sec: seconds that its batch took to generate, by clip; None where that is not known.
    """

    task: str
    index: int
    clip_id: str = ""
    transcript: str = ""
    voice: str = ""
    video: str = ""
    caption: str = ""
    event_times_sec: tuple[float, ...] = ()
    failed: str = ""
    problems: dict[str, str] = dataclasses.field(default_factory=dict)
    recognised: dict[str, str] = dataclasses.field(default_factory=dict)
    scores: dict[str, dict[str, tuple[float, float]]] = dataclasses.field(default_factory=dict)
    mel_statistics: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    generate_sec: float | None = None

    @property
    def generated_scores(self) -> dict[str, float]:
        """The scores of the generated sound, those that it has."""
        own = self.scores.get("generated", {})
        return {name: above / below for name, (above, below) in own.items() if below}


def log(directory: Path, process: int) -> JsonLines:
    """For the rows of a process, as `dataclasses.asdict` makes them."""
    (directory / FOLDER).mkdir(parents=True, exist_ok=True)
    return JsonLines(directory / FOLDER / f"{process:05d}.jsonl")


def read(directory: Path) -> list[Row]:
    """All whole rows, in any order; one for each clip, the last that did not fail."""
    found: dict[tuple[str, int], Row] = {}
    for path in sorted((directory / FOLDER).glob("*.jsonl")):
        for line in whole_lines(path).splitlines():
            row = Row(**json.loads(line))
            earlier = found.get((row.task, row.index))
            if earlier is None or earlier.failed:
                found[row.task, row.index] = row
    return list(found.values())


def write_table(directory: Path, good: Sequence[Row]) -> None:
    """Write what is known of clips, for their sounds to be scored again."""
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, COLUMNS, delimiter="\t", lineterminator="\n")
    table.writeheader()
    for row in good:
        times = " ".join(map(repr, row.event_times_sec))
        table.writerow({name: getattr(row, name) for name in COLUMNS} | {"event_times_sec": times})
    write_atomically(directory / TABLE, text.getvalue())


def of_seed(directory: Path, seed: int) -> Path:
    """The folder of a seed in that of an evaluation by several."""
    return directory / f"seed-{seed}"


def write_scored(directory: Path, rows: Iterable[Row]) -> None:
    """Write rows with all their scores, those by networks too, but without statistics of mels."""
    lines = [json.dumps(dataclasses.asdict(row) | {"mel_statistics": {}}) for row in rows]
    write_atomically(directory / SCORED, "".join(f"{line}\n" for line in lines))


def read_scored(directory: Path) -> list[Row]:
    """The rows that `write_scored` wrote, in their order."""
    lines = (directory / SCORED).read_text(encoding="utf-8").splitlines()
    return [Row(**json.loads(line)) for line in lines]
