"""What a plan says of memory and collectives, beside what eight simulated devices do:

JAX_PLATFORMS=cpu XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m benchmarks.plan

The demo's step, its eight blocks laid out, so that the program that runs shows each of its
collectives. State is read off the arrays of one device; temporaries are the growth of the process
while a step runs, an eighth of it for each device (Linux).
"""

import re
from pathlib import Path

import jax
import ml_collections

from configs import demo
from vssflow_jax.parallel.sharding import STRATEGIES
from vssflow_jax.plan.collectives import KINDS
from vssflow_jax.plan.counting import count, count_step
from vssflow_jax.plan.memory import measure_memory
from vssflow_jax.plan.programs import Program, random_batch
from vssflow_jax.train.step import jit_train_step

CLIPS = 32
MB = 1e6
# What the demo's four heads, two key/value heads and 76 tokens divide over.
FITTING = {"sharding.mesh.tensor": 2, "model.transformer.token_multiple": 4}


def main() -> None:
    devices = jax.devices()
    print(f"jax {jax.__version__}, {len(devices)} x {devices[0].device_kind}, {CLIPS} clips")
    print("planned / measured")
    print("| strategy | state, MB | temporaries, MB | " + " | ".join(KINDS) + " |")
    for strategy in STRATEGIES:
        print(f"| `{strategy}` | {' | '.join(compare(config_for(strategy)))} |", flush=True)


def config_for(strategy: str) -> ml_collections.ConfigDict:
    config = demo.get_config()
    config.sharding.strategy = strategy
    config.train.batch_size = CLIPS
    cut = "tensor" in STRATEGIES[strategy].mesh
    config.update_from_flattened_dict(
        {name: value for name, value in FITTING.items() if cut or "tensor" not in name}
    )
    return config


def compare(config: ml_collections.ConfigDict) -> list[str]:
    """Cells of a row: what is planned of a config, and what is seen."""
    devices = jax.devices()
    program = Program.from_config(config, devices)
    memory, _ = measure_memory(program)
    planned, seen = count_step(config, devices), count(program)
    state_bytes, temporary_bytes = run(program)
    pairs = [
        ((memory.arguments - memory.batch) / MB, state_bytes / MB),
        (memory.temporaries / MB, temporary_bytes / MB),
        *((planned[f"{kind}.count"], seen[f"{kind}.count"]) for kind in KINDS),
    ]
    return [f"{plan:.3g} / {true:.3g}" for plan, true in pairs]


def run(program: Program) -> tuple[int, float]:
    """Bytes of the state on one device, and by how much a step makes the process grow for it."""
    experiment = program.experiment
    ones = jax.tree.map(lambda leaf: jax.numpy.ones(leaf.shape), experiment.codec.abstract)
    state = jax.jit(experiment.init, out_shardings=program.experiment.state_shardings)(ones)
    batch = random_batch(program.abstract_batch())
    abstract = (program.experiment.abstract_state, program.abstract_batch())
    step = jit_train_step(experiment).lower(*abstract).compile()
    jax.block_until_ready((state, batch))
    before = resident_bytes(forget_peak=True)
    state, _ = jax.block_until_ready(step(state, batch))
    grown = resident_bytes() - before
    first = jax.devices()[0]
    on_first = sum(
        shard.data.nbytes
        for leaf in jax.tree.leaves(state)
        for shard in leaf.addressable_shards
        if shard.device == first
    )
    return on_first, grown / program.devices


def resident_bytes(*, forget_peak: bool = False) -> int:
    """Peak of the process's memory since it was last forgotten."""
    if forget_peak:
        Path("/proc/self/clear_refs").write_text("5")
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return 1024 * int(found[1])


if __name__ == "__main__":
    main()
