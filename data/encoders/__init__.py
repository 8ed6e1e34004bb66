"""Encoders of real features: networks whose weights the user has, and features made elsewhere."""

from collections.abc import Collection
from pathlib import Path

from data.encoders.clip_vision import ClipVision
from data.encoders.files import Absent, Files
from data.features import WEIGHTS_FREE, WIDTHS, Encoder, Encoders
from vssflow_jax.errors import UserError
from vssflow_jax.records import STREAMS


def choose(clip: str, features_root: str, weights_free: Collection[str]) -> Encoders:
    """The encoder of each stream, by what the user has.

    Args:
      clip: folder of a CLIP network, for the stream of that name.
      features_root: folder with a folder of .npy files for each stream whose features are there.
      weights_free: streams that get the encoders of `data.features`.

    Returns:
      Encoders; a stream that is in none of these is absent.

    Raises:
      UserError: a stream is unknown or named twice, or there is no such folder.
    """
    unknown = sorted(set(weights_free) - set(STREAMS))
    if unknown:
        raise UserError(f"--weights_free: no stream '{unknown[0]}'; they are {', '.join(STREAMS)}")
    if clip and "clip" in weights_free:
        raise UserError("--clip and --weights_free=clip: choose one encoder for the stream")
    if features_root and not Path(features_root).is_dir():
        raise UserError(f"--features_root={features_root}: no such folder")
    chosen: dict[str, Encoder] = {name: getattr(WEIGHTS_FREE, name) for name in weights_free}
    if clip:
        chosen["clip"] = ClipVision(Path(clip))
    for name in set(STREAMS) - set(chosen):
        folder = Path(features_root, name)
        there = features_root and folder.is_dir()
        chosen[name] = Files(folder, WIDTHS[name]) if there else Absent(WIDTHS[name])
    return Encoders(**chosen)
