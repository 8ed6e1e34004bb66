"""Local checkpoints of a small state, on all devices that there are:

XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m tests.local_state OUT

writes those of `STEPS` below OUT, reads the newest again, and fails if a bit is another.
"""

import sys
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from vssflow_jax.run.local_checkpoints import LocalCheckpoints

STEPS = (3, 6, 9)
_SPECS = {
    "float": P("devices"),
    "half": P(None, "devices"),
    "count": P(),
    "signed": P("devices"),
    "unsigned": P(),
}


def section(folder: Path, every: int = 3) -> ml_collections.ConfigDict:
    """The fields of a `train` section."""
    fields = {"local_checkpoints": str(folder), "local_checkpoint_every": every}
    return ml_collections.ConfigDict(fields)


def state_at(step: int) -> dict[str, Any]:
    """A state of leaves of all kinds, in parts on all devices or whole on each."""
    rng = np.random.default_rng(step)
    arrays = {
        "float": rng.normal(size=(16, 7)).astype(np.float32),
        "half": rng.normal(size=(3, 24)).astype(jax.numpy.bfloat16),
        "count": np.int32(step),
        "signed": rng.integers(-(2**31), 2**31, (8,), np.int32),
        "unsigned": rng.integers(0, 2**32, (2, 5), np.uint32),
    }
    arrays["float"][0] = np.nan, np.inf, -np.inf, -0.0, 1e-45, 1.0, 2.0
    mesh = Mesh(np.array(jax.devices()), ("devices",))
    return {
        name: jax.device_put(array, NamedSharding(mesh, _SPECS[name]))
        for name, array in arrays.items()
    }


def abstract() -> dict[str, Any]:
    """Shapes, dtypes and shardings of the state."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state_at(0)
    )


def write(folder: Path, workdir: Path) -> None:
    """Write those of all `STEPS`."""
    with LocalCheckpoints(section(folder), workdir) as local:
        for step in STEPS:
            local.save(step, state_at(step), {"at": step})


def assert_is(found: Any, step: int) -> None:
    """Check that a found checkpoint is that of a step, bit for bit, and placed alike."""
    assert found is not None
    number, (state, progress) = found
    assert (number, progress) == (step, {"at": step})
    for name, expected in state_at(step).items():
        array = state[name]
        assert (array.dtype, array.sharding) == (expected.dtype, expected.sharding), name
        assert np.asarray(array).tobytes() == np.asarray(expected).tobytes(), name


def main(out: Path) -> None:
    write(out / "local", out)
    with LocalCheckpoints(section(out / "local"), out) as local:
        assert_is(local.resume(abstract(), 0), STEPS[-1])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
