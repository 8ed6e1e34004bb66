"""Lists of the sounds of an evaluation, as Kaldi keeps them, which other people's scorers read.

`LISTS` has the kinds. Each is some files of lines `KEY VALUE` beside the generated sounds, in the
order in which `LC_ALL=C sort` has the keys.

Paths are absolute, because those tools resolve others from where they run, which is their own
folder as a rule; a folder that has been moved wants its lists written again.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from vssflow_jax.evaluate.rows import Row
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import write_atomically

Table = Mapping[str, str]
"""Key -> what its line says of it."""
MakeLists = Callable[[Path, Sequence[Row]], Mapping[str, Table]]
"""Of the absolute folder of an evaluation, and rows of its clips: name of a file -> its lines."""


def write_lists(out: Path, rows: Iterable[Row], kind: str) -> None:
    """Write lists of one kind into `out/wav`; those of another kind that lie there are deleted.

    Args:
      out: folder of an evaluation, with `wav/CLIP_ID.wav` and `reference/CLIP_ID.wav`.
      rows: rows of clips that did not fail, in any order.
      kind: a key of `LISTS`.

    Raises:
      UserError: two clips would have one key.
    """
    lists = LISTS[kind](out.resolve(), [*rows])
    for name in {name for make in LISTS.values() for name in make(out, [])} - lists.keys():
        (out / "wav" / name).unlink(missing_ok=True)
    for name, table in lists.items():
        # By code point, which is how LC_ALL=C sorts UTF-8.
        lines = (f"{key} {table[key]}".rstrip() for key in sorted(table))
        write_atomically(out / "wav" / name, "".join(f"{line}\n" for line in lines))


def _kaldi(out: Path, rows: Sequence[Row]) -> dict[str, Table]:
    """What ESPnet's and VERSA's scorers read: `wav.scp`, `text`, `utt2spk` and `spk2utt`.

    An utterance is called like its clip, and so like its file: the lists of two folders, and scores
    by file, go together. Its speaker is its voice, or itself where that is not known. Clips without
    a transcript are not in `text`, where VERSA does not bear an empty one.
    """
    utterances = _by_key(out, rows, lambda row: _word(row.clip_id))
    speakers = {key: _word(row.voice or row.clip_id) for key, row in utterances.items()}
    spoken: dict[str, list[str]] = defaultdict(list)
    for key in sorted(speakers):
        spoken[speakers[key]].append(key)
    texts = {key: _text(row) for key, row in utterances.items()}
    return {
        "wav.scp": _paths(out / "wav", utterances),
        "text": {key: text for key, text in texts.items() if text},
        "utt2spk": speakers,
        "spk2utt": {speaker: " ".join(keys) for speaker, keys in spoken.items()},
    }


def _espnet_speechlm(out: Path, rows: Sequence[Row]) -> dict[str, Table]:
    """What `scripts/utils/speechlm_eval/eval_tts.sh` of ESPnet's recipes reads.

    Keys are `TASK_ID_sample0`, as of the first of several samples. The speaker of `utt2spk` is the
    file of the true sound, for VERSA to hold the voice against, and `key_file` names what there are
    samples of, `TASK_ID`. The scripts lay lists beside one another line by line, so that all have
    the same keys: those of clips with a transcript.
    """
    spoken = [row for row in rows if _text(row)]
    samples = _by_key(out, spoken, lambda row: f"{_name_of_samples(row)}_sample0")
    return {
        "wav.scp": _paths(out / "wav", samples),
        "text": {key: _text(row) for key, row in samples.items()},
        "utt2spk": _paths(out / "reference", samples),
        "key_file": {_name_of_samples(row): "" for row in spoken},
    }


LISTS: dict[str, MakeLists] = {"kaldi": _kaldi, "espnet_speechlm": _espnet_speechlm}
"""Kind of lists -> what makes them."""


def _by_key(out: Path, rows: Iterable[Row], key: Callable[[Row], str]) -> dict[str, Row]:
    """Rows by their keys.

    Raises:
      UserError: two have one.
    """
    found: dict[str, Row] = {}
    for row in rows:
        other = found.setdefault(key(row), row)
        if other is not row:
            raise UserError(
                f"lists of {out / 'wav'}: clips '{other.clip_id}' and '{row.clip_id}' are both "
                f"called '{key(row)}' there; rename one"
            )
    return found


def _paths(folder: Path, rows: Mapping[str, Row]) -> Table:
    return {key: f"{folder / row.clip_id}.wav" for key, row in rows.items()}


def _text(row: Row) -> str:
    return " ".join(row.transcript.split())


def _word(name: str) -> str:
    """A name without white space, which ends a word in the lists."""
    return re.sub(r"\s+", "_", name)


def _name_of_samples(row: Row) -> str:
    """What the keys of a clip's samples begin with.

    ESPnet reads keys out of JSON whose quotes it exchanges, and out of the brackets of `.trn`
    files, and what follows the first `_sample` is the number of the sample.
    """
    plain = re.sub(r"[^\w.-]", "_", row.clip_id)
    return f"{row.task}_{plain}".replace("_sample", "-sample")
