"""Make a dataset: `python -m data.build --out=DIR`, or `ensure` from an entry point."""

import json
from pathlib import Path

import joblib
import ml_collections
from absl import flags

from data import builder
from data.features import WEIGHTS_FREE
from vssflow_jax import cli, dataset
from vssflow_jax.clip import ClipSpec
from vssflow_jax.errors import UserError


def ensure(config: ml_collections.ConfigDict, spec: ClipSpec) -> None:
    """Make the dataset that `config` (a `data` section) describes, unless it is there.

    Raises:
      UserError: it cannot be made, or the folder holds the demo set of other settings.
    """
    path = Path(config.path)
    if config.source == "none" or dataset.exists(path):
        if config.source == "demo":
            _check_origin(path, _origin(config))
        return
    make_demo(config, spec)


def make_demo(config: ml_collections.ConfigDict, spec: ClipSpec) -> None:
    """Draw and speak the demo clips, extract their features, write the shards."""
    # Imported here: it needs the demo extra, which training on other data does not.
    from data.demo import clips

    if spec.duration_sec != clips.DURATION_SEC:
        raise UserError(
            f"clip.duration_sec is {spec.duration_sec}; demo clips last {clips.DURATION_SEC} s"
        )
    root = Path(config.path)
    workers = joblib.cpu_count()
    manifest = clips.make_demo_clips(root, config.seed, config.num_train, config.num_test, workers)
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    builder.build(root, rows, WEIGHTS_FREE, spec, _origin(config), workers)


def _origin(config: ml_collections.ConfigDict) -> dict[str, int | str]:
    names = ("source", "seed", "num_train", "num_test")
    return {name: config[name] for name in names} | {"encoders": repr(WEIGHTS_FREE)}


def _check_origin(path: Path, wanted: dict[str, int | str]) -> None:
    metadata = path / dataset.NAME / dataset.SCHEMA_VERSION / "metadata.json"
    if not metadata.exists():
        return  # Another schema version, which opening the dataset reports.
    origin = json.loads(metadata.read_text()).get("origin", {})
    different = [name for name, value in wanted.items() if origin.get(name) != value]
    if origin.get("source") == "demo" and different:
        name = different[0]
        raise UserError(
            f"dataset {path}: made with {name}={origin.get(name)}, the config says "
            f"{wanted[name]}; name another --config.data.path or delete the folder"
        )


def main(argv: list[str]) -> None:
    del argv
    # Imported here: it needs the demo extra, which `ensure` does without where data is there.
    from data.demo import clips

    values = flags.FLAGS
    config = ml_collections.ConfigDict(
        {
            "source": "demo",
            "path": values.out,
            "seed": values.seed,
            "num_train": values.num_train,
            "num_test": values.num_test,
        }
    )
    ensure(config, ClipSpec(duration_sec=clips.DURATION_SEC))


if __name__ == "__main__":
    # Defined here, so that they are no flags of the entry points that import this module.
    flags.DEFINE_string("out", "runs/demo-data", "folder of the dataset")
    flags.DEFINE_integer("seed", 0, "seed of the demo clips")
    flags.DEFINE_integer("num_train", 600, "training clips")
    flags.DEFINE_integer("num_test", 60, "test clips")
    cli.run(main)
