"""Statistics of a dataset's sounds, which the codec without weights is fitted to."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np

from data.inspection.stored import Damage, Stored
from vssflow_jax.audio import mel, patch_dct
from vssflow_jax.clip import fit_length, to_float
from vssflow_jax.input_pipeline import dataset
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import write_atomically

CLIPS = 256  # at most, evenly spread over the shards
_BATCH = 32  # sounds looked at at a time


def add(path: Path) -> None:
    """Give them to a dataset that an earlier version has built without them.

    Raises:
      UserError: there is no dataset, or it is damaged.
    """
    stored = Stored.open(path)
    file = stored.directory / dataset.LATENT_STATS
    if not file.exists():
        write_atomically(file, fit(stored))


def fit(stored: Stored) -> str:
    """The statistics of the training sounds, or of all where there are none, as JSON.

    A sound is padded to the window first.

    Raises:
      UserError: a shard or a record is damaged.
    """
    train = [shard for shard in stored.shards if shard.part == "train"]
    of_train = dataclasses.replace(stored, shards=train or stored.shards)
    sounds = []
    for item in of_train.read(CLIPS, quiet=True):
        if isinstance(item, Damage):
            raise UserError(f"dataset {stored.directory}: {item}; {dataset.REBUILD}")
        sounds.append(fit_length(item.values["audio"], stored.spec.num_samples))
    log_mel = jax.jit(mel.log_mel, static_argnums=1)
    log_mels = [
        np.asarray(log_mel(to_float(np.stack(sounds[i : i + _BATCH])), stored.spec.mel_frames))
        for i in range(0, len(sounds), _BATCH)
    ]
    stats = patch_dct.fit(np.concatenate(log_mels))
    return json.dumps({name: value.tolist() for name, value in stats._asdict().items()})
