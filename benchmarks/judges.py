"""Memory, kills and devices of the networks behind metrics, on clips of noise:

python -m benchmarks.judges --workdir=DIR [--clips=2000] [--kills=3] [--judges=passt,clap]

Each network, small and with random weights, looks at a quarter of the clips, at all of them, and at
all again while it is killed; then at some by eight simulated devices and by two processes. PANNs
and VGGish have one size, which is the published. WORKDIR/weights/KIND is taken where it is there.
"""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import jax
import numpy as np
import soundfile
from absl import flags
from flax import nnx
from safetensors.numpy import save_file

from benchmarks.memory import peak_gb
from vssflow_jax import cli
from vssflow_jax.evaluate.networks import panns, vggish
from vssflow_jax.evaluate.networks.extract import extract
from vssflow_jax.evaluate.networks.judges import JUDGES
from vssflow_jax.evaluate.networks.store import Store
from vssflow_jax.networks.audiobox import AudioboxConfig
from vssflow_jax.networks.clap.network import ClapConfig
from vssflow_jax.networks.imagebind import ImageBindConfig
from vssflow_jax.networks.nisqa import NISQAConfig
from vssflow_jax.networks.passt import PaSSTConfig
from vssflow_jax.networks.published import NETWORKS
from vssflow_jax.networks.rawnet3 import ESPNET
from vssflow_jax.networks.synchformer import SynchformerConfig
from vssflow_jax.networks.synchformer_sound import SynchformerSoundConfig
from vssflow_jax.networks.syncnet import SyncNetConfig
from vssflow_jax.networks.utmos import UTMOSConfig
from vssflow_jax.parallel import distributed
from vssflow_jax.weights import folder

_TRUNK = {"width": 64, "layers": 2, "heads": 2, "inner_width": 96}
SMALL: Mapping[str, Any] = {
    "passt": PaSSTConfig(**_TRUNK),
    "clap": ClapConfig(
        width=24, depths=(1, 1, 1, 1), heads=(2, 2, 4, 4), text_layers=1, vocabulary=300
    ),
    "rawnet3": dataclasses.replace(
        ESPNET, filters=16, channels=32, joined=48, attention=8, embedding=12
    ),
    "utmos": UTMOSConfig(**_TRUNK, channels=32, embedding=8, memory=16, hidden=32),
    "nisqa": NISQAConfig(),  # which is small as published
    "audiobox": AudioboxConfig(**_TRUNK, channels=32, hidden=2),
    "imagebind": ImageBindConfig(
        vision_width=64,
        vision_layers=2,
        vision_heads=2,
        sound_width=64,
        sound_layers=2,
        sound_heads=2,
    ),
    "synchformer": SynchformerConfig(**_TRUNK),
    "synchformer_sound": SynchformerSoundConfig(**_TRUNK),
    "syncnet": SyncNetConfig(
        sound=(8, 16, 16, 16, 16, 32), picture=(8, 16, 16, 16, 16, 32), hidden=32, features=64
    ),
}
"""Kind -> small sizes; both sides of Synchformer are kinds of their own here."""
RAW = {"panns": panns.shapes, "vggish": vggish.shapes}
WITHOUT = ("whisper", "clap_text", "syncnet_video")  # tokenizers of others; faces
_SECONDS = 5.0
_SHORT = {"vggish": 1.0}  # which is of its published size
_RATE = 16_000
_VIDEOS = 8  # that differ

_WORKDIR = flags.DEFINE_string("workdir", None, "folder of everything", required=True)
_CLIPS = flags.DEFINE_integer("clips", 2000, "clips of noise")
_KILLS = flags.DEFINE_integer("kills", 3, "times that a network is killed")
_SPREAD = flags.DEFINE_integer("spread", 64, "clips for eight devices, and for two processes")
_JUDGES = flags.DEFINE_list("judges", [], "names of judges; all that can be had, by default")
_CHILD = flags.DEFINE_string("child", "", "used by this script itself: FOLDER of the features")
distributed.define_flags()


def main(argv: list[str]) -> None:
    del argv
    root = Path(_WORKDIR.value)
    if _CHILD.value:
        look(root, Path(_CHILD.value), *_JUDGES.value)
        return
    write_clips(root)
    write_weights(root / "weights")
    print("| judge | GB, a quarter | GB, all | s | after kills | 8 devices | 2 processes |")
    print("|---|---|---|---|---|---|---|")
    for name in _JUDGES.value or [x for x in JUDGES if x not in WITHOUT]:
        print(row(root, name), flush=True)


