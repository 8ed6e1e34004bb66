"""Encoders of real features: networks whose weights the user has, and features made elsewhere."""

from collections.abc import Collection
from typing import Any

from absl import flags

from vssflow_jax.features import frozen
from vssflow_jax.features.files import Absent, Files
from vssflow_jax.features.footage import Encoder, Encoders, LipReader
from vssflow_jax.features.voice import Resemblyzer
from vssflow_jax.features.weights_free import WEIGHTS_FREE
from vssflow_jax.input_pipeline.records import in_code, on_disk
from vssflow_jax.input_pipeline.streams import STREAMS
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import as_path

RESEMBLYZER = "resemblyzer"


def define_flags(values: flags.FlagValues) -> None:
    """The flags by which a command is told what to see and hear with."""
    own: dict[str, Any] = {"flag_values": values}
    flags.DEFINE_string(
        "weights",
        "",
        "folder of weights: clip synchformer av_hubert rawnet3 (docs/weights.md)",
        **own,
    )
    flags.DEFINE_enum("encoder_dtype", "float32", frozen.DTYPES, "that these compute in", **own)
    flags.DEFINE_string("clip", "", "weights of a CLIP network, in place of those", **own)
    flags.DEFINE_enum("speaker", "", ["", RESEMBLYZER], "network for voice samples", **own)
    flags.DEFINE_string("features_root", "", "folder of feature files, STREAM/NAME.npy", **own)
    flags.DEFINE_alias("features-root", "features_root", **own)
    flags.DEFINE_list("weights_free", [], "streams that get an encoder without weights", **own)


def asked(values: flags.FlagValues) -> dict[str, Any]:
    """What these flags say, as arguments of `choose`."""
    names = ("clip", "speaker", "features_root", "weights_free", "weights")
    return {name: values[name].value for name in names} | {"dtype": values.encoder_dtype}


def choose(
    clip: str,
    speaker: str,
    features_root: str,
    weights_free: Collection[str],
    weights: str = "",
    dtype: str = "float32",
) -> Encoders:
    """The encoder of each stream, by what the user has.

    Args:
      clip: folder or file of a CLIP network, for the visual stream.
      speaker: "resemblyzer" for the stream of that name.
      features_root: folder with a folder of .npy files for each stream whose features are there,
        of the name that a dataset has for it.
      weights_free: streams that get the encoders of `vssflow_jax.features.weights_free`, by
        either name.
      weights: folder with a folder of weights for each network of `vssflow_jax.features.frozen`.
      dtype: that networks compute in.

    Returns:
      Encoders. What `clip`, `speaker` and `weights_free` name comes before what is in `weights`,
      and that before files. A stream that nobody names has the encoder of its entry, or is absent.

    Raises:
      UserError: a stream is unknown or named twice, or there is no such folder.
    """
    weights_free = [in_code(name) for name in weights_free]
    unknown = sorted(set(weights_free) - set(WEIGHTS_FREE.by_stream))
    if unknown:
        known = ", ".join(WEIGHTS_FREE.by_stream)
        raise UserError(f"--weights_free: no stream '{unknown[0]}'; they are {known}")
    for name, own in (("speaker", speaker), ("visual", clip)):
        if own and name in weights_free:
            raise UserError(
                f"--{on_disk(name)} and --weights_free={name}: choose one encoder for the stream"
            )
    networks: dict[str, Encoder] = {}
    if clip:
        networks["visual"] = frozen.encoder("visual", as_path(clip), dtype)
    if speaker == RESEMBLYZER:
        networks["speaker"] = Resemblyzer()
    if features_root and not as_path(features_root).is_dir():
        raise UserError(f"--features_root={features_root}: no such folder")
    chosen = {name: WEIGHTS_FREE[name] for name in weights_free} | networks
    if weights:
        chosen = {**frozen.of_folder(as_path(weights), dtype), **chosen}
    for name, stream in STREAMS.items():
        folder = as_path(features_root, on_disk(name))
        if features_root and folder.is_dir():
            chosen.setdefault(name, Files(folder, stream.width))
        chosen.setdefault(name, stream.encoder or Absent(stream.width))
    readers = {type(x).__name__ for x in chosen.values() if isinstance(x, LipReader)}
    if len(readers) > 1:
        raise UserError(
            f"{' and '.join(sorted(readers))} find mouths in ways of their own: choose one of them"
        )
    return Encoders({name: chosen[name] for name in STREAMS})
