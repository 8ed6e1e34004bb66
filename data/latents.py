"""What a codec knows of the latents of a sound, to be kept in a dataset."""

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from array_record.python.array_record_module import ArrayRecordReader
from flax import nnx

from data.shard_writer import Contents, Row
from vssflow_jax.audio import mel
from vssflow_jax.audio.pretrained import AUTOENCODER
from vssflow_jax.clip import ClipSpec, fit_length, to_float
from vssflow_jax.input_pipeline import dataset, records
from vssflow_jax.input_pipeline.records import Values
from vssflow_jax.input_pipeline.shards import open_reader
from vssflow_jax.utils.errors import Rejected
from vssflow_jax.utils.files import as_path, bucket_path


def with_latents(contents: Contents, vae: str) -> Contents:
    """The same with the latents of the autoencoder in this folder, or without any, if it is ""."""
    source, digest = contents.source, dataset.NO_LATENTS
    if vae:
        source = WithLatents(source, as_path(vae), contents.spec)
        digest = AUTOENCODER.digest(as_path(vae))
    return dataclasses.replace(
        contents, source=source, origin={**contents.origin, "latents": digest}
    )


@dataclasses.dataclass(frozen=True)
class WithLatents:
    """The records of a source, with the posterior of AudioLDM's autoencoder for their sounds.

    That is means and log-variances [t, 2 c]; a sound is padded to the window first.

    Attributes:
      source: source of the records, a `NetworkSource` or another.
      folder: folder of the autoencoder.
      spec: geometry of the clips.
    """

    source: Any
    folder: Path
    spec: ClipSpec

    def record(self, row: Row) -> dict[str, Any]:
        """See `data.shard_writer.Source`."""
        return self._with_posterior(self.source.record(row))

    def prepare(self, row: Row) -> Any:
        """See `data.shard_writer.NetworkSource`, which its own source must be."""
        return self.source.prepare(row)

    def finish(self, prepared: Sequence[Any]) -> list[dict[str, Any]]:
        """See `data.shard_writer.NetworkSource`."""
        return [*map(self._with_posterior, self.source.finish(prepared))]

    def _with_posterior(self, values: Values) -> dict[str, Any]:
        waveform = to_float(fit_length(values["audio"], self.spec.num_samples))
        posterior = _encoder(self.folder, self.spec)(waveform[None])[0]
        return {**values, "posterior": np.asarray(posterior)}


@functools.cache
def _encoder(folder: Path, spec: ClipSpec) -> Callable[[np.ndarray], jax.Array]:
    """Of waveforms [b, samples], loaded once a process."""
    cfg, weights = AUTOENCODER.read_config(folder), AUTOENCODER.load(folder)
    definition = nnx.graphdef(nnx.eval_shape(lambda: AUTOENCODER.make(cfg)))

    @jax.jit
    def encode(waveform: jax.Array) -> jax.Array:
        log_mel = mel.log_mel(waveform, spec.mel_frames)
        known = nnx.merge(definition, weights).encode(log_mel)
        return jnp.concatenate([known.mean, known.log_variance], axis=-1)

    return encode


@dataclasses.dataclass(frozen=True)
class Copies:
    """The source of the records of a dataset that is there.

    Rows have the name of a `shard` and the `index` of a record in it.

    Attributes:
      directory: directory of its shards.
      widths: channels of each of its streams.
      videos_root: its folder, as seen from that of the new dataset.
    """

    directory: Path
    widths: Mapping[str, int]
    videos_root: str

    def record(self, row: Row) -> dict[str, Any]:
        """See `data.shard_writer.Source`."""
        try:
            record = _reader(self.directory / row["shard"]).read([row["index"]])[0]
            values = records.decode(record, self.widths)
        except (RuntimeError, IndexError, KeyError, ValueError) as error:
            raise Rejected(f"damaged record: {error}") from error
        video = values["video"] and seen_from(self.videos_root, values["video"])
        return {**values, "video": video}


@functools.lru_cache(maxsize=1)  # Rows come shard by shard.
def _reader(shard: Path) -> ArrayRecordReader:
    return open_reader(shard)


def seen_from(root: str, video: str) -> str:
    """The name of a video from elsewhere, where that is known of the folder of its own name."""
    path = as_path(root, video)
    return str(path) if bucket_path(path) else os.path.normpath(path)
