"""Make a folder of weights from those of a PyTorch project (docs/weights.md):

python -m vssflow_jax.interop.import_weights --kind=KIND --source=PATH --out=DIR

A config, e.g. `--config=configs/vssflow.py:base`, says the sizes of `vssflow`, `stable_audio` and
`duration`; of the others the file does, or the `config.json` beside it.
"""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections
from absl import flags
from flax import nnx
from ml_collections import config_flags

from vssflow_jax import cli
from vssflow_jax.audio import autoencoder
from vssflow_jax.audio.pretrained import AUTOENCODER, HIFIGAN, Pretrained
from vssflow_jax.duration import convert
from vssflow_jax.duration.model import DurationConfig, DurationPredictor
from vssflow_jax.interop.stable_audio import from_stable_audio
from vssflow_jax.models.convert_vssflow import from_reference
from vssflow_jax.models.vssflow import ModelConfig
from vssflow_jax.networks.published import NETWORKS, other_sizes
from vssflow_jax.networks.whisper import published as whisper
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import as_path
from vssflow_jax.weights import folder, mapping
from vssflow_jax.weights.state_dict import read_config_beside, read_state_dict


class Imported(NamedTuple):
    """What a source holds: sizes as JSON values, weights, and what became of each tensor.

    Files beside the weights, such as a tokenizer's, are taken along.
    """

    sizes: dict[str, Any]
    weights: mapping.Weights
    report: mapping.Report
    beside: Sequence[Path] = ()


class Kind(NamedTuple):
    """A kind of source.

    Attributes:
      network: what folders of imported weights call the network that it is of.
      read: from its path, and from a config if it takes one.
      config: an example of a config that says the sizes; "" where the source says them.
      field: one that tells the `model` section of such a config from others.
      licence: of the weights that are published; "" where there are several.
    """

    network: str
    read: Callable[..., Imported]
    config: str = ""
    field: str = ""
    licence: str = ""


def import_weights(
    kind: str, source: Path, out: Path, config: ml_collections.ConfigDict | None = None
) -> mapping.Report:
    """Read weights of PyTorch and write ours.

    Args:
      kind: a key of `KINDS`.
      source: a file of weights, or a folder with one.
      out: folder to be made, see `vssflow_jax.weights.folder`.
      config: its `model` section says the sizes, for kinds that take one.

    Raises:
      UserError: bad input, or `out` is there already; nothing is written then.
    """
    if kind not in KINDS:
        raise UserError(f"--kind is '{kind}'; choose one of: {', '.join(KINDS)}")
    chosen = KINDS[kind]
    if config is not None and not chosen.config:
        raise UserError(f"--kind={kind} takes its sizes from the source; leave out --config")
    if chosen.config:
        check_config(kind, config)
    folder.check_new(out)
    imported = chosen.read(source, config) if chosen.config else chosen.read(source)
    folder.save(out, chosen.network, imported.sizes, imported.weights, imported.beside)
    return imported.report


def check_config(kind: str, config: ml_collections.ConfigDict | None) -> None:
    """Checks that a config says the sizes of a kind of source that takes one.

    Raises:
      UserError: there is none, or it is of another network.
    """
    chosen = KINDS[kind]
    if config is None or chosen.field not in config.get("model", {}):
        raise UserError(f"weights of '{kind}' need a config like --config={chosen.config}")


def main(argv: list[str]) -> None:
    del argv
    values = flags.FLAGS
    out = as_path(values.out)
    try:
        report = import_weights(values.kind, as_path(values.source), out, values.config)
    except mapping.PartialLoadError as error:
        print(error.report.table())
        raise
    print(report.table())
    if licence := KINDS[values.kind].licence:
        print(f"licence of the published weights: {licence}")
    print(f"wrote {out}")


def _read_vssflow(source: Path, config: ml_collections.ConfigDict) -> Imported:
    cfg = ModelConfig.from_config(config.model)
    return Imported(dataclasses.asdict(cfg), *from_reference(read_state_dict(source), cfg))


def _read_stable_audio(source: Path, config: ml_collections.ConfigDict) -> Imported:
    cfg = ModelConfig.from_config(config.model)
    options = read_config_beside(source)
    converted = from_stable_audio(
        read_state_dict(source), options, cfg, config.seed, config.train.init
    )
    return Imported(dataclasses.asdict(cfg), *converted)


def _read_pretrained(network: Pretrained, source: Path) -> Imported:
    options = network.read_options(source)
    if network.kind == AUTOENCODER.kind and (note := autoencoder.warning(options)):
        print(f"warning: {source}: {note}", file=sys.stderr)
    return Imported(options, *network.read_source(source))


def _read_network(kind: str, source: Path) -> Imported:
    cfg, converted = NETWORKS[kind].read(source)
    if other := other_sizes(kind, cfg):
        print(f"warning: {source}: not the published sizes: {other}", file=sys.stderr)
    return Imported(dataclasses.asdict(cfg), *converted, NETWORKS[kind].files_beside(source))


def _read_whisper(source: Path) -> Imported:
    found = whisper.read(source)
    return Imported(found.sizes(), *found.converted)


def _read_duration(source: Path, config: ml_collections.ConfigDict) -> Imported:
    cfg = DurationConfig.from_config(config.model)
    abstract = mapping.abstract_weights(lambda: DurationPredictor(cfg, rngs=nnx.Rngs(0)))
    tensors = read_state_dict(source)
    converted = mapping.convert(
        convert.rules(cfg),
        # A Lightning checkpoint has the network as a part of its module.
        {name.removeprefix(convert.MODULE): tensor for name, tensor in tensors.items()},
        abstract,
        expected_left_over=convert.UNUSED,
    )
    return Imported(dataclasses.asdict(cfg), *converted)


_AUDIOLDM_LICENCE = "CC BY-NC-SA 4.0"
_VSSFLOW_CONFIG = {"config": "configs/vssflow.py:base", "field": "placement"}
_DURATION_CONFIG = {"config": "configs/duration.py:published", "field": "phoneme_width"}
KINDS = {
    "vssflow": Kind("vssflow", _read_vssflow, **_VSSFLOW_CONFIG),
    "stable_audio": Kind("vssflow", _read_stable_audio, **_VSSFLOW_CONFIG),
    "audioldm_vae": Kind(
        AUTOENCODER.kind, partial(_read_pretrained, AUTOENCODER), licence=_AUDIOLDM_LICENCE
    ),
    "hifigan": Kind(HIFIGAN.kind, partial(_read_pretrained, HIFIGAN), licence=_AUDIOLDM_LICENCE),
    "duration": Kind("duration", _read_duration, **_DURATION_CONFIG),
    **{
        kind: Kind(kind, partial(_read_network, kind), licence=published.licence)
        for kind, published in NETWORKS.items()
    },
    whisper.KIND: Kind(whisper.KIND, _read_whisper, licence=whisper.LICENCE),
}


if __name__ == "__main__":
    flags.DEFINE_string("kind", None, f"what the source is: {', '.join(KINDS)}")
    flags.DEFINE_string("source", None, "file of weights, or a folder with one")
    flags.DEFINE_string("out", None, "folder to be made for the weights")
    config_flags.DEFINE_config_file("config", None, "sizes of the network", lock_config=True)
    flags.mark_flags_as_required(["kind", "source", "out"])
    cli.run(main)
