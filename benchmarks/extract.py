"""Seconds a clip of each part of extraction by the paper's networks, at full width:

python -m benchmarks.extract --workdir=DIR --demo_data=DIR [--clips=8]

The weights are random, written to WORKDIR/weights, where `data.build --weights` finds them too.
"""

import dataclasses
import json
import time
from pathlib import Path

import jax
import numpy as np
from absl import flags
from flax import nnx

from data.videos import Videos
from vssflow_jax import cli
from vssflow_jax.clip import ClipSpec
from vssflow_jax.features import frozen
from vssflow_jax.features.encoders import choose
from vssflow_jax.features.footage import Network
from vssflow_jax.networks.published import NETWORKS
from vssflow_jax.weights import folder

_WORKDIR = flags.DEFINE_string("workdir", None, "folder of everything", required=True)
_DEMO_DATA = flags.DEFINE_string("demo_data", None, "folder of demo clips", required=True)
_CLIPS = flags.DEFINE_integer("clips", 8, "test clips that are looked at")
_DTYPE = flags.DEFINE_enum("dtype", "float32", frozen.DTYPES, "that networks compute in")


def main(argv: list[str]) -> None:
    del argv
    source, weights = Path(_DEMO_DATA.value), Path(_WORKDIR.value, "weights")
    write_weights(weights)
    lines = (source / "manifest.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["split"] == "test"][: _CLIPS.value]
    chosen = choose("", "", "", (), str(weights), _DTYPE.value)
    videos = Videos(source.absolute(), chosen, ClipSpec(duration_sec=3.0))
    started = time.perf_counter()
    clips = [videos.prepare(row) for row in rows]
    report("decode, resize, cut out mouths, read sound", started)
    for name, encoder in chosen.by_stream.items():
        assert isinstance(encoder, Network)
        examples = [clip[name] for clip in clips]
        encoder.features(examples, videos.spec)  # compiles
        started = time.perf_counter()
        found = encoder.features(examples, videos.spec)
        report(type(encoder).__name__, started)
        if _DTYPE.value != "float32":
            exact = dataclasses.replace(encoder, dtype="float32").features(examples, videos.spec)
            change = np.linalg.norm(np.concatenate(found) - np.concatenate(exact))
            print(f"  changed by {change / np.linalg.norm(np.concatenate(exact)):.2%}")


def report(part: str, started: float) -> None:
    print(f"{part}: {(time.perf_counter() - started) / _CLIPS.value:.3f} s a clip")


def write_weights(weights: Path) -> None:
    """Random weights of each network in its published size, where there are none."""
    for kind in (encoder.kind for encoder in frozen.ENCODERS.values()):
        if (weights / kind).exists():
            continue
        cfg = NETWORKS[kind].config()
        state = nnx.state(NETWORKS[kind].network(cfg, rngs=nnx.Rngs(0)))
        rng = np.random.default_rng(0)
        drawn = jax.tree.map(  # zeros would leave classes and positions out
            lambda x, rng=rng: np.asarray(x) + 0.02 * rng.standard_normal(x.shape, np.float32),
            nnx.to_pure_dict(state),
        )
        sizes = json.loads(json.dumps(dataclasses.asdict(cfg)))
        folder.save(weights / kind, kind, sizes, drawn)


if __name__ == "__main__":
    cli.run(main)
