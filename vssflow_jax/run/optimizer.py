"""The optimizer and its schedule."""

import ml_collections
import optax


def schedule(train: ml_collections.ConfigDict) -> optax.Schedule:
    """Learning rate by steps done: linear warm-up, then constant or linear decay to zero."""
    peak, warmup = train.learning_rate, train.warmup_steps
    end = train.decay_steps or train.steps
    after = {
        "constant": optax.constant_schedule(peak),
        "linear": optax.linear_schedule(peak, 0.0, max(1, end - warmup)),
    }
    rise = optax.linear_schedule(0.0, peak, warmup)
    return optax.join_schedules([rise, after[train.schedule]], [warmup])


def optimizer(train: ml_collections.ConfigDict) -> optax.GradientTransformation:
    """AdamW, after clipping by global norm where that is asked for (0 means never)."""
    adamw = optax.adamw(
        schedule(train),
        b1=train.beta1,
        b2=train.beta2,
        eps=1e-8,
        weight_decay=train.weight_decay,
    )
    limit = train.grad_clip_norm
    return optax.chain(optax.clip_by_global_norm(limit), adamw) if limit else adamw
