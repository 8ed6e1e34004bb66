"""The networks by name, out of the files that others published and out of folders of imported ones.

A folder of imported weights (`vssflow_jax.weights.folder`) bears the name of its network.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax import nnx

from vssflow_jax.networks import (
    byte_pairs,
    convert,
    convert_audiobox,
    convert_av_hubert,
    convert_clip,
    convert_imagebind,
    convert_nisqa,
    convert_passt,
    convert_rawnet3,
    convert_synchformer,
    convert_synchformer_sound,
    convert_syncnet,
    convert_utmos,
)
from vssflow_jax.networks.audiobox import Audiobox, AudioboxConfig
from vssflow_jax.networks.av_hubert import AVHubert, AVHubertConfig
from vssflow_jax.networks.clap import convert as convert_clap
from vssflow_jax.networks.clap.network import Clap, ClapConfig
from vssflow_jax.networks.clip_vision import ClipVision, ClipVisionConfig
from vssflow_jax.networks.convert import Names
from vssflow_jax.networks.imagebind import ImageBind, ImageBindConfig
from vssflow_jax.networks.nisqa import NISQA, NISQAConfig
from vssflow_jax.networks.passt import PaSST, PaSSTConfig
from vssflow_jax.networks.rawnet3 import ESPNET, RawNet3, RawNet3Config
from vssflow_jax.networks.synchformer import Synchformer, SynchformerConfig
from vssflow_jax.networks.synchformer_sound import SynchformerSound, SynchformerSoundConfig
from vssflow_jax.networks.syncnet import SyncNet, SyncNetConfig
from vssflow_jax.networks.utmos import UTMOS, UTMOSConfig
from vssflow_jax.utils.errors import UserError
from vssflow_jax.weights import folder as weights
from vssflow_jax.weights import mapping
from vssflow_jax.weights.state_dict import CONFIG_FILE, StateDict, read_json, read_state_dict

_OPTIONS = (
    CONFIG_FILE,
    convert_rawnet3.CONFIG_FILE,
    convert_clip.OPENCLIP_FILE,
    convert_clip.PREPROCESSOR_FILE,
)

Config = Any
"""Sizes of a network, a dataclass of its module."""


class Published(NamedTuple):
    """A network whose weights others have published.

    Attributes:
      licence: of its weights.
      config: class of its sizes; the defaults are those of the published weights.
      network: class of the network.
      sizes: from the tensors of a file, and the path of that, to the sizes.
      names: from the tensors of a file to where the weights are.
      unused: from the tensors of a file to what names of those that are not needed start with.
      more: from the tensors of a file, and its path, to weights that are kept elsewhere.
      others: sizes of other weights that are published too.
      beside: names of files that belong to the weights, where they lie beside them.
    """

    licence: str
    config: type
    network: Callable[..., nnx.Module]
    sizes: Callable[[StateDict, Path], Config]
    names: Callable[[StateDict], Names]
    unused: Callable[[StateDict], tuple[str, ...]]
    more: Callable[[StateDict, Path], StateDict] = lambda *_: {}
    others: tuple[Config, ...] = ()
    beside: tuple[str, ...] = ()

    def make(self, cfg: Config) -> nnx.Module:
        """The network, shapes only."""
        return nnx.eval_shape(lambda: self.network(cfg, rngs=nnx.Rngs(0)))

    def convert(self, tensors: StateDict, cfg: Config) -> mapping.Conversion:
        """Our weights from the tensors of a file.

        Raises:
          UserError: it is of another network, or tensors are missing, unknown or of another shape.
        """
        abstract = _abstract(self.network, cfg)
        return mapping.convert(
            convert.rules(abstract, self.names(tensors)),
            tensors,
            abstract,
            expected_left_over=(*self.unused(tensors), *convert.counters(tensors)),
        )

    def read(self, source: Path) -> tuple[Config, mapping.Conversion]:
        """Sizes, weights and a report, from a file of the publisher's, or a folder with one.

        Raises:
          UserError: as `convert`, or the file cannot be read.
        """
        tensors = self.tensors(source)
        cfg = self.sizes(tensors, source)
        return cfg, self.convert(tensors, cfg)

    def tensors(self, source: Path) -> StateDict:
        """All that weights are made of; see `read`."""
        tensors = read_state_dict(source)
        return tensors | self.more(tensors, source)

    def files_beside(self, source: Path) -> list[Path]:
        """The files that belong to the weights of a source, such as a tokenizer's."""
        return _files_beside(source, *self.beside)

    def read_beside(self, source: Path) -> list[Path]:
        """These, and those that sizes and scales are read from."""
        return _files_beside(source, *_OPTIONS, *self.beside)


