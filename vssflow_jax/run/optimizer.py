"""Optimizers and schedules by name."""

from collections.abc import Callable

import ml_collections
import optax


def adamw(train: ml_collections.ConfigDict) -> optax.GradientTransformation:
    """AdamW by the `train` section of a config."""
    return optax.adamw(
        make_schedule(train),
        b1=train.beta1,
        b2=train.beta2,
        eps=1e-8,
        weight_decay=train.weight_decay,
    )


def constant(train: ml_collections.ConfigDict, end: int) -> optax.Schedule:
    """The peak, for ever."""
    return optax.constant_schedule(train.learning_rate)


def linear(train: ml_collections.ConfigDict, end: int) -> optax.Schedule:
    """Linear decay to zero at step `end`."""
    return optax.linear_schedule(train.learning_rate, 0.0, max(1, end - train.warmup_steps))


OPTIMIZERS: dict[str, Callable[[ml_collections.ConfigDict], optax.GradientTransformation]] = {
    "adamw": adamw
}
"""`train.optimizer` -> the optimizer of a `train` section, without clipping."""
SCHEDULES: dict[str, Callable[[ml_collections.ConfigDict, int], optax.Schedule]] = {
    "constant": constant,
    "linear": linear,
}
"""`train.schedule` -> the learning rate after warm-up, of a `train` section and the last step."""


def make_schedule(train: ml_collections.ConfigDict) -> optax.Schedule:
    """The learning rate by steps done: linear warm-up, then one of `SCHEDULES`."""
    after = SCHEDULES[train.schedule](train, train.decay_steps or train.steps)
    rise = optax.linear_schedule(0.0, train.learning_rate, train.warmup_steps)
    return optax.join_schedules([rise, after], [train.warmup_steps])


def make_optimizer(train: ml_collections.ConfigDict) -> optax.GradientTransformation:
    """One of `OPTIMIZERS`, after clipping by global norm if `train.grad_clip_norm` is not 0."""
    optimizer, limit = OPTIMIZERS[train.optimizer](train), train.grad_clip_norm
    return optax.chain(optax.clip_by_global_norm(limit), optimizer) if limit else optimizer
