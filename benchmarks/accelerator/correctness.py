"""Whether the device computes what the CPU does in float32: a step's gradient, and the sampler."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import optax

from benchmarks.accelerator.items import WRONG, Item, Row
from benchmarks.accelerator.sizes import QUICK, Scale, kernels, make_experiment
from vssflow_jax.flow.sampler import Sampler
from vssflow_jax.generate.sampler import draw_start, make_generate
from vssflow_jax.plan.programs import random_batch
from vssflow_jax.run.experiment import Experiment, TrainState
from vssflow_jax.train.step import jit_train_step, latents

_CLIPS = 2
_LIMITS = {"float32": 1e-3, "bfloat16": 5e-2}
"""Dtype -> the largest norm of a difference that passes, beside that of what is right."""
_SAMPLER = Sampler("euler", 10, guidance=3.0)
_PADDED = 128


def correctness(scale: Scale) -> Iterator[Item]:
    """A small model, in both dtypes, by each kernel, padded; and the way from sound to latents."""
    del scale  # A small model shows it.

    @functools.cache
    def right(of: str) -> np.ndarray:
        return _computed(of, jax.devices("cpu")[0])

    for kernel in kernels(jax.devices()[0].platform):
        for dtype in _LIMITS if kernel == "xla" else ("bfloat16",):
            how = {"dtype": dtype, "attention": kernel, "token_multiple": _PADDED}
            for of in ("gradient", "generated latents"):
                yield Item(f"{of}, {dtype}, {kernel}", functools.partial(_compare, of, how, right))
    how = {"dtype": "float32", "remat": "full", "unroll": 2}
    yield Item("gradient, remat=full", functools.partial(_compare, "gradient", how, right))
    yield Item("latents", functools.partial(_compare, "latents", {"dtype": "float32"}, right))


def _compare(of: str, how: dict[str, Any], right: Callable[[str], np.ndarray]) -> Row:
    limit = _LIMITS[how["dtype"]]
    with _exact() if how["dtype"] == "float32" else contextlib.nullcontext():
        found = _computed(of, jax.devices()[0], **how)
    expected = right(of)
    error = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
    told = "right" if error <= limit else WRONG  # NaN never passes.
    return {"result": f"{told}: {error:.1e} of {limit:.0e}", "error": error}


def _exact() -> Any:
    """Products of float32 in float32, which TPUs and GPUs do not do by themselves."""
    return jax.default_matmul_precision("highest")


def _computed(of: str, device: jax.Device, **how: Any) -> np.ndarray:
    compute, latents = _COMPUTED[of]
    plain = {"dtype": "float32", "attention": "xla", "token_multiple": 1, "latents": latents}
    return compute(make_experiment(QUICK, "base", _CLIPS, device=device, **{**plain, **how}))


def _state(experiment: Experiment) -> TrainState:
    """A first state, the same on any device, in which no weight is zero."""
    rng = np.random.default_rng(0)

    def draw(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        fan_in = max(leaf.shape[:-1], default=4)
        return rng.standard_normal(leaf.shape, np.float32) / np.sqrt(fan_in)

    abstract = experiment.abstract_state
    state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), abstract)
    drawn = {
        name: jax.tree.map(draw, getattr(abstract, name)) for name in ("params", "frozen", "codec")
    }
    return jax.device_put(dataclasses.replace(state, **drawn), experiment.state_shardings)


def _gradient(experiment: Experiment) -> np.ndarray:
    batch = random_batch(experiment.abstract_batch(_CLIPS, "offline"))
    state, _ = jit_train_step(experiment)(_state(experiment), batch)
    return _flat(optax.tree_utils.tree_get(state.opt_state, "mu"))  # of the first step alone


def _generated(experiment: Experiment) -> np.ndarray:
    features = random_batch(experiment.abstract_batch(_CLIPS, "offline"))
    del features["posterior"]
    start = draw_start(experiment, 0, [f"{i}" for i in range(_CLIPS)])
    start = jax.device_put(start, experiment.mesh_rules.batch)
    generate = make_generate(experiment, _SAMPLER)
    return _flat(generate(_state(experiment).averaged, features, start))


def _latents(experiment: Experiment) -> np.ndarray:
    batch = random_batch(experiment.abstract_batch(_CLIPS))
    spec, channels = experiment.spec, experiment.model.latent_channels
    noise = jax.device_put(
        np.zeros((_CLIPS, spec.latent_frames, channels), np.float32), experiment.mesh_rules.batch
    )
    encode = jax.jit(functools.partial(latents, experiment))
    return _flat(encode(_state(experiment).codec, batch, noise))


def _flat(tree: Any) -> np.ndarray:
    return np.concatenate(
        [np.ravel(np.asarray(leaf, np.float32)) for leaf in jax.tree.leaves(tree)]
    )


_COMPUTED = {
    "gradient": (_gradient, "offline"),
    "generated latents": (_generated, "offline"),
    "latents": (_latents, "online"),  # of sounds
}