@functools.cache
def _abstract(network: Callable[..., nnx.Module], cfg: Config) -> mapping.Weights:
    """Shapes of the weights of a network, nested."""
    return mapping.abstract_weights(lambda: network(cfg, rngs=nnx.Rngs(0)))


def config(kind: str, path: Path) -> Config:
    """Sizes of a network whose weights are in a folder or file.

    Args:
      kind: its name, a key of `NETWORKS`.
      path: a folder as `import_weights` makes it, or what that is made from.

    Raises:
      UserError: nothing is there, or it is of another network or of another version.
    """
    published = NETWORKS[kind]
    if not weights.is_imported(path):
        return published.sizes(_read_source(kind, path), path)
    saved = weights.read_config(path, kind)
    try:
        return published.config(
            **{name: tuple(x) if isinstance(x, list) else x for name, x in saved.items()}
        )
    except TypeError as error:
        raise UserError(
            f"{path}: its sizes are of another version ({error}); import the weights again"
        ) from error


def load(kind: str, path: Path) -> nnx.Module:
    """A network with its weights; see `config`."""
    published, cfg = NETWORKS[kind], config(kind, path)
    network = published.make(cfg)
    state = nnx.to_pure_dict(nnx.state(network))
    if weights.is_imported(path):
        nnx.update(network, weights.load(path, kind, state))
    else:
        nnx.update(network, published.convert(_read_source(kind, path), cfg)[0])
        _read_source.cache_clear()
    return network


@functools.cache
def digest(kind: str, path: Path) -> str:
    """Tells the weights of a network from others, however they are kept; see `config`."""
    found = hashlib.sha256()
    state = nnx.to_pure_dict(nnx.state(load(kind, path)))
    for name, value in sorted(mapping.flatten(state).items()):
        found.update(name.encode())
        found.update(np.asarray(value).tobytes())
    return found.hexdigest()


@functools.lru_cache(maxsize=1)  # Sizes are asked for first, then weights.
def _read_source(kind: str, path: Path) -> StateDict:
    return NETWORKS[kind].tensors(path)


def other_sizes(kind: str, cfg: Config) -> str:
    """Sizes that are not those of the published weights most like them, in words; "" if all are."""
    published = NETWORKS[kind]
    fewest = min((_differences(cfg, x) for x in (published.config(), *published.others)), key=len)
    return ", ".join(fewest)


def _differences(cfg: Config, other: Config) -> list[str]:
    ours, theirs = dataclasses.asdict(cfg), dataclasses.asdict(other)
    return [
        f"{name} is {size}, not {theirs[name]}"
        for name, size in ours.items()
        if size != theirs[name]
    ]


def _clip_sizes(tensors: StateDict, source: Path) -> ClipVisionConfig:
    if not convert_clip.is_hugging_face(tensors):
        return convert_clip.config(tensors, _options_beside(source, convert_clip.OPENCLIP_FILE))
    scale = _options_beside(source, convert_clip.PREPROCESSOR_FILE)
    return convert_clip.config(tensors, _options_beside(source), scale)


def _clap_sizes(tensors: StateDict, source: Path) -> ClapConfig:
    belongs = convert_clap.is_hugging_face(tensors)
    return convert_clap.config(tensors, _options_beside(source) if belongs else {})


def _rawnet3_sizes(tensors: StateDict, source: Path) -> RawNet3Config:
    belongs = convert_rawnet3.is_espnet(tensors)
    found = _files_beside(source, convert_rawnet3.CONFIG_FILE) if belongs else []
    options = convert_rawnet3.read_options(found[0]) if found else {}
    return convert_rawnet3.config(tensors, options)


