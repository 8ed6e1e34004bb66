"""Generating: Euler's method with guidance, without what decodes latents (see `sounds`)."""

import functools
from collections.abc import Iterator

import jax

from benchmarks.accelerator.items import Item, Row
from benchmarks.accelerator.sizes import Scale, make_experiment, random_state
from vssflow_jax.flow.sampler import Sampler
from vssflow_jax.generate.sampler import draw_start, make_generate
from vssflow_jax.plan.programs import random_batch

STEPS = (25, 10)
GUIDANCE = 3.0


def sampling(scale: Scale) -> Iterator[Item]:
    """The base model: conditions are encoded once, then two passes a step."""
    for steps in STEPS:
        for clips in scale.generated:
            measure = functools.partial(_measure, scale, steps, clips)
            yield Item(f"Euler {steps}, {clips} clips", measure)


def _measure(scale: Scale, steps: int, clips: int) -> Row:
    experiment = make_experiment(scale, "base", clips)
    generate = make_generate(experiment, Sampler("euler", steps, guidance=GUIDANCE))
    state = random_state(experiment).averaged
    features = random_batch(experiment.abstract_batch(clips))
    del features["waveform"]
    start = draw_start(experiment, 0, [f"{i}" for i in range(clips)])
    jax.block_until_ready(generate(state, features, start))
    seconds = scale.clock.seconds(lambda: generate(state, features, start), jax.block_until_ready)
    return {
        "result": f"JAX, {experiment.model.transformer.attention}, {experiment.model.dtype}",
        "ms": 1e3 * seconds,
        "clips_per_sec": clips / seconds,
        "pair": sampling_pair(steps, clips),
    }


def sampling_pair(steps: int, clips: int) -> str:
    """What rows of so many steps and clips have as `pair`."""
    return f"Euler {steps}, {clips}"
