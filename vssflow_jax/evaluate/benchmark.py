"""The evaluation of a run, top to bottom: restore, generate, vocode, measure, write.

Every number stands beside three others: of the true sound, of the true sound through the codec
and vocoder (the best that the model could do), and of sound generated from another clip's
conditions (what would be reached without looking).
"""

import csv
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import joblib
import ml_collections
import numpy as np
import soundfile
import tqdm

from vssflow_jax import hosts, media, run_files
from vssflow_jax.audio import mel
from vssflow_jax.checkpoint import Checkpoints
from vssflow_jax.dataset import TASKS, Clip, Dataset
from vssflow_jax.evaluate.metrics.mel_distance import mel_distance
from vssflow_jax.evaluate.metrics.onsets import (
    corpus_onset_f1,
    corpus_onset_recall,
    detect_onsets,
    onset_f1,
)
from vssflow_jax.evaluate.metrics.wer import corpus_wer, transcribe, utterance_wer
from vssflow_jax.evaluate.report import ReportClip, write_report
from vssflow_jax.generate import draw_start, make_generate
from vssflow_jax.input import to_latent_rate, train_batches
from vssflow_jax.sampling import ADAPTIVE
from vssflow_jax.sound import CodecParams, Vocoder, make_vocoder
from vssflow_jax.start import initial_state
from vssflow_jax.train_step import Recipe, TrainState

VERSIONS = ("generated", "ground_truth", "codec", "shuffled")


@dataclasses.dataclass(frozen=True)
class Rendering:
    """One version of the sound of all clips.

    Attributes:
      waveforms: float32 [samples] each, 16 kHz.
      log_mels: of those waveforms, [n, m] each.
      onsets_sec: found in those waveforms.
      transcripts: what the recogniser reads; "" for clips without speech.
    """

    waveforms: Sequence[np.ndarray]
    log_mels: Sequence[np.ndarray]
    onsets_sec: Sequence[np.ndarray]
    transcripts: Sequence[str]


def evaluate(config: ml_collections.ConfigDict, workdir: Path) -> dict[str, float]:
    """Evaluate the newest checkpoint of a run on its whole test part.

    Where there is none, but the config starts from imported weights, those are evaluated.

    Args:
      config: of the run; its `eval` section may differ from the one it was trained with.
      workdir: of the run; `eval/` in it gets `metrics.json`, `per_clip.csv`, `report.html`,
        `wav/` and `mp4/`.

    Returns:
      the metrics; NAME is of the generated sound, NAME_ground_truth, NAME_codec and NAME_shuffled
      of the versions beside it. Rates are fractions. Of many processes, which generate together,
      only the main one measures and writes; the others return nothing.

    Raises:
      UserError: no checkpoint or another config's, no test part, a damaged dataset.
    """
    run_files.check(workdir, config)
    recipe = Recipe.from_config(config)
    dataset = Dataset(
        config.data.path, recipe.spec, config.data.durations, config.data.durations_path
    )
    dataset.check_widths(recipe.model.feature_widths)
    dataset.check_part("test")
    clips = test_clips(dataset)

    abstract = recipe.abstract_state()
    if config.train.init_from and not (workdir / "checkpoints").exists():
        print(f"no checkpoint in {workdir}: the weights of train.init_from are evaluated")
        size, seed = config.train.batch_size, config.seed
        state = initial_state(
            recipe, abstract, lambda: train_batches(dataset, config.data.mixture, size, seed)
        )
    else:
        with Checkpoints(workdir) as checkpoints:
            state, _ = checkpoints.restore(abstract)

    log_mels = {
        "generated": generate_all(config, recipe, state, clips, clips),
        "codec": through_codec(config, recipe, state, clips),
        "shuffled": generate_all(config, recipe, state, clips, shuffled(clips)),
    }
    if not hosts.is_main():
        return {}
    renderings = render(log_mels, clips, recipe, make_vocoder(config.vocoder))

    metrics = measure(renderings, clips)
    per_clip = [clip_scores(clip, index, renderings) for index, clip in enumerate(clips)]
    directory = workdir / "eval"
    write_sounds(directory, clips, renderings["generated"].waveforms, dataset.path)
    write_per_clip(directory / "per_clip.csv", clips, renderings["generated"], per_clip)
    write_report(
        directory / "report.html",
        title="VSSFlow: sound and speech from silent video",
        config_summary=_summary(config, state, clips),
        metrics=metrics,
        history=run_files.read_metrics(workdir),
        clips=_shown(config.eval.report_clips, clips, renderings, per_clip, directory, dataset),
    )
    record = {
        "step": int(state.step),
        "clips": len(clips),
        "sampler": run_files.resolved_values(config.eval.sampler),
        **metrics,
    }
    run_files.write_atomically(directory / "metrics.json", json.dumps(record, indent=2) + "\n")
    return metrics