def _options_beside(source: Path, name: str = CONFIG_FILE) -> Mapping[str, Any]:
    """Of a JSON file beside the weights; none if there is none."""
    found = _files_beside(source, name)
    return read_json(found[0]) if found else {}


def _files_beside(source: Path, *names: str) -> list[Path]:
    """Those of some files that are in the folder of a source."""
    folder = source if source.is_dir() else source.parent
    return [folder / name for name in names if (folder / name).is_file()]


NETWORKS: Mapping[str, Published] = {
    "clip": Published(
        licence="MIT",
        config=ClipVisionConfig,
        network=ClipVision,
        sizes=_clip_sizes,
        names=convert_clip.names,
        unused=convert_clip.unused,
    ),
    "clap": Published(
        licence="CC0 1.0 (LAION's file), Apache-2.0 (its folders on Hugging Face)",
        config=ClapConfig,
        network=Clap,
        sizes=_clap_sizes,
        names=convert_clap.names,
        unused=convert_clap.unused,
        beside=byte_pairs.FILES,
    ),
    "synchformer": Published(
        licence="MIT",
        config=SynchformerConfig,
        network=Synchformer,
        sizes=lambda tensors, _: convert_synchformer.config(tensors),
        names=lambda _: convert_synchformer.NAMES,
        unused=lambda _: convert_synchformer.UNUSED,
    ),
    "av_hubert": Published(
        licence="non-commercial research only, by the agreement of its owner",
        config=AVHubertConfig,
        network=AVHubert,
        sizes=lambda tensors, _: convert_av_hubert.config(tensors),
        names=convert_av_hubert.names,
        unused=convert_av_hubert.unused,
    ),
    "rawnet3": Published(
        licence="MIT (its authors' file), CC BY 4.0 (ESPnet's)",
        config=RawNet3Config,
        network=RawNet3,
        sizes=_rawnet3_sizes,
        names=convert_rawnet3.names,
        unused=convert_rawnet3.unused,
        others=(ESPNET,),
    ),
    "imagebind": Published(
        licence="CC BY-NC-SA 4.0: non-commercial",
        config=ImageBindConfig,
        network=ImageBind,
        sizes=lambda tensors, _: convert_imagebind.config(tensors),
        names=convert_imagebind.names,
        unused=lambda _: convert_imagebind.UNUSED,
    ),
    "synchformer_sound": Published(
        licence="MIT",
        config=SynchformerSoundConfig,
        network=SynchformerSound,
        sizes=lambda tensors, _: convert_synchformer_sound.config(tensors),
        names=lambda _: convert_synchformer_sound.NAMES,
        unused=lambda _: convert_synchformer_sound.UNUSED,
    ),
    "syncnet": Published(
        licence="that of its authors at VGG, Oxford, who name none",
        config=SyncNetConfig,
        network=SyncNet,
        sizes=lambda tensors, _: convert_syncnet.config(tensors),
        names=lambda _: convert_syncnet.NAMES,
        unused=lambda _: (),
    ),
    "utmos": Published(
        licence="MIT",
        config=UTMOSConfig,
        network=UTMOS,
        sizes=lambda tensors, _: convert_utmos.config(tensors),
        names=lambda _: convert_utmos.NAMES,
        unused=lambda _: convert_utmos.UNUSED,
    ),
    "audiobox": Published(
        licence="CC BY 4.0",
        config=AudioboxConfig,
        network=Audiobox,
        sizes=lambda tensors, _: convert_audiobox.config(tensors),
        names=convert_audiobox.names,
        unused=convert_audiobox.unused,
        more=convert_audiobox.ratings,
    ),
    "nisqa": Published(
        licence="CC BY-NC-SA 4.0: non-commercial",
        config=NISQAConfig,
        network=NISQA,
        sizes=lambda tensors, _: convert_nisqa.config(tensors),
        names=lambda _: convert_nisqa.NAMES,
        unused=lambda _: (),
    ),
    "passt": Published(
        licence="Apache-2.0",
        config=PaSSTConfig,
        network=PaSST,
        sizes=lambda tensors, _: convert_passt.config(tensors),
        names=convert_passt.names,
        unused=convert_passt.unused,
    ),
}
