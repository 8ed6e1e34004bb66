"""Between sound and latent: the autoencoder of AudioLDM and HiFi-GAN, with random weights."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax

from benchmarks.accelerator.items import Item, Row
from benchmarks.accelerator.sizes import Scale, make_experiment, random_weights
from vssflow_jax.audio import mel
from vssflow_jax.audio.codec import AutoencoderCodec
from vssflow_jax.audio.pretrained import HIFIGAN
from vssflow_jax.clip import LATENT_CHANNELS, ClipSpec


def sounds(scale: Scale) -> Iterator[Item]:
    """Sound to latent, latent to log-mel, log-mel to sound; float32, as they are used."""
    for clips in scale.generated:
        for name, make in (("encode", _encode), ("decode", _decode), ("vocode", _vocode)):
            measure = functools.partial(_measure, scale, make, clips)
            yield Item(f"{name}, {clips} clips", measure, ladder=name)


def _measure(scale: Scale, make: Callable[..., Any], clips: int) -> Row:
    spec = make_experiment(scale, "base", clips).spec
    function, abstract, shape = make(scale, spec)
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    params = random_weights(
        jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), abstract
        )
    )
    x = jax.random.normal(jax.random.key(1), (clips, *shape))
    jitted = jax.jit(function)
    jax.block_until_ready(jitted(params, x))
    seconds = scale.clock.seconds(lambda: jitted(params, x), jax.block_until_ready)
    return {"ms": 1e3 * seconds, "clips_per_sec": clips / seconds}


Made = tuple[Callable[..., Any], Any, tuple[int, ...]]
"""A function of weights and clips, shapes of the weights, shape of a clip."""


def _encode(scale: Scale, spec: ClipSpec) -> Made:
    codec = AutoencoderCodec(scale.autoencoder)

    def encode(params: Any, waveform: jax.Array) -> jax.Array:
        return codec.encode(params, mel.log_mel(waveform, spec.mel_frames)).mean

    return encode, codec.abstract, (spec.num_samples,)


def _decode(scale: Scale, spec: ClipSpec) -> Made:
    codec = AutoencoderCodec(scale.autoencoder)
    return codec.decode, codec.abstract, (spec.latent_frames, LATENT_CHANNELS)


def _vocode(scale: Scale, spec: ClipSpec) -> Made:
    from flax import nnx

    definition = nnx.graphdef(nnx.eval_shape(lambda: HIFIGAN.make(scale.vocoder)))

    def vocode(params: Any, log_mel: jax.Array) -> jax.Array:
        return nnx.merge(definition, params)(log_mel)

    return vocode, HIFIGAN.abstract(scale.vocoder), (spec.mel_frames, mel.BANDS)
