import numpy as np
import pytest
from PIL import Image

from data.demo import foley
from data.demo.foley import Hit, Timbre
from data.demo.painting import HEIGHT, KINDS, WIDTH, lift
from data.demo.scenes import (
    FIRST_EVENT_SEC,
    LAST_EVENT_BEFORE_END_SEC,
    MAX_EVENTS,
    MIN_EVENTS,
    Scene,
    make_scene,
)

DURATION_SEC = 3.0
SAMPLING_RATE = 16_000
FRAME_SEC = 0.04
BORDER = 16  # black pixels around the area, which a scene must leave alone


def scenes_of(kind: str, count: int) -> list[Scene]:
    return [
        make_scene(kind, np.random.default_rng((KINDS.index(kind), seed)), DURATION_SEC)
        for seed in range(count)
    ]


def painted(scene: Scene, time_sec: float, scale: float = 1.0) -> np.ndarray:
    """The area with BORDER black pixels around it, float [h, w, 3]."""
    size = (round(WIDTH * scale) + 2 * BORDER, round(HEIGHT * scale) + 2 * BORDER)
    image = Image.new("RGB", size)
    scene.draw(image, time_sec, (BORDER, BORDER), scale)
    return np.asarray(image).astype(float)


def test_there_are_at_least_seven_kinds():
    assert len(set(KINDS)) >= 7
    assert set(KINDS) == {*foley.MATERIALS, foley.SCRAPE}


@pytest.mark.parametrize("kind", KINDS)
def test_events_keep_their_distance_and_stay_inside_the_clip(kind):
    counts = set()
    for scene in scenes_of(kind, 200):
        times_sec = np.array(scene.event_times_sec)
        counts.add(len(times_sec))
        assert times_sec[0] >= FIRST_EVENT_SEC - 1e-3
        assert times_sec[-1] <= DURATION_SEC - LAST_EVENT_BEFORE_END_SEC + 1e-3
        assert np.diff(times_sec).min() >= 0.299
    assert min(counts) >= MIN_EVENTS
    assert max(counts) == MAX_EVENTS
    assert len(counts) >= 3


def test_a_ball_loses_the_same_share_of_speed_at_every_bounce():
    for scene in scenes_of("ball", 50):
        gaps_sec = np.diff(scene.event_times_sec)
        ratios = gaps_sec[1:] / gaps_sec[:-1]
        assert np.all(ratios < 0.87)
        np.testing.assert_allclose(
            ratios, scene.hits[1].strength / scene.hits[0].strength, atol=5e-3
        )


@pytest.mark.parametrize("kind", KINDS)
def test_sound_starts_at_the_sample_of_the_event(kind):
    for scene in scenes_of(kind, 5):
        sound = scene.sound(SAMPLING_RATE)
        assert sound.dtype == np.float32
        assert sound.shape == (round(DURATION_SEC * SAMPLING_RATE),)
        assert np.abs(sound).max() <= 1
        start = round(scene.event_times_sec[0] * SAMPLING_RATE)
        assert start == pytest.approx(scene.event_times_sec[0] * SAMPLING_RATE, abs=1e-6)
        assert not sound[:start].any()
        first_two_ms = sound[start : start + 32]
        assert np.abs(first_two_ms).max() > 0.1 * np.abs(sound).max()
        assert np.abs(first_two_ms[:3]).max() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_picture_changes_most_at_the_contact(kind):
    """In 5 ms, the picture changes more across a contact than anywhere away from contacts."""
    step_sec = 0.005
    for scene in scenes_of(kind, 3):

        def change(time_sec: float, scene: Scene = scene) -> float:
            step = painted(scene, time_sec) - painted(scene, time_sec - step_sec)
            return float(np.abs(step).mean())

        times_sec = np.array(scene.event_times_sec)
        elsewhere = [
            change(time_sec)
            for time_sec in np.arange(step_sec, DURATION_SEC, FRAME_SEC)
            if np.abs(times_sec - time_sec).min() > FRAME_SEC
        ]
        assert min(change(time_sec) for time_sec in times_sec) > max(elsewhere)


