"""What low-rank adapters learn of a voice that training left out, beside all weights:

python -m benchmarks.adapters --workdir=DIR [--demo_data=DIR]

A model is trained on the demo's clips but for those of one voice, and then fine-tuned on that
voice's, by adapters and as a whole. Prints the loss of the voice's test clips before and after.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_collections
from absl import flags

from configs import demo
from data import build, shard_writer, shards
from data.demo import clips
from data.videos import Videos
from vssflow_jax import cli
from vssflow_jax.clip import ClipSpec
from vssflow_jax.features.weights_free import WEIGHTS_FREE
from vssflow_jax.train import loop, setup

_WORKDIR = flags.DEFINE_string("workdir", None, "folder of everything", required=True)
_DEMO_DATA = flags.DEFINE_string("demo_data", "", "folder of demo clips; made, if there is none")
_VOICE = flags.DEFINE_string("voice", "", "the one that is left out; by default the first")
_STEPS = flags.DEFINE_integer("steps", 900, "of the model")
_MORE = flags.DEFINE_integer("fine_tuning_steps", 100, "of each way to fine-tune")
_RANK = flags.DEFINE_integer("rank", 8, "of the adapters")

FULL_RATES = (1e-4, 4e-4)
ADAPTER_RATES = (1e-3, 4e-3)


def main(argv: list[str]) -> None:
    del argv
    root, config = Path(_WORKDIR.value), demo.get_config()
    source = Path(_DEMO_DATA.value or root / "demo")
    made = clips.make_demo_clips(source, 0, config.data.num_train, config.data.num_test, workers=2)
    rows = [json.loads(line) for line in made.read_text().splitlines()]
    voice = _VOICE.value or min(row["voice"] for row in rows if row["voice"])
    write(root / "others", source, [row for row in rows if row["voice"] != voice])
    # A third of the voice's clips are for tests: as a part of the demo's there are too few.
    of_voice = [row for row in rows if row["voice"] == voice]
    for number, row in enumerate(of_voice):
        row["split"] = "train" if number % 3 else "test"
    write(root / "voice", source, of_voice)

    base = root / "base"
    train(root / "others", base, {"train.steps": _STEPS.value, "train.held_out_every": 0})
    before = held_out(root, base, "before", 0.0, {"train.steps": 1, "train.held_out_every": 1})[-1]
    print(f"voice {voice}, loss of its test clips before: {before:.4f}")
    ways: list[tuple[str, float, dict[str, Any]]] = [
        *(("all", rate, {}) for rate in FULL_RATES),
        *(("adapters", rate, {"train.lora.rank": _RANK.value}) for rate in ADAPTER_RATES),
    ]
    for way, rate, changes in ways:
        curve = held_out(root, base, f"{way}-{rate:g}", rate, changes)
        gained = before - min(curve)
        lowest = f"lowest {min(curve):.4f}, {gained:.4f} less"
        print(f"{way}, rate {rate:g}: {lowest}; last {curve[-1]:.4f}")


def write(out: Path, source: Path, rows: list[dict[str, Any]]) -> None:
    """A dataset of some of the demo's clips."""
    contents = shard_writer.Contents(
        rows=shards.scattered(rows),
        source=Videos(source.absolute(), WEIGHTS_FREE, ClipSpec(duration_sec=clips.DURATION_SEC)),
        spec=ClipSpec(duration_sec=clips.DURATION_SEC),
        widths=WEIGHTS_FREE.widths,
        origin={"source": "adapters"},
    )
    shards.build(out, contents, build.local(contents, has_vae=False))


def held_out(
    root: Path, base: Path, name: str, rate: float, changes: Mapping[str, Any]
) -> list[float]:
    """Losses of the voice's test clips of speech while it is fine-tuned on."""
    defaults = {
        "train.init_from": str(base),
        "train.steps": _MORE.value,
        "train.learning_rate": rate,
        "train.warmup_steps": 10,
        "train.held_out_every": 10,
        "train.held_out_clips": 32,
        "data.mixture.weights": {"v2s": 0.0, "visualtts": 1.0, "tts": 0.0, "joint": 0.0},
    }
    train(root / "voice", root / name, {**defaults, **changes})
    lines = (root / name / "held_out.jsonl").read_text().splitlines()
    return [json.loads(line)["visualtts"] for line in lines]


def train(data: Path, workdir: Path, changes: Mapping[str, Any]) -> None:
    """Train the demo's model on other data, by another plan."""
    config: ml_collections.ConfigDict = demo.get_config()
    off = {"data.source": "none", "data.path": str(data), "train.sample_every": 100_000}
    config.update_from_flattened_dict({**off, **changes})
    loop.train(setup.prepare(config, workdir), workdir, ())


if __name__ == "__main__":
    cli.run(main)