def evaluate_and_print(config: ml_collections.ConfigDict, workdir: Path) -> None:
    """Evaluate, then print the table and where the page is."""
    metrics = evaluate(config, workdir)
    if not hosts.is_main():
        return
    print(f"\n{'':24}" + "".join(f"{version:>14}" for version in VERSIONS))
    for name in [name for name in metrics if not name.endswith(VERSIONS[1:])]:
        values = [metrics[name], *(metrics[f"{name}_{version}"] for version in VERSIONS[1:])]
        print(f"{name:24}" + "".join(f"{value:14.3f}" for value in values))
    print(f"\nopen {workdir / 'eval' / 'report.html'}")


def is_done(config: ml_collections.ConfigDict, workdir: Path) -> bool:
    """Whether the last step's evaluation with this sampler has been written."""
    path = workdir / "eval" / "metrics.json"
    if not path.exists():
        return False
    record = json.loads(path.read_text())
    wanted = (config.train.steps, run_files.resolved_values(config.eval.sampler))
    return (record["step"], record["sampler"]) == wanted


def test_clips(dataset: Dataset) -> list[Clip]:
    """All clips of the test part, by task and name."""
    sources = [dataset.clips("test", task) for task in TASKS if dataset.count("test", task)]
    clips = [source[index] for source in sources for index in range(len(source))]
    return sorted(clips, key=lambda clip: (clip.task, clip.clip_id))


def shuffled(clips: Sequence[Clip]) -> list[Clip]:
    """For each clip the next one of its task, round about; a task's only clip stays as it is."""
    order = []
    for clip in clips:
        same = [other for other in clips if other.task == clip.task]
        order.append(same[(same.index(clip) + 1) % len(same)])
    return order


def generate_all(
    config: ml_collections.ConfigDict,
    recipe: Recipe,
    state: TrainState,
    clips: Sequence[Clip],
    conditions: Sequence[Clip],
) -> list[np.ndarray]:
    """Log-mels [n, m] generated for `clips` from the features of `conditions`, batch by batch."""
    generate = make_generate(recipe, config.eval.sampler)
    names = [clip.clip_id for clip in clips]
    starts = draw_start(recipe, config.seed, names, config.eval.sampler.mask_ratio)

    def example(index: int) -> Any:
        features = to_latent_rate(conditions[index].features, recipe.spec)
        return features, jax.tree.map(lambda x: x[index], starts)

    return in_batches(
        lambda batch: generate(state, *batch), example, len(clips), config.eval.batch_size
    )


def through_codec(
    config: ml_collections.ConfigDict, recipe: Recipe, state: TrainState, clips: Sequence[Clip]
) -> list[np.ndarray]:
    """Log-mels [n, m] of the true sounds, encoded and decoded, batch by batch."""

    @jax.jit
    def there_and_back(params: CodecParams, waveform: jax.Array) -> jax.Array:
        log_mel = mel.log_mel(waveform, recipe.spec.mel_frames)
        return recipe.codec.decode(params, recipe.codec.encode(params, log_mel).mean)

    return in_batches(
        lambda waveform: there_and_back(state.codec, waveform),
        lambda index: to_latent_rate(clips[index].features, recipe.spec)["waveform"],
        len(clips),
        config.eval.batch_size,
        what="codec",
    )


