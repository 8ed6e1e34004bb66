"""Features of a folder of sounds, written as av-benchmark writes them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
import tqdm
from numpy.typing import NDArray

from vssflow_jax.evaluate.networks import files, panns, vggish
from vssflow_jax.evaluate.networks.files import SAMPLING_RATE, Network
from vssflow_jax.parallel import distributed
from vssflow_jax.utils.errors import UserError

NETWORKS: Final[Mapping[str, Callable[[Path], Network]]] = {
    "panns": panns.load,
    "vggish": vggish.load,
}
"""Those that hear by themselves, from the file of their weights; "synchformer" compares."""


def extract(
    sounds_dir: Path, out_dir: Path, backbones: Mapping[str, Path], max_sec: float = 0
) -> dict[str, str]:
    """Write what networks make of all sounds in a folder.

    Sounds are heard one at a time, and each length of them is compiled for once.

    Args:
      sounds_dir: holds `.wav` files of one channel at `SAMPLING_RATE`, called like their clips.
      out_dir: gets a file for each network (`files`).
      backbones: name in `NETWORKS` -> the file of its weights.
      max_sec: sounds are cut to it, as av-benchmark does by `--audio_length`; 0 leaves them.

    Returns:
      Name of a file -> why nothing was made of it.

    Raises:
      UserError: a file of weights is not whole or of another network; there are no sounds, or none
        that a network can hear.
    """
    paths = sorted(sounds_dir.glob("*.wav"), key=lambda path: path.stem)
    if not paths:
        raise UserError(f"{sounds_dir} holds no .wav files")
    problems: dict[str, str] = {}
    for name, weights in backbones.items():
        network = NETWORKS[name](weights)
        clips = {}
        for path in tqdm.tqdm(paths, desc=name, unit="clip", disable=not distributed.is_main()):
            try:
                clips[path.stem] = network(read_sound(path, max_sec))
            except UserError as error:
                problems[path.name] = str(error)
        if not clips:
            raise UserError(
                f"{name} of {sounds_dir}: no sound is fit for it; {problems[paths[0].name]}"
            )
        files.write(out_dir, clips)
    return problems


def read_sound(path: Path, max_sec: float = 0) -> NDArray[np.float32]:
    """A waveform [n], its mean taken away before it is cut, as av-benchmark reads it.

    Raises:
      UserError: the file cannot be read.
    """
    try:
        waveform, _ = soundfile.read(path, dtype="float32")
    except (soundfile.SoundFileError, OSError) as error:
        raise UserError(f"{path}: cannot be read ({error}); replace the file") from error
    waveform -= waveform.mean()
    return waveform[: int(max_sec * SAMPLING_RATE)] if max_sec else waveform
