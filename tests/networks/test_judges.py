"""Judges of picture and sound together, in small: imported, run, and what they say."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tests.networks.files import Published, Shapes, Smaller, _golden_shapes, _made_smaller
from vssflow_jax.audio.mfcc import mfcc
from vssflow_jax.interop.import_weights import import_weights
from vssflow_jax.networks import (
    clip_vision,
    imagebind,
    published,
    synchformer_sound,
    syncnet,
)
from vssflow_jax.utils.errors import UserError
from vssflow_jax.weights.mapping import LEFT_OVER

RNG = np.random.default_rng(0)

SMALLER: dict[str, Smaller] = {
    "imagebind": {
        "*vision*": {1280: 160, 3840: 480, 5120: 640, 257: 5, 1024: 24},
        "*audio*": {768: 128, 2304: 384, 3072: 512, 1024: 24},
    },
    "synchformer_sound": {"*": {768: 128, 2304: 384, 3072: 192}},
    "syncnet": {"*": {64: 8, 192: 8, 384: 8, 256: 8, 96: 8, 512: 16}},
}
FILES = {
    "imagebind": "imagebind_huge.pth",
    "synchformer_sound": "synchformer_state_dict.pth",
    "syncnet": "syncnet_v2.model",
}
IGNORED: dict[str, Shapes] = {
    "imagebind": {
        "modality_trunks.text.blocks.0.norm_1.weight": (8,),
        "modality_postprocessors.text.1.log_logit_scale": (),
    },
    "synchformer_sound": {"vfeat_extractor.cls_token": (1, 1, 8)},
    "syncnet": {},
}


def small(kind: str) -> Published:
    """A file of a judge, of two blocks or of few channels."""
    shapes = _made_smaller(_golden_shapes(kind), SMALLER[kind], "*.blocks.[2-9].*")
    for without in ("*.blocks.[123][0-9].*", "*.layer.[2-9].*", "*.layer.1[01].*"):
        shapes = _made_smaller(shapes, {}, without)
    others = ("vproj.", "aproj.", "transformer.")  # the judge, which is elsewhere
    unused = {
        name: shapes.pop(name)
        for name in [*shapes]
        if name.endswith("tracked") or name.startswith(others)
    }
    return Published(FILES[kind], shapes, unused | IGNORED[kind], torch.save)


def see_and_hear(kind: str, network: Any) -> list[np.ndarray]:
    """What both networks of a judge make of noise, or what it says in the end."""
    if kind == "imagebind":
        pictures = clip_vision.normalise(RNG.integers(0, 256, (2, 2, 28, 28, 3)))
        mels = imagebind.log_mels(RNG.normal(size=(2, 32_000)))
        return [network.vision(pictures), network.sound(mels)]
    if kind == "syncnet":
        faces = RNG.integers(0, 256, (2, 5, 224, 224, 3))
        cepstra = mfcc(RNG.integers(-3000, 3000, 8000, dtype=np.int16))
        count = syncnet.count_windows(12, 8000)
        return [network.picture(faces), network.sound(syncnet.sound_windows(cepstra, count))[:2]]
    segments = synchformer_sound.segments(RNG.normal(size=14 * 5120 + 5120).astype(np.float32))
    assert segments.shape == (14, 10_240)
    heard = network(synchformer_sound.log_mels(segments))
    assert heard.shape == (14, 6, 128)
    return [heard, network(synchformer_sound.log_mels(segments), jnp.bfloat16)]


@pytest.mark.parametrize("kind", FILES)
def test_a_file_is_imported_and_the_networks_run(kind: str, tmp_path: Path) -> None:
    file = small(kind)
    file.write(file.tensors(), tmp_path / file.file)
    report = import_weights(kind, tmp_path / file.file, tmp_path / "imported")
    assert set(report.names(LEFT_OVER)) == set(file.ignored)
    one, other = see_and_hear(kind, published.load(kind, tmp_path / "imported"))
    assert one.shape == other.shape
    assert all(np.isfinite(x).all() and np.std(x) > 0 for x in (one, other))
    if kind == "imagebind":
        np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize(
    "change", [lambda x: np.concatenate([x, x]), lambda x: x[..., None], lambda x: None]
)
def test_each_tensor_that_is_wrong_or_missing_is_one_line(
    kind: str, change: Callable[[np.ndarray], np.ndarray | None]
) -> None:
    network = published.NETWORKS[kind]
    held = {name: np.asarray(x) for name, x in small(kind).tensors().items()}
    for name in small(kind).shapes:
        if held[name].ndim == 0:
            continue
        changed = {**held, name: change(held[name])}
        there = {other: x for other, x in changed.items() if x is not None}
        with pytest.raises(UserError) as error:
            network.convert(there, network.sizes(there, Path("unused")))
        assert "\n" not in str(error.value)


# --------------------------------------------------------------------------------- what they say
@pytest.mark.parametrize("late", [-4, 0, 7])
def test_a_sound_that_is_late_is_found_out(late: int) -> None:
    faces = RNG.normal(size=(60, 32)).astype(np.float32)
    sounds = np.roll(faces, late, axis=0) + 0.01 * RNG.normal(size=(60, 32)).astype(np.float32)
    found = syncnet.synchrony(faces, sounds)
    assert found.offset == -late
    assert found.distance < 2
    assert found.confidence > 3
    noise = syncnet.synchrony(faces, RNG.normal(size=(60, 32)).astype(np.float32))
    assert noise.confidence < 1


@pytest.mark.parametrize(
    ("pictures", "samples", "count"), [(100, 64_000, 95), (100, 63_000, 93), (4, 64_000, 0)]
)
def test_windows_of_a_video(pictures: int, samples: int, count: int) -> None:
    assert syncnet.count_windows(pictures, samples) == count
    rows = np.arange(4 * count + 20)[:, None].repeat(13, axis=1)
    windows = syncnet.sound_windows(rows, count)
    assert windows.shape == (count, 13, 20)
    for number in range(count):
        np.testing.assert_array_equal(windows[number, 5], np.arange(4 * number, 4 * number + 20))


@pytest.mark.parametrize("samples", [1, 400, 401, 560, 16_000])
def test_cepstra_of_any_length(samples: int) -> None:
    rows = mfcc(RNG.integers(-3000, 3000, samples, dtype=np.int16))
    assert rows.shape == (1 + max(-(-(samples - 400) // 160), 0), 13)
    assert np.isfinite(rows).all()
    assert np.isfinite(mfcc(np.zeros(samples, np.int16))).all()