def row(root: Path, name: str) -> str:
    """A line of the table, of one judge."""
    whole, out = _CLIPS.value, root / "features" / name
    quarter = finish(start(root, name, out / "quarter", whole // 4))
    started = time.perf_counter()
    all_of_them = finish(start(root, name, out / "whole", whole))
    seconds = time.perf_counter() - started
    for kill in range(_KILLS.value):
        kill_at(root, name, out / "killed", whole * (kill + 1) // (_KILLS.value + 1))
    finish(start(root, name, out / "killed", whole))
    devices = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    finish(start(root, name, out / "devices", _SPREAD.value, devices))
    pair = [
        start(root, name, out / "processes", _SPREAD.value, environment, "--distributed")
        for environment in slurm()
    ]
    for process in pair:
        finish(process)
    whole_store = out / "whole" / name
    told = [difference(whole_store, out / how / name) for how in ("killed", "devices", "processes")]
    cells = [f"{quarter:.2f}", f"{all_of_them:.2f}", f"{seconds:.0f}", *told]
    return f"| {name} | {' | '.join(cells)} |"


# ---------------------------------------------------------------------------------------- processes
def start(
    root: Path,
    name: str,
    out: Path,
    clips: int,
    environment: Mapping[str, str] | None = None,
    *more: str,
) -> subprocess.Popen[str]:
    """This script as a process of its own that looks at clips."""
    command = [sys.executable, "-m", "benchmarks.judges", f"--workdir={root}", f"--child={out}"]
    return subprocess.Popen(
        [*command, f"--judges={name}", f"--clips={clips}", *more],
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> float:
    """The largest memory of a process in GB, when it is done."""
    printed = process.communicate()[0]
    if process.returncode:
        raise RuntimeError(f"{process.args} ended with {process.returncode}: {printed}")
    return float(printed.split()[-1])


def kill_at(root: Path, name: str, out: Path, clips: int) -> None:
    """Kill a process of many clips when it has looked at so many."""
    process, store = start(root, name, out, _CLIPS.value), Store(out / name)
    while len(store.done()) < clips and process.poll() is None:
        time.sleep(0.2)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    print(f"  {name}: killed with {len(store.done())} clips of {_CLIPS.value}", file=sys.stderr)


def slurm() -> list[dict[str, str]]:
    """What two tasks of a SLURM job find in their environment."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    job = {"SLURM_JOB_ID": f"{port}", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
    return [{**job, "SLURM_PROCID": f"{index}", "SLURM_LOCALID": f"{index}"} for index in range(2)]


def look(root: Path, out: Path, name: str) -> None:
    """Let a judge look at clips, and print the largest memory of this process in GB."""
    distributed.start_by_flags()
    kind = name if name in SMALL else JUDGES[name].kind
    kind = "synchformer" if name == "synchformer_video" else kind
    shown = JUDGES[name].shown
    paths = {f"{i:05d}": clip_path(root, shown, i) for i in range(_CLIPS.value)}
    raw = root / "weights" / f"{kind}.safetensors"
    weights = raw if kind in RAW else root / "weights" / kind
    extract(name, weights, paths, out, _SHORT.get(name, 0))
    print(peak_gb())


def difference(one: Path, other: Path) -> str:
    """How far features of the clips that both have are apart, beside the largest of them."""
    differ, largest, clips = 0.0, 0.0, Store(other).done()
    with (one / "origin.json").open() as ours, (other / "origin.json").open() as theirs:
        assert json.load(ours) == json.load(theirs)
    keys = {x.key for x in Store(other)._entries()}
    for key in keys:
        ours_of, theirs_of = Store(one).read(key), Store(other).read(key)
        for clip in clips:
            differ = max(differ, float(np.abs(ours_of[clip] - theirs_of[clip]).max()))
            largest = max(largest, float(np.abs(ours_of[clip]).max()))
    return f"{differ / largest:.1e}" if differ else f"same, {len(clips)}"


# ------------------------------------------------------------------------------------ what is shown
def clip_path(root: Path, shown: str, number: int) -> Path:
    """The file of a clip that a judge is shown."""
    if shown == "video":
        return root / "videos" / f"{number % _VIDEOS}.mp4"
    return root / "sounds" / f"{number:05d}.wav"


def write_clips(root: Path) -> None:
    """Sounds of noise, a few of them shorter, and videos of noise."""
    for shown in ("sounds", "videos"):
        (root / shown).mkdir(parents=True, exist_ok=True)
    for number in range(_CLIPS.value):
        path, rng = clip_path(root, "sound", number), np.random.default_rng(number)
        if not path.exists():
            samples = rng.normal(scale=rng.uniform(0.01, 0.2), size=int(_SECONDS * _RATE))
            soundfile.write(path, samples.clip(-1, 1), _RATE)
    for number in range(_VIDEOS):
        path = clip_path(root, "video", number)
        if not path.exists():
            write_video(path, np.random.default_rng(number))


def write_video(path: Path, rng: np.random.Generator) -> None:
    """Noise of 64 x 64, which is new every quarter of a second."""
    with av.open(f"{path}", "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(8))
        stream.width = stream.height = 64
        for number in range(int(8 * _SECONDS)):
            if number % 2 == 0:
                pixels = rng.integers(0, 256, (64, 64, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode())


def write_weights(weights: Path) -> None:
    """Random weights of each network, where there are none."""
    weights.mkdir(parents=True, exist_ok=True)
    for kind, shapes in RAW.items():
        path, rng = weights / f"{kind}.safetensors", np.random.default_rng(0)
        if not path.exists():
            save_file({name: drawn(rng, name, shape) for name, shape in shapes().items()}, path)
    for kind, cfg in SMALL.items():
        if not (weights / kind).exists():
            state = nnx.to_pure_dict(nnx.state(NETWORKS[kind].network(cfg, rngs=nnx.Rngs(0))))
            sizes = json.loads(json.dumps(dataclasses.asdict(cfg)))
            rng = np.random.default_rng(0)
            folder.save(
                weights / kind,
                kind,
                sizes,
                jax.tree.map(  # zeros would leave positions out
                    lambda x, rng=rng: (
                        np.asarray(x) + 0.02 * rng.standard_normal(x.shape, np.float32)
                    ),
                    state,
                ),
            )


def drawn(rng: np.random.Generator, name: str, shape: Sequence[int]) -> np.ndarray:
    """A weight that keeps the size of its inputs; variances and mel bands are above 0."""
    z = rng.standard_normal(shape, np.float32) / max(np.prod(shape[1:]), 1) ** 0.5
    return np.abs(z) + 0.01 if name.endswith("running_var") or "melW" in name else z


if __name__ == "__main__":
    cli.run(main)
