"""Features of the small networks by a process that simulates eight devices:

XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m tests.networks.eight_devices OUT.npz

OUT gets, for each network, `KIND/alone` of one device and `KIND/spread` of a batch in eight parts.
"""

import sys

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tests.networks import small

EXAMPLES = 16


def main(out: str) -> None:
    mesh = Mesh(np.array(jax.devices()), ("data",))
    found = {}
    for kind in small.CASES:
        definition, state = nnx.split(small.network(kind))
        inputs = small.examples(kind, EXAMPLES)
        apply = jax.jit(
            lambda state, x, definition=definition: small.joined(nnx.merge(definition, state)(x))
        )
        found[f"{kind}/alone"] = apply(state, inputs)
        spread = apply(
            jax.device_put(state, NamedSharding(mesh, PartitionSpec())),
            jax.device_put(inputs, NamedSharding(mesh, PartitionSpec("data"))),
        )
        assert len(spread.sharding.device_set) == 8
        assert {shard.data.shape[0] for shard in spread.addressable_shards} == {EXAMPLES // 8}
        found[f"{kind}/spread"] = spread
    np.savez(out, **jax.device_get(found))


if __name__ == "__main__":
    main(sys.argv[1])
