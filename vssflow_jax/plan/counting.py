"""True totals of a step: XLA's analysis counts the body of a loop once, however often it runs.

So the step is compiled without loops for two blocks and for three, and for one round of gradient
accumulation and for two. Each block and each round beyond adds the same as the one before:

    f(l, k) = f(2, 1) + (l - 2) df/dl + (k - 1) df/dk + (l - 2) (k - 1) d2f/dldk

One block alone would be a bad start: the compiler may choose other collectives for it.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence

import jax
import ml_collections

from vssflow_jax.models.transformer import KEEP_ALL
from vssflow_jax.models.vssflow import ModelConfig
from vssflow_jax.parallel.sharding import make_mesh_rules
from vssflow_jax.plan.collectives import KINDS, find_collectives
from vssflow_jax.plan.programs import Program, changed

FLOPS, BYTES, COMPILER_SEC = "flops", "bytes_accessed", "compiler_sec"

# What goes before the kind of a collective between slices.
BETWEEN_SLICES = "between_slices."

# Quantities that add up, by name: the three above, and of each kind of collective `<kind>.count`,
# `<kind>.payload_bytes` and `<kind>.wire_bytes`, those between slices after `BETWEEN_SLICES`. All
# are of one device and one step.
Totals = Mapping[str, float]


def count_step(config: ml_collections.ConfigDict, devices: Sequence[jax.Device]) -> Totals:
    """Totals of one step of a config, which is not compiled whole.

    Raises:
      UserError: what `Experiment` raises.
      TooLarge: three blocks alone do not fit the devices' memory.
    """
    rounds = config.train.accumulation_steps
    clips = config.train.batch_size // rounds
    # What a loop keeps for the backward pass the compiler would else compute again as it likes.
    mesh_rules = make_mesh_rules(config.sharding, devices)
    chosen = ModelConfig.from_config(config.model).fitted(mesh_rules).transformer
    remat = chosen.remat if chosen.laid_out or chosen.remat != "none" else KEEP_ALL

    def totals(layers: int, rounds: int) -> Totals:
        part = changed(
            config,
            model__transformer__layers=layers,
            model__transformer__unroll=layers,
            model__transformer__remat=remat,
            train__accumulation_steps=rounds,
            train__batch_size=rounds * clips,
        )
        return count(Program.from_config(part, devices))

    return extrapolate(totals, config.model.transformer.layers, rounds)


def extrapolate(totals: Callable[[int, int], Totals], layers: int, rounds: int) -> Totals:
    """f(layers, rounds) from f at two and three layers, and at one and two rounds."""
    return _line(
        lambda some_layers: _line(
            lambda some_rounds: totals(some_layers, some_rounds), rounds, first=1
        ),
        layers,
        first=2,
    )


def _line(at: Callable[[int], Totals], n: int, *, first: int) -> Totals:
    """The value at n, if it is larger by a line through those at `first` and the number after."""
    if n <= first + 1:
        return at(n)
    start, after = at(first), at(first + 1)
    return {name: start[name] + (n - first) * (after[name] - start[name]) for name in start}


def count(program: Program) -> Totals:
    """Totals of a step that has no loops."""
    compiled = program.compile(counting=True)
    costs, text = compiled.cost_analysis(), compiled.as_text()
    assert costs
    assert text
    totals = {FLOPS: costs["flops"], BYTES: costs["bytes accessed"]}
    if costs.get("optimal_seconds", 0) > 0:  # Of programs for several slices it is below.
        totals[COMPILER_SEC] = costs["optimal_seconds"]
    found = find_collectives(text, program.devices_of_slice)
    for kind, between in itertools.product(KINDS, (False, True)):
        some = [one for one in found if one.kind == kind and one.between_slices == between]
        name = BETWEEN_SLICES * between + kind
        totals[f"{name}.count"] = len(some)
        totals[f"{name}.payload_bytes"] = sum(one.payload_bytes for one in some)
        totals[f"{name}.wire_bytes"] = sum(one.wire_bytes for one in some)
    return totals