def in_batches(
    function: Callable[[Any], jax.Array],
    example: Callable[[int], Any],
    count: int,
    size: int,
    what: str = "generate",
) -> list[np.ndarray]:
    """What a function of a batch gives for each of `count` examples, which are made as needed."""
    size = min(size, count)
    results: list[np.ndarray] = []
    for first in tqdm.trange(0, count, size, desc=what, unit="batch", disable=not hosts.is_main()):
        # The last batch is filled up with the first examples, so that all have one shape.
        members = [example(index % count) for index in range(first, first + size)]
        results += list(jax.device_get(function(jax.tree.map(lambda *x: np.stack(x), *members))))
    return results[:count]


def render(
    log_mels: Mapping[str, Sequence[np.ndarray]],
    clips: Sequence[Clip],
    recipe: Recipe,
    vocoder: Vocoder,
) -> dict[str, Rendering]:
    """Vocode the log-mels of each version and listen to all of them, and to the true sounds."""
    workers = joblib.cpu_count()
    sounds = {"ground_truth": [clip.features.waveform for clip in clips]}
    with ThreadPoolExecutor(workers) as pool:
        for version, mels in log_mels.items():
            vocoded = tqdm.tqdm(
                pool.map(vocoder, mels), total=len(mels), desc=f"vocode {version}", unit="clip"
            )
            lengths = [len(clip.features.waveform) for clip in clips]
            sounds[version] = [w[:n] for w, n in zip(vocoded, lengths, strict=True)]
    spoken = [index for index, clip in enumerate(clips) if clip.transcript]
    flat = transcribe([sounds[version][i] for version in VERSIONS for i in spoken], workers)
    renderings = {}
    for number, version in enumerate(VERSIONS):
        read = dict(zip(spoken, flat[number * len(spoken) :], strict=False))
        renderings[version] = Rendering(
            waveforms=sounds[version],
            log_mels=[_log_mel(waveform, recipe) for waveform in sounds[version]],
            onsets_sec=[detect_onsets(w, mel.SAMPLING_RATE) for w in sounds[version]],
            transcripts=[read.get(index, "") for index in range(len(clips))],
        )
    return renderings


def measure(renderings: Mapping[str, Rendering], clips: Sequence[Clip]) -> dict[str, float]:
    """All metrics over the test part; a metric is left out where no clip has what it needs."""
    truth = renderings["ground_truth"]
    tasks = {task: [i for i, clip in enumerate(clips) if clip.task == task] for task in TASKS}
    metrics: dict[str, float] = {}
    for version in VERSIONS:
        sound = renderings[version]
        suffix = "" if version == "generated" else f"_{version}"
        for name, task in (("wer", "visualtts"), ("wer_tts", "tts"), ("wer_joint", "joint")):
            indices = tasks[task]
            if indices:
                metrics[name + suffix] = corpus_wer(
                    [clips[i].transcript for i in indices],
                    [sound.transcripts[i] for i in indices],
                )
        for name, indices, score in (
            ("onset_f1", tasks["v2s"], corpus_onset_f1),
            # Speech has onsets too: on joint clips only the events that are found can be counted.
            ("onset_recall_joint", tasks["joint"], corpus_onset_recall),
        ):
            if indices:
                metrics[name + suffix] = score(
                    [(clips[i].event_times_sec, sound.onsets_sec[i]) for i in indices]
                )
        for task, indices in tasks.items():
            if indices:
                metrics[f"mel_distance_db_{task}{suffix}"] = float(
                    np.mean([mel_distance(sound.log_mels[i], truth.log_mels[i]) for i in indices])
                )
    return metrics


