"""The input pipeline: clips to batches at the latent rate, tasks mixed, joint clips synthesised.

Every example is a function of (seed, index) alone, so batches do not depend on threads, and the
position in the data is one number.
"""

import dataclasses
from collections.abc import Callable, Sequence

import grain
import ml_collections
import numpy as np

from vssflow_jax import joint
from vssflow_jax.clip import ClipSpec, fit_length, nearest, nearest_exact
from vssflow_jax.dataset import Clip, ClipSource, Dataset
from vssflow_jax.errors import UserError
from vssflow_jax.joint import ClipFeatures

Example = dict[str, np.ndarray]

MIXABLE = ("v2s", "visualtts", "tts", "joint")
READ_THREADS = 2
BATCHES_AHEAD = 4


def to_latent_rate(features: ClipFeatures, spec: ClipSpec) -> Example:
    """Bring every condition of a clip to the latent frames (REFERENCE section 3).

    Args:
      features: of one clip; a stream without frames is absent and becomes zeros.
      spec: geometry of the window.

    Returns:
      clip, synch, lips [t, i]; phonemes int32 [t]; speaker [i]; waveform [samples].
    """
    t = spec.latent_frames

    def stretched(frames: np.ndarray, indices: Callable[[int, int], np.ndarray]) -> np.ndarray:
        return frames[indices(len(frames), t)] if len(frames) else fit_length(frames, t)

    return {
        "clip": stretched(features.clip, nearest),
        "synch": stretched(features.synch, nearest_exact),
        "lips": fit_length(features.lips, t),
        "phonemes": fit_length(features.phonemes, t).astype(np.int32),
        "speaker": features.speaker,
        "waveform": fit_length(features.waveform, spec.num_samples),
    }


def without_video(features: ClipFeatures) -> ClipFeatures:
    """The clip as a TTS example: the text and the voice, nothing to see."""
    return dataclasses.replace(
        features, clip=features.clip[:0], synch=features.synch[:0], lips=features.lips[:0]
    )


def offline_latents(clip: Clip, example: Example) -> Example:
    """The example with what a codec knows of the latents in place of the sound.

    Raises:
      UserError: the dataset does not hold it.
    """
    if not len(clip.posterior):
        raise UserError(
            f"clip {clip.clip_id}: the dataset holds no latents; build it with --vae=DIR or set "
            "--config.codec.latents=online"
        )
    conditions = {name: value for name, value in example.items() if name != "waveform"}
    return conditions | {"posterior": clip.posterior}


