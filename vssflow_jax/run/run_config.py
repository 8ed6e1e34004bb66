"""The config of a run: kept in its folder as `config.json`, and what may differ from it later.

Whoever has the folder of a run needs no other config to train it longer, to evaluate it or to
export it: entry points take the one in the folder (`vssflow_jax.cli`), which is given to
ml_collections as `--config=vssflow_jax/run/run_config.py:RUN`.
"""

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import ml_collections
from flax.traverse_util import flatten_dict

from vssflow_jax.models.vssflow import COMPUTED_ALIKE
from vssflow_jax.parallel import distributed
from vssflow_jax.run.optimizer import ends_at_zero
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import as_path, write_atomically

CONFIG = "config.json"
"""The name of the file in the folder of a run."""
CHECKPOINTS = "checkpoints"
"""The folder of a run's checkpoints, a folder a step."""

# Fields that configs of earlier versions lack, with what they did: those of any network, and those
# of VSSFlow's.
_ADDED_TO_ALL: dict[str, Any] = {
    "sharding": {
        "mesh": {"slices": 0},
        "weights_across_slices": False,
        "reduce_dtype": "bfloat16",
    }
}
_ADDED: dict[str, Any] = {
    "plugins": "",
    "data": {
        "weights": "",
        "cache_dir": "",
        "cache_gb": 64.0,
        "mixture": {"speech_sources": ()},
    },
    "train": {
        "init_weights": "ema",
        "init": "fan_in",
        "optimizer": "adamw",
        "cooldown": 0.1,
        "bad_step": "stop",
        "bad_step_deviations": 0.0,
        "max_bad_steps": 10,
        "lora": {
            "rank": 0,
            "alpha": 16.0,
            "targets": ("self_attention", "cross_attention", "ffw"),
            "path": "",
        },
        "held_out_every": 0,
        "held_out_clips": 16,
        "writers": ("tensorboard",),
        "watchdog_minutes": 30.0,
        "keep_every": 0,
        "keep_best": "",
        "compiled_step": "",
        "local_checkpoints": "",
        "local_checkpoint_every": 0,
    },
    "model": {"transformer": {"residual_dtype": "bfloat16", "qk_norm": False}},
    "eval": {
        "lists": "kaldi",
        "seeds": (),
        "weights": "",
        "backbones": dict.fromkeys(
            (
                *("imagebind", "passt", "clap", "syncnet", "rawnet3", "utmos", "audiobox"),
                *("nisqa", "whisper"),
            ),
            "",
        ),
    },
}

# Fields that configs of earlier versions have, with what they are called now.
_RENAMED = {
    "clip.clip_rate": "visual_rate",
    "clip.synch_rate": "sync_rate",
    "model.widths.clip": "visual",
    "model.widths.synch": "sync",
}

_HOW_COMPUTED = tuple(f"model.{name}" for name in COMPUTED_ALIKE)
NOT_OF_THE_STEP = (
    "train.steps",
    "train.log_every",
    "train.checkpoint_every",
    "train.keep_checkpoints",
    "train.keep_every",
    "train.keep_best",
    "train.local_checkpoints",
    "train.local_checkpoint_every",
    "train.sample_every",
    "train.held_out_every",
    "train.held_out_clips",
    "train.writers",
    "train.watchdog_minutes",
    "train.bad_step",
    "train.max_bad_steps",
    "train.init_from",
    "train.init_weights",
    "train.init",
    "train.lora.path",
    "train.fine_tune",
    "train.compiled_step",
)
"""Fields of training that the compiled step does not depend on; a resumed run may change them."""
# What else it may change: how long it goes on, where it runs and reads, and how it computes the
# same.
RESUMABLE = (
    *NOT_OF_THE_STEP,
    "plugins",
    "profile",
    "train.decay_steps",
    "train.bad_step_deviations",
    "data.path",
    "data.durations_path",
    "data.workers",
    "data.threads",
    "data.batches_ahead",
    "data.max_bad_records",
    "data.cache_dir",
    "data.cache_gb",
    "codec.path",
    *_HOW_COMPUTED,
)
RESUMABLE_SECTIONS = ("eval.", "sharding.", "vocoder.")
# What may differ where a trained model is used: what it is used on, and how it is computed.
USABLE = ("plugins", "profile", "codec.path", "model.dtype", *_HOW_COMPUTED)
USABLE_SECTIONS = ("data", "eval", "sharding", "vocoder")
# What makes a model another one; the rest of a config is of its training.
_OF_THE_MODEL = ("model.", "clip.", "codec.kind")


