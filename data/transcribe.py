"""Write the table of a folder of videos, with what is said in them by Whisper:

python -m data.transcribe --videos=DIR --whisper=WHISPER --out=DIR/clips.tsv

`data.build --source=videos` reads it (docs/own_data.md). Look it over first: a recogniser errs.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import flags

from vssflow_jax import cli
from vssflow_jax.evaluate.networks.extract import extract
from vssflow_jax.evaluate.networks.sounds import read_sound
from vssflow_jax.evaluate.networks.store import Store
from vssflow_jax.features import voice_activity
from vssflow_jax.media import VIDEOS
from vssflow_jax.parallel import distributed
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import as_path, version, write_atomically
from vssflow_jax.utils.processes import workers_for

JUDGE = "whisper"


class Heard(NamedTuple):
    """What is said in a video.

    Attributes:
      text: as one would write it; "" where nobody speaks.
      log_probability: mean over its tokens, as Whisper gives it.
      spoken: whether a network that knows no words hears speech.
    """

    text: str
    log_probability: float
    spoken: bool


def transcribe(videos: Path, whisper: Path, work: Path) -> tuple[dict[str, Heard], dict[str, str]]:
    """Listen to all videos of a folder, or go on with it; all processes return together.

    Args:
      videos: the folder, and those in it.
      whisper: a folder of Whisper (docs/weights.md).
      work: folder of what has been heard so far.

    Returns:
      Path of a video in the folder -> what is heard; and path -> why nothing is. Processes other
      than the main one return nothing.

    Raises:
      UserError: no videos, no such weights, or a package is not installed.
    """
    voice_activity.check_installed()
    if not whisper.exists():
        raise UserError(f"whisper: {whisper} does not exist; docs/weights.md says where to get it")
    found = sorted(path for path in videos.rglob("*") if path.suffix.lower() in VIDEOS)
    if not found:
        raise UserError(f"{videos} holds no videos ({', '.join(VIDEOS)})")
    paths = {path.relative_to(videos).as_posix(): path for path in found}
    # What was heard is kept by the file too, for another may have its name by now.
    kept_as = {name: f"{name} {version(path)}" for name, path in paths.items()}
    extract(JUDGE, whisper, {kept_as[name]: path for name, path in paths.items()}, work)
    if not distributed.is_main():
        return {}, {}
    store = Store(work / JUDGE)
    texts, sure = store.read("text"), store.read("log_probability")
    names = {name: key for name, key in kept_as.items() if key in texts}
    with workers_for(len(names)) as workers:
        spoken = [*workers.map(_is_spoken, [paths[name] for name in names])]
    heard = {
        name: Heard(" ".join(texts[key].tobytes().decode().split()), float(sure[key]), speaks)
        for (name, key), speaks in zip(names.items(), spoken, strict=True)
    }
    unfit = store.unfit()
    return heard, {name: unfit[key] for name, key in kept_as.items() if key in unfit}


def _is_spoken(path: Path) -> bool:
    return bool(voice_activity.find_speech(read_sound(path)))


def table(heard: dict[str, Heard], least_log_probability: float) -> str:
    """The table: what is doubtful, and what only Whisper hears, has no transcript."""
    lines = ["video\ttranscript"]
    for name, one in sorted(heard.items()):
        sure = one.spoken and one.log_probability >= least_log_probability
        lines.append(f"{name}\t{one.text if sure else ''}")
    return "\n".join(lines) + "\n"


def main(argv: list[str]) -> None:
    del argv
    values = flags.FLAGS
    videos, out = as_path(values.videos), as_path(values.out or as_path(values.videos, "clips.tsv"))
    if out.exists():
        raise UserError(f"{out} is there already; choose another --out or remove it")
    if not videos.is_dir():
        raise UserError(f"{videos}: there is no such folder")
    distributed.start_by_flags(values)
    work = out.with_name(f"{out.name}.heard")
    heard, unheard = transcribe(videos, as_path(values.whisper), work)
    if distributed.is_main():
        write_atomically(out, table(heard, values.least_log_probability))
        for name, why in unheard.items():
            print(f"left out: {name}: {why}")
        texts = [one for one in heard.values() if one.spoken and one.text]
        doubtful = [one for one in texts if one.log_probability < values.least_log_probability]
        print(
            f"{out}: {len(heard)} videos, {len(texts) - len(doubtful)} with a transcript, "
            f"{len(doubtful)} whose words are doubtful, {len(unheard)} left out"
        )
        if texts:
            mean = np.mean([one.log_probability for one in texts])
            print(f"mean log-probability of what is said: {mean:.2f}")


if __name__ == "__main__":
    flags.DEFINE_string("videos", None, "folder of videos", required=True)
    flags.DEFINE_string("whisper", None, "folder of Whisper's weights", required=True)
    flags.DEFINE_string("out", "", "the table; clips.tsv in the folder by default")
    flags.DEFINE_float("least_log_probability", -1.0, "of a text that is believed")
    distributed.define_flags()
    cli.run(main)
