"""Checks of a config's values, before anything is spent on them."""

import contextlib
import math
from collections.abc import Collection, Iterator
from typing import Any

import ml_collections

from vssflow_jax.audio.codec import CODECS, LATENTS
from vssflow_jax.audio.vocoder import VOCODERS
from vssflow_jax.clip import LATENT_CHANNELS
from vssflow_jax.features.phonemes import NUM_IDS
from vssflow_jax.flow.sampler import Sampler
from vssflow_jax.input_pipeline.durations import DURATIONS
from vssflow_jax.input_pipeline.mixture import Mixture
from vssflow_jax.input_pipeline.streams import STREAMS
from vssflow_jax.models import attention
from vssflow_jax.models.conditions import PLACEMENTS
from vssflow_jax.models.lora import Lora
from vssflow_jax.models.transformer import REMAT
from vssflow_jax.run import keeping, local_checkpoints, optimizer
from vssflow_jax.run.experiment import AFTER_BAD_STEPS, INITS, WEIGHTS_OF_A_RUN
from vssflow_jax.run.optimizer import OPTIMIZERS, SCHEDULES
from vssflow_jax.utils import plugins
from vssflow_jax.utils.checks import check_choice, check_within
from vssflow_jax.utils.errors import UserError

INFINITY = math.inf
BOUNDS: dict[str, tuple[float, float]] = {
    "seed": (0, 2**31 - 1),
    "data.num_train": (1, INFINITY),
    "data.num_test": (1, INFINITY),
    "data.workers": (0, INFINITY),
    "data.threads": (1, INFINITY),
    "data.batches_ahead": (1, INFINITY),
    "data.max_bad_records": (0, INFINITY),
    "data.cache_gb": (0, INFINITY),
    "model.widths.phonemes.features": (NUM_IDS, INFINITY),
    "model.transformer.layers": (1, INFINITY),
    "model.transformer.ffw_multiple": (1, INFINITY),
    "model.transformer.unroll": (0, INFINITY),
    "model.transformer.token_multiple": (0, INFINITY),
    "train.steps": (1, INFINITY),
    "train.batch_size": (1, INFINITY),
    "train.accumulation_steps": (1, INFINITY),
    "train.learning_rate": (0, INFINITY),
    "train.warmup_steps": (0, INFINITY),
    "train.decay_steps": (0, INFINITY),
    "train.cooldown": (0, 1),
    "train.beta1": (0, 1),
    "train.beta2": (0, 1),
    "train.weight_decay": (0, INFINITY),
    "train.grad_clip_norm": (0, INFINITY),
    "train.bad_step_deviations": (0, INFINITY),
    "train.max_bad_steps": (1, INFINITY),
    "train.ema_decay": (0, 1),
    "train.condition_dropout": (0, 1),
    "train.log_every": (1, INFINITY),
    "train.checkpoint_every": (1, INFINITY),
    "train.keep_checkpoints": (1, INFINITY),
    "train.keep_every": (0, INFINITY),
    "train.local_checkpoint_every": (0, INFINITY),
    "train.sample_every": (1, INFINITY),
    "train.held_out_every": (0, INFINITY),
    "train.held_out_clips": (1, INFINITY),
    "train.watchdog_minutes": (0, INFINITY),
    "train.lora.rank": (0, INFINITY),
    "eval.batch_size": (1, INFINITY),
    "eval.report_clips": (0, INFINITY),
    "eval.seed": (0, 2**31 - 1),
    "eval.every_steps": (0, INFINITY),
    "eval.every_clips": (1, INFINITY),
}


def choices() -> dict[str, Collection[Any]]:
    """Field -> its possible values, those that plugins have added too."""
    return {
        "data.durations": DURATIONS,
        "codec.kind": CODECS,
        "codec.latents": LATENTS,
        "vocoder.kind": VOCODERS,
        "model.placement": PLACEMENTS,
        "model.dtype": ("float32", "bfloat16"),
        "model.transformer.residual_dtype": ("float32", "bfloat16"),
        "model.transformer.remat": REMAT,
        "sharding.reduce_dtype": ("float32", "bfloat16"),
        "model.transformer.attention": attention.IMPLEMENTATIONS,
        "model.latent_channels": (LATENT_CHANNELS,),  # miniatures to be imported have others
        "train.init": INITS,
        "train.loss_mask": ("window", "clip"),
        "train.condition_dropout_per": ("example", "batch"),
        "data.source": ("demo", "none"),
        "train.bad_step": AFTER_BAD_STEPS,
        "train.optimizer": OPTIMIZERS,
        "train.schedule": SCHEDULES,
        "train.init_weights": WEIGHTS_OF_A_RUN,
    }


