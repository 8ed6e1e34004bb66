"""The learned codec and vocoder, from a folder of imported weights or a Hugging Face folder."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vssflow_jax.audio import convert_autoencoder as autoencoder_rules
from vssflow_jax.audio import convert_hifigan as hifigan_rules
from vssflow_jax.audio import mel
from vssflow_jax.audio.autoencoder import Autoencoder, AutoencoderConfig
from vssflow_jax.audio.hifigan import HifiGan, HifiGanConfig
from vssflow_jax.clip import LATENT_CHANNELS, ClipSpec
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import as_path
from vssflow_jax.weights import folder as weights
from vssflow_jax.weights import mapping
from vssflow_jax.weights.state_dict import read_config_beside, read_state_dict

if TYPE_CHECKING:
    import ml_collections


class Pretrained(NamedTuple):
    """A network whose sizes are in the `config.json` beside its weights.

    Attributes:
      kind: what folders of imported weights call it.
      config: its sizes, from the contents of `config.json`.
      make: the network of such sizes.
      convert: (sizes, tensors of PyTorch, abstract weights) to weights and a report.
    """

    kind: str
    config: Callable[[Mapping[str, Any]], Any]
    make: Callable[[Any], nnx.Module]
    convert: Callable[[Any, Mapping[str, Any], mapping.Weights], mapping.Conversion]

    def read_options(self, folder: Path) -> dict[str, Any]:
        """The contents of `config.json` as Hugging Face has them.

        Raises:
          UserError: there is none, or it is of something else.
        """
        options = read_config_beside(folder)
        return weights.read_config(folder, self.kind) if "kind" in options else options

    def read_config(self, folder: Path) -> Any:
        """Its sizes.

        Raises:
          UserError: as `read_options`, or sizes and options that are not computed here.
        """
        return self.config(self.read_options(folder))

    def read_source(self, folder: Path) -> mapping.Conversion:
        """Weights and a report, from a folder with tensors of PyTorch.

        Raises:
          UserError: a file that is damaged, or tensors that do not fit the sizes.
        """
        cfg = self.read_config(folder)
        return self.convert(cfg, read_state_dict(folder), self.abstract(cfg))

    def load(self, folder: Path) -> mapping.Weights:
        """Weights as jax arrays, from either kind of folder.

        Raises:
          UserError: as `read_source`.
        """
        if (folder / weights.WEIGHTS_FILE).exists():
            return weights.load(folder, self.kind, self.abstract(self.read_config(folder)))
        return jax.tree.map(jnp.asarray, self.read_source(folder)[0])

    def digest(self, folder: Path) -> str:
        """Tells its weights from others, whichever kind of folder they are in.

        Raises:
          UserError: as `read_source`.
        """
        found = hashlib.sha256()
        for name, weight in sorted(mapping.flatten(self.load(folder)).items()):
            found.update(name.encode())
            found.update(np.asarray(weight).tobytes())
        return found.hexdigest()

    def abstract(self, cfg: Any) -> mapping.Weights:
        """Shapes of its weights, nested."""
        return mapping.abstract_weights(lambda: self.make(cfg))


def _autoencoder_config(options: Mapping[str, Any]) -> AutoencoderConfig:
    cfg = AutoencoderConfig.from_hugging_face(options)
    if cfg.flow_channels != LATENT_CHANNELS:
        raise UserError(
            f"config.json of the autoencoder: latent_channels is {cfg.latent_channels} at "
            f"{len(cfg.block_out_channels)} block_out_channels, a latent of {cfg.flow_channels} "
            f"channels; the flow models {LATENT_CHANNELS}"
        )
    spec = ClipSpec()
    if cfg.downsampling * spec.latent_rate != spec.mel_rate:
        raise UserError(
            "config.json of the autoencoder: with this number of block_out_channels a latent frame "
            f"is {cfg.downsampling} mel frames; the flow's is {spec.mel_rate // spec.latent_rate}"
        )
    return cfg


def _vocoder_config(options: Mapping[str, Any]) -> HifiGanConfig:
    cfg = HifiGanConfig.from_hugging_face(options)
    for name, found, wanted in (
        ("sampling_rate", cfg.sampling_rate, mel.SAMPLING_RATE),
        ("model_in_dim", cfg.model_in_dim, mel.BANDS),
        ("the product of upsample_rates", cfg.hop, mel.HOP),
    ):
        if found != wanted:
            raise UserError(
                f"config.json of the vocoder: {name} is {found}; the log-mels here have {wanted}"
            )
    return cfg


AUTOENCODER = Pretrained(
    "audioldm_vae",
    _autoencoder_config,
    lambda cfg: Autoencoder(cfg, rngs=nnx.Rngs(0)),
    lambda cfg, tensors, abstract: mapping.convert(
        autoencoder_rules.rules(cfg, tensors.keys()), tensors, abstract
    ),
)
HIFIGAN = Pretrained(
    "hifigan",
    _vocoder_config,
    lambda cfg: HifiGan(cfg, rngs=nnx.Rngs(0)),
    lambda cfg, tensors, abstract: mapping.convert(
        hifigan_rules.rules(cfg, tensors.keys()),
        tensors,
        abstract,
        expected_left_over=hifigan_rules.unused(cfg),
    ),
)


def folder_of(section: str, config: "ml_collections.ConfigDict") -> Path:
    if not config.path:
        raise UserError(
            f"{section}.kind is '{config.kind}', which has weights: name their folder by "
            f"--config.{section}.path (docs/weights.md)"
        )
    if not as_path(config.path).is_dir():
        raise UserError(f"{section}.path is {config.path}; there is no such folder")
    return as_path(config.path)
