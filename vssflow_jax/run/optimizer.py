"""Optimizers and schedules by name.

Weights are grouped by rule: maps (`models.parts.map_axes`), and all others, which are norms, biases
and embeddings. AdamW decays all of them, as the reference does; the others decay maps alone. Muon
is for the maps within blocks, and leaves the rest to AdamW.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import optax

from vssflow_jax.models.parts import BLOCKS, map_axes
from vssflow_jax.utils.errors import UserError

if TYPE_CHECKING:
    import ml_collections

Params = Any  # nested dicts
Schedule = Callable[["ml_collections.ConfigDict", int], optax.Schedule]

_EPSILON = 1e-8
_MUON, _REST = "muon", "rest"
# Of Jordan's Muon; and the root mean square of its updates, which is about that of AdamW's, so that
# both take the same learning rate and decay (Liu et al. 2025, arXiv 2502.16982).
_MUON_MOMENTUM = 0.95
_MUON_RMS = 0.2
# Adafactor's second moments of a map are factored if both of its sides are at least so long.
_SHORTEST_FACTORED = 32
_LARGEST_UPDATE = 1.0  # root mean square of an update of Adafactor


# ------------------------------------------------------------------------------------- optimizers
def adamw(train: "ml_collections.ConfigDict") -> optax.GradientTransformation:
    """AdamW, decaying all weights."""
    return _adamw(train, mask=None)


def _adamw(train: "ml_collections.ConfigDict", mask: Any) -> optax.GradientTransformation:
    return optax.adamw(
        make_schedule(train),
        b1=train.beta1,
        b2=train.beta2,
        eps=_EPSILON,
        weight_decay=train.weight_decay,
        mask=mask,
    )


def lion(train: "ml_collections.ConfigDict") -> optax.GradientTransformation:
    """Lion (Chen et al. 2023, arXiv 2302.06675): one moment, steps of one size."""
    return optax.lion(
        make_schedule(train),
        b1=train.beta1,
        b2=train.beta2,
        weight_decay=train.weight_decay,
        mask=_are_maps,
    )


def muon(train: "ml_collections.ConfigDict") -> optax.GradientTransformation:
    """Muon (Jordan 2024) for the maps within blocks, each of each block by itself; else AdamW."""
    hidden = optax.chain(
        optax.contrib.scale_by_muon(beta=_MUON_MOMENTUM, weight_dimension_numbers=_axes),
        optax.stateless(_of_one_size),
        optax.add_decayed_weights(train.weight_decay),
        optax.scale_by_learning_rate(make_schedule(train)),
    )
    return optax.partition({_MUON: hidden, _REST: _adamw(train, _are_maps)}, _groups)


def schedule_free_adamw(train: "ml_collections.ConfigDict") -> optax.GradientTransformation:
    """Schedule-free AdamW (Defazio et al. 2024, arXiv 2405.15682), which averages by itself.

    Weights that are trained lie between that average and those that the steps lead to.
    """
    rate = make_schedule(train)
    base = optax.chain(
        optax.scale_by_rms(train.beta2, _EPSILON, eps_in_sqrt=False, bias_correction=True),
        optax.add_decayed_weights(train.weight_decay, _are_maps),
        optax.scale_by_learning_rate(rate),
    )
    return optax.contrib.schedule_free(base, rate, b1=train.beta1)


def adafactor(train: "ml_collections.ConfigDict") -> optax.GradientTransformation:
    """Adafactor (Shazeer and Stern 2018, arXiv 1804.04235), second moments in rows and columns.

    The learning rate is that of a step, not of the size of the weights. With a `beta1` of 0 there
    is no first moment, so that next to nothing is kept.
    """
    momentum = [optax.ema(train.beta1, debias=False)] if train.beta1 else []
    return optax.chain(
        optax.scale_by_factored_rms(min_dim_size_to_factor=_SHORTEST_FACTORED),
        optax.clip_by_block_rms(_LARGEST_UPDATE),
        *momentum,
        optax.add_decayed_weights(train.weight_decay, _are_maps),
        optax.scale_by_learning_rate(make_schedule(train)),
    )


OPTIMIZERS: dict[str, Callable[["ml_collections.ConfigDict"], optax.GradientTransformation]] = {
    "adamw": adamw,
    "muon": muon,
    "lion": lion,
    "schedule_free_adamw": schedule_free_adamw,
    "adafactor": adafactor,
}
"""`train.optimizer` -> the optimizer of a `train` section, without clipping."""


def make_optimizer(train: "ml_collections.ConfigDict") -> optax.GradientTransformation:
    """One of `OPTIMIZERS`, after clipping by global norm if `train.grad_clip_norm` is not 0."""
    optimizer, limit = OPTIMIZERS[train.optimizer](train), train.grad_clip_norm
    return optax.chain(optax.clip_by_global_norm(limit), optimizer) if limit else optimizer


def _by_name(function: Callable[[str, Any], Any], params: Params) -> Params:
    """A tree like `params` of what a function makes of the names and weights."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: function(jax.tree_util.keystr(path, simple=True, separator="."), leaf),
        params,
    )