def check(config: ml_collections.ConfigDict) -> None:
    """Checks that single values are within bounds and fit each other; imports plugins first.

    Raises:
      UserError: names the first field that is not, and what it may be; or it is a config of
        something else.
    """
    with clear_misfits(config):
        plugins.load(config.plugins)
        _check(config)


@contextlib.contextmanager
def clear_misfits(config: ml_collections.ConfigDict) -> Iterator[None]:
    """Turns the lack of a field into an error that says what the config is of.

    Raises:
      UserError: a field that is asked for within is not there.
    """
    try:
        yield
    except (KeyError, AttributeError, TypeError) as error:
        commands = {"placement": "run_train.py", "encoder_layers": "run_duration.py"}
        of = [command for field, command in commands.items() if field in config.get("model", {})]
        lacking = " ".join(str(error).split())
        raise UserError(
            f"the config is of {' or '.join(of) or 'something else'}, or of another version: "
            f"{lacking}"
        ) from error


def _check(config: ml_collections.ConfigDict) -> None:
    for name, (low, high) in BOUNDS.items():
        check_within(name, _get(config, name), low, high)
    for name, possible in choices().items():
        check_choice(name, _get(config, name), possible)
    _check_conditions(config.model)
    optimizer.check(config.train)
    keeping.check(config.train)
    local_checkpoints.check(config.train)
    Sampler.from_config(config.eval.sampler)
    Mixture.from_config(config.data.mixture)
    ratios = config.train.mask_ratios
    if not all(isinstance(ratio, int | float) and 0 <= ratio <= 1 for ratio in ratios):
        raise UserError(f"train.mask_ratios are {ratios}; choose numbers from 0 to 1")
    if config.codec.latents == "offline" and config.codec.kind == "patch_dct":
        raise UserError(
            "codec.latents is 'offline', but codec 'patch_dct' is fitted to the sounds of a run; "
            "set --config.codec.latents=online"
        )
    _check_profile(config)
    _check_seeds(config.eval)
    if Lora.from_config(config.train.lora) and not config.train.init_from:
        raise UserError(
            "train.lora.rank is not 0: name a run or weights for adapters to be added to by "
            "--config.train.init_from (docs/weights.md)"
        )
    if config.train.fine_tune and not config.train.init_from:
        raise UserError(
            "train.fine_tune is True: name a run or weights to start from by "
            "--config.train.init_from (docs/weights.md)"
        )


def _check_conditions(model: ml_collections.ConfigDict) -> None:
    """Checks that conditions with channels are known, and those that are placed have channels."""
    known = ("phonemes", *STREAMS)
    for name in model.widths:
        if name not in known:
            raise UserError(
                f"model.widths has '{name}'; the conditions are {', '.join(known)}; a module that "
                "adds others is named by --config.plugins"
            )
    placement = PLACEMENTS[model.placement]
    for name in placement.concatenated + placement.attended:
        if name not in model.widths:
            raise UserError(
                f"model.placement '{model.placement}' has '{name}', of which model.widths says no "
                f'channels; add {{"{name}": {{"features": ..., "projected": ...}}}} to it'
            )


def _check_profile(config: ml_collections.ConfigDict) -> None:
    steps, last = config.profile, config.train.steps
    whole = all(isinstance(step, int) for step in steps)
    if steps and not (len(steps) == 2 and whole and 1 <= steps[0] <= steps[1] <= last):
        raise UserError(
            f"profile is {steps}; give the first and the last step to trace, such as 10,12, of the "
            f"{last} of the run"
        )


def _check_seeds(evaluation: ml_collections.ConfigDict) -> None:
    """Checks that seeds to be evaluated together are whole, differ, and need no features."""
    seeds = evaluation.seeds
    low, high = BOUNDS["eval.seed"]
    whole = all(type(seed) is int and low <= seed <= high for seed in seeds)
    if not whole or len(set(seeds)) < len(seeds):
        raise UserError(
            f"eval.seeds is {tuple(seeds)}; give different whole numbers from {low} to {high}"
        )
    others = {
        "eval.seeds": seeds,
        "eval.every_steps": evaluation.every_steps,
        "eval.sweep": any(evaluation.sweep.values()),
    }
    for name, given in others.items():
        if given and evaluation.features.generated:
            raise UserError(
                "eval.features.generated names features of one set of sounds: leave out either "
                f"these or {name}"
            )


def _get(config: ml_collections.ConfigDict, name: str) -> Any:
    value = config
    for part in name.split("."):
        value = value[part]
    return value
