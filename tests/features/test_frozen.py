"""The paper's networks as encoders, in small: what they are shown, and what is made of it."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.networks.files import FILES
from vssflow_jax.clip import ClipSpec
from vssflow_jax.features import frozen, resize
from vssflow_jax.features.encoders import Absent, choose
from vssflow_jax.features.footage import Encoders, Footage, Landmarks, Network
from vssflow_jax.features.mouth_crops import cutter
from vssflow_jax.features.warp import Similarity
from vssflow_jax.features.weights_free import WEIGHTS_FREE
from vssflow_jax.input_pipeline.streams import STREAMS
from vssflow_jax.interop.import_weights import import_weights
from vssflow_jax.networks import published, rawnet3
from vssflow_jax.networks.spread import Spread
from vssflow_jax.utils.errors import UserError

SPEC = ClipSpec(duration_sec=2.0)
RNG = np.random.default_rng
PLACES = np.array(
    [128.87 + 137.30j, 92.52 + 94.37j, 112.77 + 94.94j, 145.53 + 94.54j, 166.68 + 93.57j]
)


def write_weights(folder: Path, *kinds: str) -> Path:
    """Small files as published, in the folders of their networks."""
    for kind in kinds or ("clip", "synchformer", "av_hubert", "rawnet3"):
        file = FILES[kind](small=True)
        (folder / kind).mkdir(parents=True)
        file.write(file.tensors(), folder / kind / file.file)
    return folder


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> Encoders:
    """The four small networks."""
    return Encoders({**frozen.of_folder(write_weights(tmp_path_factory.mktemp("weights")))})


def films(seconds: float, height: int = 72, width: int = 96) -> np.ndarray:
    """Noise that changes slowly in space. Uint8 [frames, h, w, 3], 25 a second."""
    small = RNG(0).integers(0, 256, (round(25 * seconds), height // 8, width // 8, 3), np.uint8)
    return small.repeat(8, axis=1).repeat(8, axis=2)


def footage(chosen: Encoders, seconds: float = 2.0, spec: ClipSpec = SPEC) -> Footage:
    """A clip with a box of a mouth and a voice."""
    kept = {}
    for encoder in chosen.by_stream.values():
        look = encoder.look(spec, (8, 8, 80, 64))
        if look:
            count = round(look.view.rate * spec.duration_sec)
            pictures = films(spec.duration_sec)[:count]
            pictures[round(look.view.rate * seconds) :] = 0
            kept[encoder] = look.keep(pictures, pictures[0])
    voice = RNG(1).normal(size=20_000).astype(np.float32)
    return Footage("a", spec, seconds, kept, voice="ann", voice_sample=voice)


# --------------------------------------------------------------------------- what they are shown
@pytest.mark.parametrize("size", [(90, 160), (161, 90), (64, 64), (31, 40)])
def test_pictures_are_filled_as_torchvision_fills_them(size: tuple[int, int]) -> None:
    pictures = RNG(0).integers(0, 256, (2, *size, 3), np.uint8)
    found = resize.fill(pictures, 32)
    shorter = min(size)
    high, wide = 32 * size[0] // shorter, 32 * size[1] // shorter
    whole = torch.nn.functional.interpolate(
        torch.from_numpy(pictures).permute(0, 3, 1, 2),
        size=(high, wide),
        mode="bicubic",
        antialias=True,
    )
    whole = whole.permute(0, 2, 3, 1).numpy().astype(int)
    top, left = round((high - 32) / 2), round((wide - 32) / 2)
    expected = whole[:, top : top + 32, left : left + 32]
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1


def test_a_mouth_is_where_the_face_is_brought_to() -> None:
    # Brightness that grows evenly over a picture: a pixel's tells where it has come from.
    height, width = 300, 400
    rows, columns = np.mgrid[:height, :width]
    grey = 20 + 0.3 * columns + 0.2 * rows
    pictures = np.rint(grey)[None, ..., None].repeat(15, axis=0).repeat(3, axis=-1)
    to_picture = Similarity(0.8 + 0.2j, 90 + 20j)
    lips = 120.3 + 175.2j + np.exp(2j * np.pi * np.arange(20) / 20)
    points = np.tile(to_picture(np.concatenate([PLACES, lips])), (15, 1))
    found = cutter(Landmarks(points))(pictures.astype(np.uint8), pictures[0])
    assert found.shape == (15, 88, 88)
    x, y = np.meshgrid(120 - 44 + np.arange(88), 175 - 44 + np.arange(88))
    source = to_picture(x + 1j * y)
    expected = 20 + 0.3 * source.real + 0.2 * source.imag
    assert np.abs(found - expected).max() <= 1


def test_the_face_is_held_by_the_mean_of_the_pictures_to_come() -> None:
    """A face that turns a little more in each picture."""
    grey = 20 + 0.3 * np.arange(400)[None] + 0.2 * np.arange(300)[:, None]
    picture = np.rint(grey)[..., None].repeat(3, axis=-1).astype(np.uint8)
    face = np.concatenate([PLACES, 120 + 175j + np.exp(2j * np.pi * np.arange(20) / 20)])
    turns = 0.8 * np.exp(0.02j * np.arange(30))
    points = turns[:, None] * face + 100 + 20j
    found = cutter(Landmarks(points))(picture[None].repeat(30, axis=0), picture)
    x, y = np.meshgrid(np.arange(88), np.arange(88))
    for number, smoothed in (
        (0, range(12)),
        (7, range(7, 19)),
        (18, range(18, 30)),
        (25, range(18, 30)),
    ):
        to_plane = Similarity.between(points[list(smoothed), :5].mean(axis=0), PLACES)
        middle = to_plane(points[number, 5:].mean())
        corner = np.rint(middle.real) - 44 + 1j * (np.rint(middle.imag) - 44)
        source = to_plane.inverse(corner + x + 1j * y)
        expected = 20 + 0.3 * source.real + 0.2 * source.imag
        assert np.abs(found[number] - expected).max() <= 1, number


def test_a_box_is_the_square_around_it_and_no_face_the_whole_picture() -> None:
    rows, columns = np.mgrid[:176, :264]
    picture = np.rint(columns / 2 + rows / 4)[None, ..., None].repeat(3, -1).astype(np.uint8)
    square = cutter((80, 70, 168, 130))(picture, picture[0])[0]
    np.testing.assert_array_equal(square, picture[0, 56:144, 80:168, 0])
    whole = cutter(Landmarks(None))(picture, picture[0])[0]
    middles = (np.arange(88) + 0.5)[:, None] * 2 - 0.5, (np.arange(88) + 0.5) * 3 - 0.5
    np.testing.assert_allclose(whole, middles[1] / 2 + middles[0] / 4, atol=1)


# ------------------------------------------------------------------------------ what they make
def test_streams_are_those_of_a_window(chosen: Encoders) -> None:
    features = chosen(footage(chosen, seconds=1.2))
    shapes = {name: x.shape for name, x in features.items()}
    assert shapes == {
        "visual": (20, 128),
        "sync": (48, 128),
        "lips": (30, 128),
        "speaker": (12,),
    }
    assert all(np.isfinite(x).all() and x.std() > 0 for x in features.values())
    assert {x.dtype for x in features.values()} == {np.dtype(np.float32)}


def test_what_a_clip_lacks_is_empty(chosen: Encoders) -> None:
    bare = dataclasses.replace(footage(chosen), voice_sample=None)
    kept = {x: y for x, y in bare.kept.items() if x is not chosen["lips"]}
    features = chosen(dataclasses.replace(bare, kept=kept))
    assert features["lips"].shape == (0, 128)
    assert features["speaker"].shape == (0,)


def test_examples_of_several_clips_make_what_each_makes_alone(chosen: Encoders) -> None:
    clips = [footage(chosen, seconds) for seconds in (1.2, 2.0, 0.7)]
    clips[1] = dataclasses.replace(clips[1], voice_sample=None)
    together = chosen.finish([chosen.prepare(clip) for clip in clips], SPEC)
    for clip, features in zip(clips, together, strict=True):
        for name, alone in chosen(clip).items():
            assert features[name].shape == alone.shape
            largest = np.abs(alone).max(initial=1e-9)
            np.testing.assert_allclose(features[name], alone, atol=1e-5 * largest, err_msg=name)


def test_lips_know_nothing_of_the_padding(chosen: Encoders) -> None:
    encoder = chosen["lips"]
    assert isinstance(encoder, Network)
    mouths = RNG(0).integers(0, 256, (1, 37, 88, 88), np.uint8)
    network = published.load("av_hubert", encoder.folder)
    (padded,) = encoder.features([mouths[0]], SPEC)
    from vssflow_jax.networks.av_hubert import normalise

    alone = np.asarray(network(normalise(mouths)))[0]
    assert padded.shape == alone.shape
    np.testing.assert_allclose(padded, alone, atol=1e-5 * np.abs(alone).max())


def test_motion_of_a_short_window_is_continued_in_black(chosen: Encoders) -> None:
    encoder = chosen["sync"]
    clip = footage(chosen)
    example = encoder.example(clip)
    assert len(example) == 8 * 5 + 16  # six segments
    assert not example[50:].any()
    np.testing.assert_array_equal(example[:50], clip.kept[encoder])
    assert encoder.grid == chosen.grid == 8


def test_a_voice_is_the_mean_of_its_segments(chosen: Encoders) -> None:
    clip = footage(chosen)
    network = published.load("rawnet3", chosen["speaker"].folder)
    vectors = np.asarray(network(rawnet3.segments(clip.voice_sample)))
    found = chosen(clip)["speaker"]
    np.testing.assert_allclose(found, vectors.mean(axis=0), atol=1e-4 * np.abs(vectors).max())


# ------------------------------------------------------------------------------------- the rows
def test_rows_are_taken_in_batches_of_few_sizes(chosen: Encoders) -> None:
    spread = Spread.load("clip", chosen["visual"].folder, "float32")
    rows = RNG(0).integers(0, 256, (150, 32, 32, 3), np.uint8)
    whole = spread(rows)
    assert whole.shape == (150, 128)
    np.testing.assert_allclose(spread(rows[70:81]), whole[70:81], atol=1e-4)
    assert spread(rows[:0]).shape == (0, 128)


def test_bfloat16_changes_little(chosen: Encoders) -> None:
    clip = footage(chosen)
    for name, encoder in chosen.by_stream.items():
        rounded = dataclasses.replace(encoder, dtype="bfloat16")
        kept = {rounded: clip.kept[encoder]} if encoder in clip.kept else {}
        found = rounded(dataclasses.replace(clip, kept=kept))
        exact = encoder(clip)
        assert found.dtype == np.float32
        change = np.linalg.norm(found - exact) / np.linalg.norm(exact)
        assert 0 < change < 0.03, name


# ------------------------------------------------------------------------------------ who is chosen
def test_a_folder_of_weights_names_the_networks_that_are_in_it(tmp_path: Path) -> None:
    weights = write_weights(tmp_path, "clip", "rawnet3")
    chosen = choose("", "", "", ["sync"], str(weights), "bfloat16")
    assert isinstance(chosen["visual"], frozen.ClipVision)
    assert chosen["visual"].dtype == "bfloat16"
    assert isinstance(chosen["speaker"], frozen.RawNet3)
    assert chosen["lips"] == Absent(1024)
    assert not isinstance(chosen["sync"], Network)
    assert chosen.widths["visual"] == 128
    named = choose("", "", "", ["visual"], str(weights))
    assert not isinstance(named["visual"], Network)


def test_a_folder_without_weights(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds none of the folders clip, synchformer, av_hubert"):
        choose("", "", "", [], str(tmp_path))
    (tmp_path / "clip").mkdir()
    with pytest.raises(UserError, match="clip"):
        choose("", "", "", [], str(tmp_path))


def test_an_encoder_is_known_by_its_weights_wherever_they_lie(tmp_path: Path) -> None:
    published_weights = write_weights(tmp_path / "one", "clip", "rawnet3")
    import_weights("clip", published_weights / "clip", tmp_path / "other" / "clip")
    one, other = (frozen.encoder("visual", tmp_path / name / "clip") for name in ("one", "other"))
    assert repr(one) == repr(other)
    assert str(tmp_path) not in repr(one)
    changed = FILES["clip"](small=True)
    tensors = changed.tensors()
    tensors["visual.class_embedding"][0] += 1
    (tmp_path / "third").mkdir()
    changed.write(tensors, tmp_path / "third" / changed.file)
    assert repr(frozen.encoder("visual", tmp_path / "third")) != repr(one)
    assert repr(dataclasses.replace(one, dtype="bfloat16")) != repr(one)


def test_encoders_that_find_mouths_in_ways_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = write_weights(tmp_path, "av_hubert")
    entry = dataclasses.replace(STREAMS["lips"], encoder=WEIGHTS_FREE["lips"])
    monkeypatch.setitem(STREAMS, "pose", entry)
    with pytest.raises(UserError, match="AVHubert and MouthCosines find mouths"):
        choose("", "", "", [], str(weights))
