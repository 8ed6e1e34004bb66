"""The optimizer and its schedule against `adamw_small.npz`."""

from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
import optax

from configs import vssflow
from tests.parity.golden import OPTIMIZER, Golden, Row
from vssflow_jax.run.optimizer import make_optimizer, make_schedule


def check(golden: Golden) -> Iterator[Row]:
    """A row for the parameters after, and the learning rate in, each step of the paper's recipe."""
    config = vssflow.get_config().train
    config.learning_rate = float(golden["in/lr"])
    config.warmup_steps = int(golden["in/warmup_steps"])
    rates = [make_schedule(config)(step) for step in range(len(golden["in/grads"]))]
    yield golden.row("out/lr", rates, OPTIMIZER)

    adamw = make_optimizer(config)
    params = jnp.asarray(golden["in/p0"])
    state = adamw.init(params)
    history = []
    for gradient in golden["in/grads"]:
        updates, state = adamw.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        history.append(params)
    yield golden.row("out/params", np.stack(history), OPTIMIZER)
