"""Statistics of a dataset's sounds, which the codec without weights is fitted to."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader

from vssflow_jax.audio import mel, patch_dct
from vssflow_jax.clip import ClipSpec, fit_length, to_float
from vssflow_jax.input_pipeline import dataset, records
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import write_atomically

CLIPS = 256  # at most, evenly spread over the shards
_BATCH = 32  # sounds looked at at a time


def add(path: Path) -> None:
    """Give them to a dataset that an earlier version has built without them.

    Raises:
      UserError: there is no dataset, or it is damaged.
    """
    directory, info, metadata = dataset.open_metadata(path)
    file = directory / dataset.LATENT_STATS
    if file.exists():
        return
    for split in info.splits.values():
        for shard, expected in zip(split.filepaths, split.shard_lengths, strict=True):
            dataset.check_shard(Path(shard), expected)
    try:
        shards, spec = of_splits(info.splits.values()), ClipSpec(**metadata["clip"])
        write_atomically(file, fit(shards, metadata["widths"], spec))
    except (RuntimeError, KeyError, ValueError) as error:
        raise UserError(
            f"dataset {path}: a record is damaged ({error}); {dataset.REBUILD}"
        ) from error


def of_splits(splits: Iterable[tfds.core.SplitInfo]) -> list[Path]:
    """Shards of the training splits, in order; those of all splits where there are none."""
    known = {split.name: [Path(path) for path in split.filepaths] for split in splits}
    train = [paths for name, paths in known.items() if name.startswith("train_")]
    return [path for paths in train or known.values() for path in paths]


def fit(shards: Sequence[Path], widths: Mapping[str, int], spec: ClipSpec) -> str:
    """The statistics, as JSON.

    Args:
      shards: shards of the sounds to look at, in order.
      widths: channels of each of `records.STREAMS`.
      spec: geometry of the clips; a sound is padded to the window first.
    """
    sounds = [fit_length(sound, spec.num_samples) for sound in _sounds(shards, widths)]
    log_mel = jax.jit(mel.log_mel, static_argnums=1)
    log_mels = [
        np.asarray(log_mel(to_float(np.stack(sounds[i : i + _BATCH])), spec.mel_frames))
        for i in range(0, len(sounds), _BATCH)
    ]
    stats = patch_dct.fit(np.concatenate(log_mels))
    return json.dumps({name: value.tolist() for name, value in stats._asdict().items()})


def _sounds(shards: Sequence[Path], widths: Mapping[str, int]) -> list[np.ndarray]:
    """int16 sounds of at most `CLIPS` records, as many of each shard as it has of all."""
    readers = [ArrayRecordReader(str(path)) for path in shards]
    ends = np.cumsum([reader.num_records() for reader in readers])
    count = min(CLIPS, ends[-1])
    places = np.arange(count) * ends[-1] // count
    found = []
    for reader, start, end in zip(readers, [0, *ends[:-1]], ends, strict=True):
        inside = places[(places >= start) & (places < end)] - start
        if len(inside):
            found += [records.decode(x, widths)["audio"] for x in reader.read(inside.tolist())]
        reader.close()
    return found