def get_config(run: str) -> ml_collections.ConfigDict:
    """The config of the run in a folder, as ml_collections asks a config file for it.

    A schedule that ends with the run, or before it did, ends anew with what is made of the config.

    Raises:
      UserError: there is none, or it is damaged.
    """
    config = read(as_path(run))
    if config.train.get("decay_steps", math.inf) <= config.train.steps:
        config.train.decay_steps = 0
    return config


def run_and_step(checkpoint: Path) -> tuple[Path, int | None]:
    """The run, and the step if one is named, of RUN, RUN/config.json or RUN/checkpoints/STEP."""
    path = checkpoint.absolute()
    if path.name == CONFIG:
        return path.parent, None
    if path.parent.name == CHECKPOINTS and path.name.isdigit():
        return path.parent.parent, int(path.name)
    return path, None


def exists(run: Path) -> bool:
    """Whether a folder is that of a run."""
    return (run / CONFIG).is_file()


def read(run: Path) -> ml_collections.ConfigDict:
    """The config of the run in a folder.

    Raises:
      UserError: there is none, or it is damaged.
    """
    path = run / CONFIG
    if not path.is_file():
        raise UserError(f"no run in {run}: it has no {CONFIG}; train first")
    try:
        values = of_today(json.loads(path.read_text(encoding="utf-8")))
        return ml_collections.ConfigDict(_with_tuples(values))
    except (ValueError, TypeError, KeyError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"{path} is not the config of a run ({reason}); get it again") from error


def of_today(values: dict[str, Any]) -> dict[str, Any]:
    """The JSON values of a config of this version or an earlier one, as this one has them.

    Raises:
      KeyError, TypeError: they are no config.
    """
    renamed = _completed(_renamed(values), _ADDED_TO_ALL)
    return _completed(renamed, _ADDED) if "placement" in renamed["model"] else renamed