def clip_scores(clip: Clip, index: int, renderings: Mapping[str, Rendering]) -> dict[str, float]:
    """The scores of one generated clip."""
    sound, truth = renderings["generated"], renderings["ground_truth"]
    scores = {"mel_distance_db": mel_distance(sound.log_mels[index], truth.log_mels[index])}
    if clip.transcript:
        scores["wer"] = utterance_wer([clip.transcript], [sound.transcripts[index]])[0]
    if clip.task == "v2s":
        scores["onset_f1"] = onset_f1(clip.event_times_sec, sound.onsets_sec[index])
    return scores


def write_sounds(
    directory: Path, clips: Sequence[Clip], waveforms: Sequence[np.ndarray], root: Path
) -> None:
    """Write `wav/ID.wav`, and `mp4/ID.mp4` with the clip's own pictures."""
    for kind in ("wav", "mp4"):
        (directory / kind).mkdir(parents=True, exist_ok=True)
    for clip, waveform in zip(clips, waveforms, strict=True):
        soundfile.write(directory / "wav" / f"{clip.clip_id}.wav", waveform, mel.SAMPLING_RATE)
        media.replace_audio(
            root / clip.video,
            waveform,
            mel.SAMPLING_RATE,
            directory / "mp4" / f"{clip.clip_id}.mp4",
        )


def write_per_clip(
    path: Path, clips: Sequence[Clip], sound: Rendering, scores: Sequence[Mapping[str, float]]
) -> None:
    """Write a row of scores for each clip."""
    names = sorted({name for row in scores for name in row})
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["clip_id", "task", "transcript", "recognised", *names])
        for clip, transcript, row in zip(clips, sound.transcripts, scores, strict=True):
            values = [f"{row[name]:.4f}" if name in row else "" for name in names]
            writer.writerow([clip.clip_id, clip.task, clip.transcript, transcript, *values])


def _shown(
    count: int,
    clips: Sequence[Clip],
    renderings: Mapping[str, Rendering],
    scores: Sequence[Mapping[str, float]],
    directory: Path,
    dataset: Dataset,
) -> list[ReportClip]:
    """The first clips of each task, about equally many, as the page shows them."""
    tasks = sorted({clip.task for clip in clips})
    share = -(-count // len(tasks))
    chosen = [
        index
        for task in tasks
        for index in [i for i, clip in enumerate(clips) if clip.task == task][:share]
    ]
    return [
        ReportClip(
            clip_id=clips[i].clip_id,
            task=clips[i].task,
            transcript=clips[i].transcript,
            recognised=renderings["generated"].transcripts[i],
            scores=scores[i],
            generated_video=directory / "mp4" / f"{clips[i].clip_id}.mp4",
            reference_video=dataset.path / clips[i].video,
            generated_log_mel=renderings["generated"].log_mels[i],
            reference_log_mel=renderings["ground_truth"].log_mels[i],
            event_times_sec=[float(t) for t in clips[i].event_times_sec],
        )
        for i in chosen
    ]


def _summary(
    config: ml_collections.ConfigDict, state: TrainState, clips: Sequence[Clip]
) -> dict[str, str]:
    weights = sum(leaf.size for leaf in jax.tree.leaves((state.params, state.frozen)))
    sampler = config.eval.sampler
    pace = (
        f"tolerance {sampler.tolerance}" if sampler.method == ADAPTIVE else f"{sampler.steps} steps"
    )
    return {
        "steps": f"{int(state.step)} of {config.train.batch_size} clips",
        "parameters": f"{weights / 1e6:.1f} M",
        "conditions": config.model.placement,
        "sampler": f"{sampler.method}, {pace}, guidance {sampler.guidance}",
        "test clips": str(len(clips)),
        "seed": str(config.seed),
    }


def _log_mel(waveform: np.ndarray, recipe: Recipe) -> np.ndarray:
    return np.asarray(mel.log_mel(jnp.asarray(waveform)[None], recipe.spec.mel_frames))[0]