def train_batches(
    dataset: Dataset,
    mixture: ml_collections.ConfigDict,
    batch_size: int,
    seed: int,
    latents: str = "online",
    rows: np.ndarray | None = None,
) -> grain.IterDataset:
    """Endless batches of the training part.

    Batch i has the examples i b, ..., (i + 1) b - 1, of which a process may read some alone, so
    that neither batches nor the position in them depends on how many processes there are.

    Args:
      dataset: opened dataset.
      mixture: `weights` of each of `MIXABLE`, `synthetic_ratio` of joint clips, `joint_modes`.
      batch_size: clips in a batch.
      seed: of every draw.
      latents: "online" for batches with sounds, "offline" with what a codec knows of them.
      rows: places in a batch to read (`sharding.Layout.local_rows`); all, if None.

    Returns:
      a grain dataset of `Example`s with a leading batch axis.

    Raises:
      UserError: unknown task, mode or weight, a task that the dataset has no clips for, or joint
        clips to be made of sounds that are not there.
    """
    check_mixture(mixture)
    offline = latents == "offline"
    if offline and mixture.weights.joint > 0 and mixture.synthetic_ratio > 0:
        raise UserError(
            "codec.latents is 'offline', but joint clips are made by mixing sounds: set "
            "--config.codec.latents=online, or --config.data.mixture.synthetic_ratio=0"
        )
    sources = {
        task: _examples(dataset, mixture, task, seed + index, offline)
        for index, task in enumerate(MIXABLE)
        if mixture.weights[task] > 0
    }
    weights = [mixture.weights[task] for task in sources]
    mixed = grain.MapDataset.mix(list(sources.values()), weights=weights)
    rows = np.arange(batch_size) if rows is None else rows

    def own(index: int) -> Example:
        batch, place = divmod(index, len(rows))
        return mixed[batch * batch_size + int(rows[place])]

    read = grain.MapDataset.range(len(mixed) // batch_size * len(rows)).map(own)
    return read.batch(len(rows), drop_remainder=True).to_iter_dataset(
        grain.ReadOptions(num_threads=READ_THREADS, prefetch_buffer_size=BATCHES_AHEAD)
    )


def check_mixture(mixture: ml_collections.ConfigDict) -> None:
    """See that the mixture can be drawn from.

    Raises:
      UserError: a weight below 0, all of them 0, a ratio outside [0, 1], or an unknown mode.
    """
    weights = mixture.weights.to_dict()
    if min(weights.values()) < 0 or sum(weights.values()) == 0:
        raise UserError(
            f"data.mixture.weights are {weights}; give at least one above 0, none below"
        )
    if not 0 <= mixture.synthetic_ratio <= 1:
        raise UserError(
            f"data.mixture.synthetic_ratio is {mixture.synthetic_ratio}; choose from 0 to 1"
        )
    unknown = set(mixture.joint_modes) - set(joint.MODES)
    if unknown or not mixture.joint_modes:
        raise UserError(
            f"data.mixture.joint_modes are {tuple(mixture.joint_modes)}; choose from {joint.MODES}"
        )


def _examples(
    dataset: Dataset, mixture: ml_collections.ConfigDict, task: str, seed: int, offline: bool
) -> grain.MapDataset:
    """An endless, shuffled map dataset of one task."""
    if task == "joint":
        return _joint_examples(dataset, mixture, seed, offline)
    # A dataset without such clips has them all the same: speech whose picture is not looked at.
    blind = task == "tts" and not dataset.count("train", "tts")
    clips = dataset.clips("train", "visualtts" if blind else task)

    def example(index: int) -> Example:
        clip = clips[index]
        features = without_video(clip.features) if blind else clip.features
        made = to_latent_rate(features, dataset.spec)
        return offline_latents(clip, made) if offline else made

    return _endless(len(clips), seed).map(example)


def _joint_examples(
    dataset: Dataset, mixture: ml_collections.ConfigDict, seed: int, offline: bool
) -> grain.MapDataset:
    """Joint clips: synthesised from a sound and a speech clip, or native, by ratio."""
    ratio = mixture.synthetic_ratio
    native = dataset.clips("train", "joint") if ratio < 1 else None
    speeches = _speeches(dataset) if ratio > 0 else []
    synthetic = _synthesis(dataset, speeches, tuple(mixture.joint_modes)) if speeches else None

    def example(index: int, rng: np.random.Generator) -> Example:
        if synthetic and (native is None or rng.random() < ratio):
            return to_latent_rate(synthetic(index, rng), dataset.spec)
        assert native is not None
        clip = native[index % len(native)]
        made = to_latent_rate(clip.features, dataset.spec)
        return offline_latents(clip, made) if offline else made

    count = max(sum(map(len, speeches)), len(native) if native else 0)
    return _endless(count, seed).seed(seed).random_map(example)


def _speeches(dataset: Dataset) -> list[ClipSource]:
    """Training clips with speech alone, with a picture and without."""
    without = [dataset.clips("train", "tts")] if dataset.count("train", "tts") else []
    return [dataset.clips("train", "visualtts"), *without]


def _synthesis(
    dataset: Dataset, speeches: Sequence[ClipSource], modes: tuple[joint.Mode, ...]
) -> Callable[[int, np.random.Generator], ClipFeatures]:
    sounds: ClipSource = dataset.clips("train", "v2s")
    places = [(source, index) for source in speeches for index in range(len(source))]

    def draw(index: int, rng: np.random.Generator) -> ClipFeatures:
        source, place = places[index % len(places)]
        speech = source[place].features
        sound = sounds[int(rng.integers(len(sounds)))].features
        return joint.combine(
            sound,
            speech,
            mode=modes[int(rng.integers(len(modes)))],
            start_sec=joint.draw_start(sound, speech, rng),
            gain=joint.draw_gain(rng),
            spec=dataset.spec,
        )

    return draw


def _endless(count: int, seed: int) -> grain.MapDataset:
    return grain.MapDataset.range(count).shuffle(seed=seed).repeat()
