"""Encoders of real features: networks whose weights the user has, and features made elsewhere."""

from collections.abc import Collection
from pathlib import Path

from vssflow_jax.features.clip_vision import ClipVision
from vssflow_jax.features.files import Absent, Files
from vssflow_jax.features.footage import WIDTHS, Encoder, Encoders
from vssflow_jax.features.voice import Resemblyzer
from vssflow_jax.features.weights_free import WEIGHTS_FREE
from vssflow_jax.input_pipeline.records import STREAMS, in_code, on_disk
from vssflow_jax.utils.errors import UserError

RESEMBLYZER = "resemblyzer"


def choose(clip: str, speaker: str, features_root: str, weights_free: Collection[str]) -> Encoders:
    """The encoder of each stream, by what the user has.

    Args:
      clip: folder of a CLIP network, for the visual stream.
      speaker: "resemblyzer" for the stream of that name.
      features_root: folder with a folder of .npy files for each stream whose features are there,
        of the name that a dataset has for it.
      weights_free: streams that get the encoders of `vssflow_jax.features.weights_free`, by
        either name.

    Returns:
      Encoders; a stream that is in none of these is absent.

    Raises:
      UserError: a stream is unknown or named twice, or there is no such folder.
    """
    weights_free = [in_code(name) for name in weights_free]
    unknown = sorted(set(weights_free) - set(STREAMS))
    if unknown:
        raise UserError(f"--weights_free: no stream '{unknown[0]}'; they are {', '.join(STREAMS)}")
    networks: dict[str, Encoder] = {}
    if clip:
        networks["visual"] = ClipVision(Path(clip))
    if speaker == RESEMBLYZER:
        networks["speaker"] = Resemblyzer()
    for name in sorted(set(networks) & set(weights_free)):
        raise UserError(
            f"--{on_disk(name)} and --weights_free={name}: choose one encoder for the stream"
        )
    if features_root and not Path(features_root).is_dir():
        raise UserError(f"--features_root={features_root}: no such folder")
    chosen: dict[str, Encoder] = {name: getattr(WEIGHTS_FREE, name) for name in weights_free}
    chosen |= networks
    for name in set(STREAMS) - set(chosen):
        folder = Path(features_root, on_disk(name))
        there = features_root and folder.is_dir()
        chosen[name] = Files(folder, WIDTHS[name]) if there else Absent(WIDTHS[name])
    return Encoders(**chosen)
