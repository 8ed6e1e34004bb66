"""Lists of sounds as Kaldi keeps them, so that ESPnet's and VERSA's scorers read a folder of wavs.

An utterance is called like its clip, and so like its file: the lists of two folders, and scores by
file, go together. Its speaker is its voice, or itself where that is not known.

Paths are absolute, because those tools resolve others from where they run, which is their own
folder as a rule; a folder that has been moved wants its lists written again.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from vssflow_jax.evaluate.rows import Row
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import write_atomically


def write_lists(directory: Path, rows: Iterable[Row]) -> None:
    """Write `wav.scp`, `text`, `utt2spk` and `spk2utt` into a folder of sounds.

    Clips without a transcript are not in `text`, where VERSA does not bear an empty one.

    Args:
      directory: holds CLIP_ID.wav for each row.
      rows: rows of clips that did not fail, in any order.

    Raises:
      UserError: two clips would be one utterance.
    """
    utterances: dict[str, Row] = {}
    for row in rows:
        name = _word(row.clip_id)
        other = utterances.setdefault(name, row)
        if other is not row:
            raise UserError(
                f"Kaldi lists of {directory}: clips '{other.clip_id}' and '{row.clip_id}' are both "
                f"called '{name}' there; rename one"
            )
    # By code point, which is how LC_ALL=C sorts UTF-8.
    ordered = {name: utterances[name] for name in sorted(utterances)}
    speakers = {name: _word(row.voice or row.clip_id) for name, row in ordered.items()}
    spoken: dict[str, list[str]] = defaultdict(list)
    for name, speaker in speakers.items():
        spoken[speaker].append(name)
    root = directory.resolve()
    _write(directory / "wav.scp", {n: f"{root / row.clip_id}.wav" for n, row in ordered.items()})
    texts = {name: " ".join(row.transcript.split()) for name, row in ordered.items()}
    _write(directory / "text", {name: text for name, text in texts.items() if text})
    _write(directory / "utt2spk", speakers)
    _write(directory / "spk2utt", {name: " ".join(spoken[name]) for name in sorted(spoken)})


def _word(name: str) -> str:
    """A name without white space, which ends a word in the lists."""
    return re.sub(r"\s+", "_", name)


def _write(path: Path, table: Mapping[str, str]) -> None:
    write_atomically(path, "".join(f"{key} {value}\n" for key, value in table.items()))
