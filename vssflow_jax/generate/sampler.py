"""Conditions in, sound out: the sampler and the decoder as one jitted function.

The noise of a clip depends on the seed and the clip's name alone, so that a clip sounds the same in
any batch, in any order, on any number of devices.
"""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from vssflow_jax.flow.guidance import guided
from vssflow_jax.flow.sampler import Sampler
from vssflow_jax.generate.windows import Windows
from vssflow_jax.input_pipeline.streams import maskable
from vssflow_jax.run.experiment import Batch, Experiment, InferenceState


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Start:
    """What is drawn for generated clips before anything is computed.

    Attributes:
      noise: x_0 [b, t, c].
      frame_masks: for each maskable condition, 1 where a frame is seen, else 0; [b, t].
    """

    noise: jax.Array
    frame_masks: dict[str, jax.Array]


Generate = Callable[[InferenceState, Batch, Start], jax.Array]


def draw_start(
    experiment: Experiment, seed: int, clip_ids: Sequence[str], mask_ratio: float = 0.0
) -> Start:
    """What each clip starts from, with `mask_ratio` of its lip and motion frames hidden."""
    key = jax.random.key(seed)
    names = jnp.array(
        [zlib.crc32(clip_id.encode("utf-8", "surrogateescape")) for clip_id in clip_ids], jnp.uint32
    )
    frames, channels = experiment.spec.latent_frames, experiment.model.latent_channels

    def start(name: jax.Array) -> Start:
        own = jax.random.fold_in(key, name)
        return Start(
            noise=jax.random.normal(own, (frames, channels)),
            frame_masks={
                condition: jax.random.bernoulli(
                    jax.random.fold_in(own, index), 1 - mask_ratio, (frames,)
                )
                for index, condition in enumerate(maskable(experiment.model.widths))
            },
        )

    return jax.vmap(start)(names)


def make_generate(experiment: Experiment, sampler: Sampler) -> Generate:
    """A jitted function from (state, features, start) to log-mels [b, n, m].

    Args:
      experiment: experiment of the run whose weights are used.
      sampler: how latents are drawn.

    Raises:
      UserError: a package that the solver needs is not installed.
    """
    solve = sampler.make_solver()
    # Steps that adapt must adapt to each clip alone, or a clip would depend on its batch.
    network = experiment.unplaced_network if sampler.adaptive else experiment.network

    @functools.partial(jax.jit, out_shardings=experiment.mesh_rules.replicated)
    def generate(state: InferenceState, features: Batch, start: Start) -> jax.Array:
        clips = len(start.noise)
        features, start = jax.tree.map(experiment.mesh_rules.spread, (features, start))
        model = experiment.merge(state.params, state.frozen, network)
        model.transformer.take_apart()

        def latents(features: Batch, start: Start) -> jax.Array:
            conditioning = model.encode(features, frame_masks=start.frame_masks)
            velocity = guided(model, conditioning, sampler.guidance, sampler.guidance_interval)
            return solve(velocity, start.noise)

        def latent(features: Batch, start: Start) -> jax.Array:
            return latents(*jax.tree.map(lambda x: x[None], (features, start)))[0]

        found = (jax.vmap(latent) if sampler.adaptive else latents)(features, start)
        return experiment.codec.decode(state.codec, found)[:clips]

    return generate


def make_generate_long(
    experiment: Experiment,
    sampler: Sampler,
    windows: Windows,
    tick: Callable[[], None],
) -> Generate:
    """Like `make_generate`, of one clip of any length, by windows as long as those of training.

    The latent is one from its noise on. At each evaluation the velocities of all windows, which are
    one batch, are blended (MultiDiffusion, Bar-Tal et al. 2023): what a window does to its frames
    the next one starts from, so that they agree where they overlap. Decoding sees no more than a
    window either, and log-mels are blended alike. Of a single window it is the same function.

    Args:
      experiment: experiment of the run whose weights are used.
      sampler: as for `make_generate`.
      windows: over the latent frames of the clip.
      tick: called at each evaluation of the velocity.

    Returns:
      a jitted function from (state, features of each window [w, t, ...], start [1, n, ...]) to a
      log-mel [1, n, m], where n are frames of the whole clip, each at its own rate.

    Raises:
      UserError: a package that the solver needs is not installed.
    """
    solve = sampler.make_solver()
    count = len(windows.starts)

    def cut(whole: jax.Array) -> jax.Array:
        """[1, n, ...] -> [w, t, ...], with more windows where devices need them."""
        return experiment.mesh_rules.spread(windows.cut(whole[0]))

    @functools.partial(jax.jit, out_shardings=experiment.mesh_rules.replicated)
    def generate(state: InferenceState, features: Batch, start: Start) -> jax.Array:
        model = experiment.merge(state.params, state.frozen)
        model.transformer.take_apart()
        features = jax.tree.map(experiment.mesh_rules.spread, features)
        rows = len(features["phonemes"])
        conditioning = model.encode(features, frame_masks=jax.tree.map(cut, start.frame_masks))
        of_windows = guided(model, conditioning, sampler.guidance, sampler.guidance_interval)

        def velocity(x: jax.Array, t: jax.Array) -> jax.Array:
            jax.debug.callback(tick)
            return windows.blend(of_windows(cut(x), jnp.repeat(t, rows))[:count])[None]

        log_mels = experiment.codec.decode(state.codec, cut(solve(velocity, start.noise)))[:count]
        return windows.finer(log_mels.shape[1] // windows.size).blend(log_mels)[None]

    return generate
