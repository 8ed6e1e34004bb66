"""Score sounds of any system against true ones, without a model or a dataset:

python -m vssflow_jax.evaluate.score --generated=DIR --reference=DIR --benchmark=NAME --out=DIR

Files of a clip have one name. `docs/evaluation.md` says what else may be given.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tqdm
from absl import flags

from vssflow_jax import media
from vssflow_jax.audio import mel
from vssflow_jax.clip import ClipSpec, fit_length, to_int16
from vssflow_jax.evaluate import benchmark as definition
from vssflow_jax.evaluate import kaldi, rows
from vssflow_jax.evaluate.benchmark import Benchmark, Place
from vssflow_jax.evaluate.evaluator import REPORT, chosen_rows, print_table
from vssflow_jax.evaluate.judged import SOUNDS, Judged, Shown, named_weights
from vssflow_jax.evaluate.metrics.of_clips import Reference
from vssflow_jax.evaluate.metrics.registry import METRICS, score_clip
from vssflow_jax.evaluate.networks.sounds import read_sound
from vssflow_jax.evaluate.pages.report import write_report
from vssflow_jax.evaluate.rows import Row
from vssflow_jax.evaluate.score.clips import Given, contents, read_clips
from vssflow_jax.evaluate.scores import sum_up
from vssflow_jax.evaluate.settings import claim, describe_files
from vssflow_jax.evaluate.versions import of_samples
from vssflow_jax.html import clip_view, page
from vssflow_jax.html.clip_view import ClipView, Sound
from vssflow_jax.parallel import distributed
from vssflow_jax.utils import plugins
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import as_path
from vssflow_jax.utils.processes import ahead, workers_for

BENCHMARKS = Path("configs", "benchmarks")
_ALIKE_SEC = 0.1  # lengths of sounds that no word is made about
_AHEAD = 16  # clips that are measured while others are read
_REPORT_CLIPS = 24


def score(
    benchmark: Benchmark,
    clips: Sequence[Given],
    judged: Judged,
    settings: dict[str, Any],
    out: Path,
    lists: str,
) -> dict[str, Any]:
    """Measure clips, or go on with it, and write `out` as an evaluation of a model does.

    Args:
      benchmark: says what is measured.
      clips: the clips, of which no two have one name.
      judged: what networks say of them, in folders of `out`.
      settings: what is kept beside the figures (`settings.describe_files`).
      out: gets what `run_eval.py` writes, but for `mp4/`; sounds at 16 kHz, as they are measured.
      lists: kind of the lists of sounds, a key of `kaldi.LISTS`.

    Returns:
      What `metrics.json` holds. Processes other than the main one return nothing.

    Raises:
      UserError: `out` holds another evaluation, or no clip can be measured.
    """
    judged.check(benchmark)
    if distributed.is_main():
        claim(out, settings, replace=False)
    distributed.wait_for_all(f"claimed {out}")
    _measure(benchmark, clips, out)
    good = {row.clip_id for row in rows.read(out) if not row.failed}
    there = [clip for clip in clips if clip.clip_id in good]
    judged.extract(
        benchmark,
        Shown(
            sounds={
                "generated": {clip.clip_id: clip.generated for clip in there},
                "reference": {clip.clip_id: clip.reference for clip in there},
            },
            videos={clip.clip_id: clip.video for clip in there if clip.video},
            tasks={clip.clip_id: clip.task for clip in there},
            spoken={clip.clip_id for clip in there if clip.transcript},
            captions={clip.clip_id: clip.caption for clip in there if clip.caption},
        ),
    )
    metrics: dict[str, Any] = {}
    if distributed.is_main():
        places = [Place(clip.task, index) for index, clip in enumerate(clips)]
        metrics = sum_up(out, benchmark, judged, places, settings, lists)
        shown = chosen_rows(rows.read(out), _REPORT_CLIPS)
        views = [(row, _view(row, clips[row.index], out)) for row in shown]
        write_report(out / REPORT, settings=settings, results=metrics, history=[], clips=views)
    distributed.wait_for_all(f"scored {out}")
    return metrics


def _measure(benchmark: Benchmark, clips: Sequence[Given], out: Path) -> None:
    """Make the rows that are not there yet; all processes return together."""
    done = {row.index for row in rows.read(out) if not row.failed}
    distributed.wait_for_all(f"read {out}")  # before anyone writes another
    for folder in SOUNDS.values():
        (out / folder).mkdir(exist_ok=True)
    mine = [*enumerate(clips)][jax.process_index() :: jax.process_count()]
    missing = [(index, clip) for index, clip in mine if index not in done]
    metrics = {name: METRICS[name] for name in benchmark.of_clips}
    bar = tqdm.tqdm(
        total=len(missing), desc=benchmark.name, unit="clip", disable=not distributed.is_main()
    )
    with rows.log(out, jax.process_index()) as log, workers_for(len(missing)) as workers, bar:
        jobs = ((index, clip, benchmark.clip_sec, metrics, out) for index, clip in missing)
        for row in ahead(workers, _row, jobs, _AHEAD):
            log.write(dataclasses.asdict(row))
            bar.update()
    distributed.wait_for_all(f"measured {out}")


def _row(job: tuple[int, Given, float, dict[str, Any], Path]) -> Row:
    """What is measured of one clip by itself; writes its sounds at 16 kHz."""
    index, clip, clip_sec, metrics, out = job
    row = Row(
        clip.task,
        index,
        clip.clip_id,
        clip.transcript,
        clip.voice,
        video=str(clip.video or ""),
        caption=clip.caption,
        event_times_sec=clip.event_times_sec,
    )
    try:
        truth, generated = (
            to_int16(read_sound(path, mel.SAMPLING_RATE, clip_sec))
            for path in (clip.reference, clip.generated)
        )
        for path, samples in ((clip.reference, truth), (clip.generated, generated)):
            if not len(samples):
                raise UserError(f"{path} has no sound")
    except UserError as error:
        return dataclasses.replace(row, failed=str(error))
    own_sec, true_sec = (len(x) / mel.SAMPLING_RATE for x in (generated, truth))
    if abs(own_sec - true_sec) > _ALIKE_SEC:
        what = "the rest is silence" if own_sec < true_sec else "what is longer is cut"
        told = f"the generated sound lasts {own_sec:.2f} s, the true one {true_sec:.2f} s: {what}"
        row = dataclasses.replace(row, problems={"length": told})
    generated = fit_length(generated, len(truth))
    media.write_wav(out / "wav" / f"{clip.clip_id}.wav", generated, mel.SAMPLING_RATE)
    media.write_wav(out / "reference" / f"{clip.clip_id}.wav", truth, mel.SAMPLING_RATE)
    spec = _window(len(truth))
    sounds = {"generated": of_samples(generated, spec), "ground_truth": of_samples(truth, spec)}
    times = np.array(clip.event_times_sec)
    known = Reference(clip.task, clip.transcript, times, clip.caption)
    return score_clip(row, known, sounds, metrics)


def _window(samples: int) -> ClipSpec:
    """The shortest window that holds a sound."""
    rate = ClipSpec.latent_rate
    return ClipSpec(duration_sec=max(math.ceil(samples / mel.SAMPLING_RATE * rate), 1) / rate)


def _view(row: Row, clip: Given, out: Path) -> ClipView:
    """The generated and the true sound, the latter with pictures where there are any to show."""
    sounds = []
    for name, folder in (("generated", "wav"), ("reference", "reference")):
        samples = clip_view.read_wav(out / folder / f"{row.clip_id}.wav", row.clip_id)
        shown = page.sound_uri(samples)
        if name == "reference" and clip.video and clip.video.suffix.lower() == ".mp4":
            shown = clip_view.video(clip.video, row.clip_id)
        sounds.append(Sound(name, shown, of_samples(samples, _window(len(samples))).log_mel))
    return ClipView.of(sounds, clip.event_times_sec)


# -------------------------------------------------------------------------------------- the command
def main(argv: list[str]) -> None:
    del argv
    values = flags.FLAGS
    distributed.start_by_flags(values)
    plugins.load(values.plugins)
    benchmark = definition.load(values.benchmark, as_path(values.benchmarks))
    benchmark = dataclasses.replace(benchmark, versions=(), mp4=False)
    given = {
        name: str(values[name].value or "")
        for name in ("generated", "reference", "videos", "clips")
    }
    paths = {name: as_path(path) if path else None for name, path in given.items()}
    clips, remarks = read_clips(
        benchmark,
        as_path(values.generated),
        as_path(values.reference),
        paths["videos"],
        paths["clips"],
    )
    out = as_path(values.out)
    _check_apart(out, [path for path in paths.values() if path])
    for remark in remarks if distributed.is_main() else ():
        print(remark)
    folders = {side: out / "features" / side for side in SOUNDS}
    judged = Judged(named_weights({}, values.weights), folders)
    settings = describe_files(benchmark, contents(clips), **given) | {"remarks": remarks}
    metrics = score(benchmark, clips, judged, settings, out, values.lists)
    if distributed.is_main():
        print_table(metrics, out)


def _check_apart(out: Path, given: Sequence[Path]) -> None:
    """Checks that nothing that was given would be written over.

    Raises:
      UserError: a folder of the results is one that was given, or in it.
    """
    for name in SOUNDS.values():
        own = (out / name).resolve()
        for path in given:
            if own == path.resolve() or path.resolve() in own.parents:
                raise UserError(f"--out={out}: its {own.name}/ is in {path}; choose another --out")


def define_flags() -> None:
    """The flags of the command."""
    flags.DEFINE_string("generated", None, "folder of the sounds to score", required=True)
    flags.DEFINE_string("reference", None, "folder of the true sounds", required=True)
    flags.DEFINE_string("videos", "", "folder of the clips' videos, for metrics that see")
    flags.DEFINE_string("clips", "", "table of what is known of clips (docs/evaluation.md)")
    flags.DEFINE_string("benchmark", None, "name of a benchmark, or path of one", required=True)
    flags.DEFINE_string("benchmarks", str(BENCHMARKS), "folder of benchmarks by name")
    flags.DEFINE_string("weights", "", "folder of folders of networks' weights")
    flags.DEFINE_string("out", None, "folder of the results", required=True)
    flags.DEFINE_enum("lists", "kaldi", [*kaldi.LISTS], "of the sounds, for others' scorers")
    flags.DEFINE_string("plugins", "", "modules of your own to import first, with commas")
    distributed.define_flags()