def _are_maps(params: Params) -> Params:
    return _by_name(lambda name, leaf: map_axes(name, leaf.ndim) is not None, params)


def _groups(params: Params) -> Params:
    def group(name: str, leaf: Any) -> str:
        return _MUON if name.startswith(BLOCKS) and map_axes(name, leaf.ndim) else _REST

    return _by_name(group, params)


def _axes(params: Params) -> Params:
    """Which axes of each map come in and which go out; along the others lie so many maps."""
    numbers = optax.contrib.MuonDimensionNumbers
    return _by_name(lambda name, leaf: numbers(*_map_axes(name, leaf)), params)


def _map_axes(name: str, leaf: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    found = map_axes(name, leaf.ndim)
    assert found, f"{name} is no map"
    return found


def _of_one_size(updates: Params, _: Params) -> Params:
    """Orthogonal maps, scaled to a root mean square of `_MUON_RMS` whatever their sides."""

    def scaled(name: str, leaf: jax.Array) -> jax.Array:
        longest = max(
            math.prod(leaf.shape[axis] for axis in side) for side in _map_axes(name, leaf)
        )
        return _MUON_RMS * math.sqrt(longest) * leaf

    return _by_name(scaled, updates)


# -------------------------------------------------------------------------------------- averages
AVERAGING = ("schedule_free_adamw",)
"""Optimizers whose own average of the weights takes the place of the running mean."""


def keeps_mean(train: "ml_collections.ConfigDict") -> bool:
    """Whether a mean of the weights is kept beside those that are trained."""
    return bool(train.ema_decay) or train.optimizer in AVERAGING


def own_mean(opt_state: optax.OptState, params: Params) -> Params:
    """The mean of the weights that an optimizer of `AVERAGING` has, from its state."""
    kind = optax.contrib.ScheduleFreeState
    found = jax.tree.leaves(opt_state, is_leaf=lambda part: isinstance(part, kind))
    (state,) = (part for part in found if isinstance(part, kind))
    return optax.contrib.schedule_free_eval_params(state, params)


def check(train: "ml_collections.ConfigDict") -> None:
    """Checks that an optimizer and other fields of a `train` section go together.

    Raises:
      UserError: an optimizer that averages, and another mean, a schedule that decays or a `beta1`
        that leaves nothing to average.
    """
    if train.optimizer not in AVERAGING:
        return
    for field, needed in (("ema_decay", train.ema_decay == 0), ("beta1", 0 < train.beta1 < 1)):
        if not needed:
            raise UserError(
                f"train.{field} is {train[field]}, but '{train.optimizer}' averages by itself: it "
                "takes --config.train.ema_decay=0 and a train.beta1 between 0 and 1"
            )
    if train.schedule != "constant":
        raise UserError(
            f"train.schedule is '{train.schedule}', but '{train.optimizer}' is for a rate that "
            "stays; set --config.train.schedule=constant"
        )


# -------------------------------------------------------------------------------------- schedules
def constant(train: "ml_collections.ConfigDict", end: int) -> optax.Schedule:
    """The peak, for ever."""
    return optax.constant_schedule(train.learning_rate)


def linear(train: "ml_collections.ConfigDict", end: int) -> optax.Schedule:
    """Linear decay to zero at step `end`."""
    return optax.linear_schedule(train.learning_rate, 0.0, max(1, end - train.warmup_steps))


def cosine(train: "ml_collections.ConfigDict", end: int) -> optax.Schedule:
    """Half a cosine down to zero at step `end`."""
    return optax.cosine_decay_schedule(train.learning_rate, max(1, end - train.warmup_steps))


def wsd(train: "ml_collections.ConfigDict", end: int) -> optax.Schedule:
    """The peak, and then, for a share `cooldown` of all steps, linear decay to zero at step `end`.

    Warm-up, stable, decay: Hu et al. 2024, "MiniCPM", arXiv 2404.06395.
    """
    steps = max(1, min(round(train.cooldown * end), end - train.warmup_steps))
    fall = optax.linear_schedule(train.learning_rate, 0.0, steps)
    return optax.join_schedules(
        [constant(train, end), fall], [max(0, end - steps - train.warmup_steps)]
    )


SCHEDULES: dict[str, Schedule] = {
    "constant": constant,
    "linear": linear,
    "cosine": cosine,
    "wsd": wsd,
}
"""`train.schedule` -> the learning rate after warm-up, of a `train` section and the last step."""


def make_schedule(train: "ml_collections.ConfigDict") -> optax.Schedule:
    """The learning rate by steps done: linear warm-up, then one of `SCHEDULES`."""
    after = SCHEDULES[train.schedule](train, train.decay_steps or train.steps)
    rise = optax.linear_schedule(0.0, train.learning_rate, train.warmup_steps)
    return optax.join_schedules([rise, after], [train.warmup_steps])


def ends_at_zero(train: "ml_collections.ConfigDict", end: int) -> bool:
    """Whether the learning rate is 0 from step `end` on, if that is where the schedule ends."""
    after = SCHEDULES[train.schedule](train, end)
    return float(after(max(1, end - train.warmup_steps))) == 0.0
