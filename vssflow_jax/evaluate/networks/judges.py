"""The networks behind metrics, by the name of the folder of their features."""

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path

from vssflow_jax.evaluate.networks import of_captions, of_sounds
from vssflow_jax.evaluate.networks.judge import Judge
from vssflow_jax.evaluate.networks.of_both import (
    ImageBindSound,
    ImageBindVideo,
    SynchformerSound,
    SynchformerVideo,
    SyncNetSound,
    SyncNetVideo,
)
from vssflow_jax.evaluate.networks.of_captions import ClapText
from vssflow_jax.evaluate.networks.of_sounds import (
    Audiobox,
    Clap,
    Nisqa,
    Panns,
    Passt,
    RawNet3,
    Utmos,
    Vggish,
    Whisper,
)
from vssflow_jax.networks.published import NETWORKS
from vssflow_jax.networks.spread import Spread
from vssflow_jax.weights import folder

JUDGES: Mapping[str, type[Judge]] = {
    "panns": Panns,
    "vggish": Vggish,
    "passt": Passt,
    "clap": Clap,
    "clap_text": ClapText,
    "rawnet3": RawNet3,
    "utmos": Utmos,
    "audiobox": Audiobox,
    "nisqa": Nisqa,
    "whisper": Whisper,
    "imagebind_sound": ImageBindSound,
    "imagebind_video": ImageBindVideo,
    "synchformer_sound": SynchformerSound,
    "synchformer_video": SynchformerVideo,
    "syncnet_sound": SyncNetSound,
    "syncnet_video": SyncNetVideo,
}
"""Name of the folder of its features -> judge."""


@functools.cache
def digest(weights: Path) -> str:
    """SHA-256 of a file of weights; of a folder that of its files, one after the other."""
    found = hashlib.sha256()
    imported = weights / folder.WEIGHTS_FILE
    inside = [imported] if imported.is_file() else sorted(weights.glob("*"))
    for path in inside if weights.is_dir() else [weights]:
        if path.is_file():
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    found.update(block)
    return found.hexdigest()


def origin(name: str, weights: Path) -> dict[str, str]:
    """What tells the weights of a judge from others: digests of them, and of what is read beside.

    Args:
      name: a key of `JUDGES`.
      weights: file or folder of its weights.
    """
    network = NETWORKS.get(JUDGES[name].kind)
    beside = network.read_beside(weights) if network else []
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in beside}
    return {"sha256": digest(weights), **found}


def forget() -> None:
    """Let go of all networks: the devices may be needed for something else."""
    Spread.load.cache_clear()
    of_sounds.forget()
    of_captions.forget()
