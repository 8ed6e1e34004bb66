"""The input pipeline: clips to batches at the latent rate, tasks mixed, joint clips synthesised.

Every example is a function of (seed, index) alone, so batches do not depend on threads, processes
or hosts, and the position in the data is one number.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import grain
import numpy as np

from vssflow_jax.clip import ClipSpec, windows
from vssflow_jax.input_pipeline import joint
from vssflow_jax.input_pipeline.collate import conditions, cut, stacked, waveforms, without_video
from vssflow_jax.input_pipeline.dataset import BadRecord, ClipSource, Dataset
from vssflow_jax.input_pipeline.example import Clip, ClipFeatures
from vssflow_jax.input_pipeline.mixture import Mixture
from vssflow_jax.input_pipeline.prefetch import AS_USUAL, Batches, Example, Made, ReadOptions
from vssflow_jax.input_pipeline.tasks import TASKS
from vssflow_jax.utils.errors import UserError


class Drawn(NamedTuple):
    """What a row of a batch is made of.

    Attributes:
      clip_id: of the clip; of one that is made of two, both, as "SOUND+SPEECH".
      features: features of the clip.
      posterior: what a codec knows of its latents [t, 2 c], or no frames.
      passed_over: what was wrong with each record that stood here before it.
    """

    clip_id: str
    features: ClipFeatures
    posterior: np.ndarray
    passed_over: tuple[str, ...]


def train_batches(
    dataset: Dataset,
    mixture: Mixture,
    batch_size: int,
    seed: int,
    latents: str = "online",
    rows: np.ndarray | None = None,
    read_options: ReadOptions = AS_USUAL,
    bucket_sec: Sequence[float] = (),
) -> Batches:
    """Endless batches of the training part.

    Batch i has the examples i b, ..., (i + 1) b - 1, of which a process may read some alone, so
    that neither batches nor the position in them depends on how many processes there are.

    A record that cannot be used is passed over: the next good one of its split stands in for it.

    Args:
      dataset: opened dataset.
      mixture: shares of the tasks.
      batch_size: clips in a batch.
      seed: seed of every draw.
      latents: "online" for batches with sounds, "offline" with what a codec knows of them.
      rows: places in a batch to read (`sharding.MeshRules.local_rows`); all, if None.
      read_options: processes and threads.
      bucket_sec: windows besides the dataset's own; all clips of a batch fit into its window, and
        none of them into a shorter one. Joint clips always have the dataset's.

    Raises:
      UserError: a task that the dataset has no clips for, or joint clips to be made of sounds that
        are not there.
    """
    offline = latents == "offline"
    if offline and mixture.synthesises:
        raise UserError(
            "codec.latents is 'offline', but joint clips are made by mixing sounds: set "
            "--config.codec.latents=online, or --config.data.mixture.synthetic_ratio=0"
        )
    rows = np.arange(batch_size) if rows is None else rows

    def batches(examples: grain.MapDataset, spec: ClipSpec) -> grain.MapDataset:
        def own(index: int) -> Drawn:
            batch, place = divmod(index, len(rows))
            return examples[batch * batch_size + int(rows[place])]

        def collate(drawn: Sequence[Drawn]) -> Made:
            clips = [row.features for row in drawn]
            if spec != dataset.spec:
                clips = [cut(clip, spec) for clip in clips]
            sounds = _posteriors(drawn, spec) if offline else waveforms(clips, spec)
            passed_over = [reason for row in drawn for reason in row.passed_over]
            return Made(conditions(clips, spec) | sounds, passed_over, [x.clip_id for x in drawn])

        read = grain.MapDataset.range(len(examples) // batch_size * len(rows)).map(own)
        return read.batch(len(rows), drop_remainder=True, batch_fn=collate)

    made, weights = [], []
    for spec, sources in _by_window(
        dataset, mixture, seed, read_options.max_bad_records, bucket_sec
    ):
        shares = [share for share, _ in sources]
        examples = grain.MapDataset.mix([source for _, source in sources], weights=shares)
        made.append(batches(examples, spec))
        weights.append(sum(shares))
    return Batches(grain.MapDataset.mix(made, weights=weights), read_options)


Share = tuple[float, grain.MapDataset]  # of all examples drawn, and endless examples


def _by_window(
    dataset: Dataset,
    mixture: Mixture,
    seed: int,
    limit: int,
    bucket_sec: Sequence[float],
) -> Iterator[tuple[ClipSpec, list[Share]]]:
    """For each window that clips are drawn for, what they are drawn from."""
    specs = windows(dataset.spec, bucket_sec)
    tasks, corpora = mixture.tasks, mixture.speech_sources
    places = {task: _places(dataset, task, specs, corpora) for task in tasks}
    for number, spec in enumerate(specs):
        sources = []
        for task in tasks:
            own = np.flatnonzero(places[task] == number)
            if len(own):
                share = mixture.weights[task] * len(own) / int(np.sum(places[task] >= 0))
                task_seed = seed + TASKS[task].seed
                sources.append((share, _examples(dataset, mixture, task, task_seed, limit, own)))
        if sources:
            yield spec, sources


def _places(
    dataset: Dataset, task: str, specs: Sequence[ClipSpec], corpora: Sequence[str]
) -> np.ndarray:
    """Which of the windows each clip of a task has; -1 for speech of another corpus."""
    if task == "joint":
        return np.array([len(specs) - 1])  # They are made as they are drawn, and all long.
    split = _split_of(dataset, task)
    count = len(dataset.clips("train", split))
    ends_sec = [spec.duration_sec for spec in specs[:-1]]
    places = np.zeros(count, np.int64)
    if ends_sec:
        places = np.searchsorted(ends_sec, dataset.durations_sec("train", split))
    chosen = _chosen(dataset, split, corpora)
    if count and not chosen.any():
        raise _no_speech(dataset, [split], corpora)
    return np.where(chosen, places, -1)


def _chosen(dataset: Dataset, split: str, corpora: Sequence[str]) -> np.ndarray:
    """Which clips of a split are taken, by their corpora if it is one of speech alone, bool [n]."""
    if not corpora or split not in ("visualtts", "tts"):
        return np.ones(dataset.count("train", split), bool)
    return np.isin(dataset.corpora("train", split), corpora)


def _no_speech(dataset: Dataset, splits: Sequence[str], corpora: Sequence[str]) -> UserError:
    there = {name for split in splits for name in dataset.corpora("train", split).tolist()}
    return UserError(
        f"data.mixture.speech_sources are {', '.join(corpora)}, but clips of {', '.join(splits)} "
        f"are from {', '.join(sorted(there))}"
    )


def _split_of(dataset: Dataset, task: str) -> str:
    """Whose split the clips of a task are in.

    A dataset without speech that is not seen has it all the same: its picture is not looked at.
    """
    return "visualtts" if task == "tts" and not dataset.count("train", "tts") else task


def _posteriors(drawn: Sequence[Drawn], spec: ClipSpec) -> Example:
    if not all(len(row.posterior) for row in drawn):
        raise UserError(
            "the dataset holds clips without latents; build it with --vae=DIR or set "
            "--config.codec.latents=online"
        )
    return {"posterior": stacked([row.posterior for row in drawn], spec.latent_frames)}


def _examples(
    dataset: Dataset,
    mixture: Mixture,
    task: str,
    seed: int,
    limit: int,
    own: np.ndarray,
) -> grain.MapDataset:
    """An endless, shuffled map dataset of one task, of the clips with the indices `own`."""
    if task == "joint":
        return _joint_examples(dataset, mixture, seed, limit)
    split = _split_of(dataset, task)
    clips = Chosen(dataset.clips("train", split), own)

    def example(index: int) -> Drawn:
        clip, passed_over = first_good(clips, index, limit)
        features = clip.features if split == task else without_video(clip.features)
        return Drawn(clip.clip_id, features, clip.posterior, passed_over)

    return _endless(len(clips), seed).map(example)


@dataclasses.dataclass(frozen=True)
class Chosen:
    """Some clips of a split."""

    clips: ClipSource
    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Clip:
        return self.clips[int(self.indices[index])]


def first_good(clips: ClipSource | Chosen, index: int, limit: int) -> tuple[Clip, tuple[str, ...]]:
    """The clip, or the next one whose record can be used; and what is wrong with those before.

    Raises:
      UserError: more than `limit` records in a row are bad, or all there are.
    """
    passed_over: list[str] = []
    for step in range(min(limit + 1, len(clips))):
        try:
            return clips[(index + step) % len(clips)], tuple(passed_over)
        except BadRecord as error:
            passed_over.append(str(error))
    raise UserError(
        f"{len(passed_over)} records in a row are bad, of {len(clips)}; data.max_bad_records is "
        f"{limit}; the last: {passed_over[-1]}"
    )


def _joint_examples(dataset: Dataset, mixture: Mixture, seed: int, limit: int) -> grain.MapDataset:
    """Joint clips: synthesised from a sound and a speech clip, or native, by ratio."""
    ratio = mixture.synthetic_ratio
    native = dataset.clips("train", "joint") if ratio < 1 else None
    speeches = _speeches(dataset, mixture.speech_sources) if ratio > 0 else []
    synthetic = _synthesis(dataset, speeches, mixture.joint_modes, limit) if speeches else None

    def example(index: int, rng: np.random.Generator) -> Drawn:
        if synthetic and (native is None or rng.random() < ratio):
            return synthetic(index, rng)
        assert native is not None
        clip, passed_over = first_good(native, index % len(native), limit)
        return Drawn(clip.clip_id, clip.features, clip.posterior, passed_over)

    count = max(len(speeches), len(native) if native else 0)
    return _endless(count, seed).seed(seed).random_map(example)


def _speeches(dataset: Dataset, corpora: Sequence[str]) -> list[tuple[ClipSource, int]]:
    """Training clips with speech alone, with a picture and without, by split and index.

    Raises:
      UserError: there are none, of any split.
    """
    splits = ["visualtts", *(["tts"] if dataset.count("train", "tts") else [])]
    found = [
        (source, int(index))
        for split in splits
        for source in [dataset.clips("train", split)]
        for index in np.flatnonzero(_chosen(dataset, split, corpora))
    ]
    if not found:
        raise _no_speech(dataset, splits, corpora)
    return found


def _synthesis(
    dataset: Dataset,
    speeches: Sequence[tuple[ClipSource, int]],
    modes: tuple[joint.Mode, ...],
    limit: int,
) -> Callable[[int, np.random.Generator], Drawn]:
    sounds: ClipSource = dataset.clips("train", "v2s")

    def draw(index: int, rng: np.random.Generator) -> Drawn:
        speech, bad_speeches = first_good(*speeches[index % len(speeches)], limit)
        sound, bad_sounds = first_good(sounds, int(rng.integers(len(sounds))), limit)
        features = joint.combine(
            sound.features,
            speech.features,
            mode=modes[int(rng.integers(len(modes)))],
            start_sec=joint.draw_start(sound.features, speech.features, rng),
            gain=joint.draw_gain(rng),
            spec=dataset.spec,
        )
        both = f"{sound.clip_id}+{speech.clip_id}"
        return Drawn(both, features, speech.posterior[:0], bad_speeches + bad_sounds)

    return draw


def _endless(count: int, seed: int) -> grain.MapDataset:
    return grain.MapDataset.range(count).shuffle(seed=seed).repeat()