@pytest.mark.parametrize("kind", KINDS)
def test_a_scene_paints_inside_its_area_only(kind):
    for scene in scenes_of(kind, 20):
        for time_sec in np.arange(0.0, DURATION_SEC, FRAME_SEC):
            image = painted(scene, time_sec)
            assert image[BORDER:-BORDER, BORDER:-BORDER].any()
            image[BORDER : BORDER + HEIGHT, BORDER : BORDER + WIDTH] = 0
            assert not image.any(), f"{kind} at {time_sec:.2f} s"


def test_scale_only_enlarges():
    scene = scenes_of("drum", 1)[0]
    small = painted(scene, 1.0)[BORDER:-BORDER, BORDER:-BORDER]
    large = painted(scene, 1.0, scale=2.0)[BORDER:-BORDER, BORDER:-BORDER]
    pooled = large.reshape(HEIGHT, 2, WIDTH, 2, 3).mean(axis=(1, 3))
    assert np.abs(small - pooled).mean() < 0.15 * small.mean()  # edges, rounded to pixels


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_scene(kind):
    first, second, other = (
        make_scene(kind, np.random.default_rng(seed), DURATION_SEC) for seed in (3, 3, 4)
    )
    assert first == second != other
    assert first.sound(SAMPLING_RATE).tobytes() == second.sound(SAMPLING_RATE).tobytes()
    assert first.sound(SAMPLING_RATE).tobytes() == first.sound(SAMPLING_RATE).tobytes()
    assert not np.array_equal(first.sound(SAMPLING_RATE), other.sound(SAMPLING_RATE))


def test_kinds_are_told_apart_by_a_few_pooled_pixels_and_by_their_spectrum():
    """Even the nearest of 8 mean features is nearly always that of the right kind."""

    def picture(scene: Scene) -> np.ndarray:
        area = painted(scene, 0.0)[BORDER:-BORDER, BORDER:-BORDER]
        return area.reshape(4, HEIGHT // 4, 3, WIDTH // 3, 3).mean(axis=(1, 3)).ravel()

    def spectrum(scene: Scene) -> np.ndarray:
        power = np.abs(np.fft.rfft(scene.sound(SAMPLING_RATE))) ** 2
        edges = np.geomspace(100, len(power), 13).astype(int)
        bands = np.add.reduceat(power[: edges[-1]], edges[:-1])
        return np.log(bands / bands.sum() + 1e-4)

    all_scenes = [scenes_of(kind, 30) for kind in KINDS]
    for feature in (picture, spectrum):
        features = np.array([[feature(scene) for scene in scenes] for scenes in all_scenes])
        centroids = features[:, :20].mean(axis=1)  # [kinds, f]
        distances = np.linalg.norm(features[:, 20:, None] - centroids, axis=-1)
        correct = distances.argmin(axis=-1) == np.arange(len(KINDS))[:, None]
        assert correct.mean() > 0.9, feature.__name__


def test_a_striker_touches_at_the_hit_and_reverses_there():
    hits = (Hit(0.5, 1.0), Hit(1.2, 0.7))
    assert lift(hits, 0.5) == lift(hits, 1.2) == 0.0
    assert lift(hits, 0.46) > 0.2
    assert lift(hits, 0.54) > 0.2
    assert lift(hits, 0.0) == pytest.approx(1.0)


def test_pitch_multiplies_the_spectrum():
    def peak_hz(pitch: float) -> float:
        rng = np.random.default_rng(0)
        timbre = Timbre(pitch=pitch)
        sound = foley.contact("glass", Hit(0.0, 1.0), timbre, 16_000, rng)
        return float(np.abs(np.fft.rfft(sound, 16_000)).argmax())

    assert peak_hz(1.2) / peak_hz(1.0) == pytest.approx(1.2, rel=0.01)