def write(workdir: Path, config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Write the config into the folder of its run, which is made if need be.

    Returns:
      the config as JSON values.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    resolved = resolved_values(config)
    if distributed.is_main():
        write_atomically(workdir / CONFIG, json.dumps(resolved, indent=2) + "\n")
    return resolved


def resolved_values(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """The config as JSON values, references resolved."""
    return json.loads(config.copy_and_resolve_references().to_json_best_effort())


# ------------------------------------------------------------------------------------- to train on
def for_training(workdir: Path, config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """The config to train by in a workdir, its schedule's end resolved.

    `train.decay_steps` of 0 stands for the number of steps that the run was first started with, so
    that a run which is trained longer keeps its schedule.

    Raises:
      UserError: the workdir holds another config's run, or the schedule of a new run ends before
        the run does.
    """
    check_resumable(workdir, config)
    resumed = exists(workdir)
    first = read(workdir).train if resumed else config.train
    end = config.train.decay_steps or first.decay_steps or first.steps
    if config.train.steps > end and not resumed and ends_at_zero(config.train, end):
        raise UserError(
            f"train.steps is {config.train.steps}, but the learning rate is 0 from step {end} on; "
            "leave out train.decay_steps or raise it"
        )
    return with_schedule_end(config, end)


def with_schedule_end(config: ml_collections.ConfigDict, end: int = 0) -> ml_collections.ConfigDict:
    """A copy whose schedule ends at a step; 0: where it says, or where a new run of it does."""
    resolved = config.copy_and_resolve_references()
    resolved.train.decay_steps = end or config.train.decay_steps or config.train.steps
    return resolved


def check_resumable(workdir: Path, config: ml_collections.ConfigDict) -> None:
    """Check that a workdir is new or holds a run that a config can go on with.

    Raises:
      UserError: it holds another config's run; `RESUMABLE` fields may differ.
    """
    if not exists(workdir):
        return
    for name, (there, here) in _differences(read(workdir), config).items():
        if name not in RESUMABLE and not name.startswith(RESUMABLE_SECTIONS):
            raise UserError(
                f"workdir {workdir} holds a run of another config: {name} is {there} there and "
                f"{here} here; choose another --workdir or the earlier value, or leave out "
                "--config to go on with the run's own"
            )


# ------------------------------------------------------------------------------------------ to use
def for_use(
    run: Path,
    given: ml_collections.ConfigDict | None = None,
    overrides: Collection[str] = (),
) -> ml_collections.ConfigDict:
    """The config to evaluate a run or to generate with it by: the run's own, with changes.

    Args:
      run: its folder.
      given: a config to take what is `USABLE` from; the run's own, if None.
      overrides: dotted names of the fields of `given` that were set one by one.

    Raises:
      UserError: no run, a config of another model, or a field that was set but may not differ.
    """
    config = read(run)
    if given is None:
        return config
    for name, (there, here) in _differences(config, given).items():
        if name in USABLE or name.startswith(tuple(f"{section}." for section in USABLE_SECTIONS)):
            continue
        if any(_holds(field, name) for field in overrides):
            sections = ", ".join(f"{section}.*" for section in USABLE_SECTIONS)
            raise UserError(
                f"--config.{name}={here}: the run in {run} was trained with {there}; only "
                f"{sections}, {', '.join(USABLE)} may differ"
            )
        if name.startswith(_OF_THE_MODEL):
            raise UserError(
                f"--config is of another model than the run in {run}: {name} is {there} there and "
                f"{here} here; leave out --config"
            )
    given = given.copy_and_resolve_references()
    for section in USABLE_SECTIONS:
        if section in given:  # Taken whole: a mapping that was given may have fewer keys.
            config[section] = given[section]
    values = flatten_dict(given.to_dict(), sep=".")
    config.update_from_flattened_dict({name: values[name] for name in USABLE if name in values})
    return config


def _holds(field: str, name: str) -> bool:
    """Whether a field that was set, as "train.mask_ratios[0]" or "train", is `name` or holds it."""
    return f"{name}.".startswith(f"{field.partition('[')[0]}.")


def _differences(
    earlier: ml_collections.ConfigDict, now: ml_collections.ConfigDict
) -> dict[str, tuple[Any, Any]]:
    """Values of both, by the dotted names of the fields in which they differ."""
    before, after = _flat(earlier), _flat(now)
    return {
        name: (before.get(name, "absent"), after.get(name, "absent"))
        for name in sorted(before | after)
        if before.get(name) != after.get(name)
    }


def _flat(config: ml_collections.ConfigDict) -> dict[str, Any]:
    return flatten_dict(resolved_values(config), sep=".")


def _renamed(values: Any, section: str = "") -> Any:
    """Nested values of a section, by the names of today."""
    if not isinstance(values, Mapping):
        return values
    return {
        _RENAMED.get(f"{section}{name}", name): _renamed(value, f"{section}{name}.")
        for name, value in values.items()
    }


def _completed(values: dict[str, Any], added: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values, with those that are added for names that they lack."""
    if not isinstance(values, Mapping):
        raise TypeError(f"{values!r} where a section is to be")
    parts = {
        name: _completed(values.get(name, {}), value) if isinstance(value, Mapping) else value
        for name, value in added.items()
        if name not in values or isinstance(value, Mapping)
    }
    return values | parts


def _with_tuples(values: Any) -> Any:
    """JSON values with tuples for lists, as configs have them."""
    if isinstance(values, Mapping):
        return {name: _with_tuples(value) for name, value in values.items()}
    return tuple(map(_with_tuples, values)) if isinstance(values, list) else values
