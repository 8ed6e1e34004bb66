"""Drawn scenes of sounding events, in step with their sound.

A scene is one kind of event (a hammer on an anvil, a bouncing ball, ...) that happens a few times,
at random moments. `make_scene` decides everything that varies from clip to clip; afterwards a scene
is a pure function of time: `draw` paints it at any moment, `sound` gives its track. What one hears
can be seen: a smaller object sounds higher, a paler one brighter, and a harder hit is louder,
flashes more and swings from further away.

All drawing happens in a unit frame of 96x128 with y pointing down. Each kind keeps inside a margin
of that frame, and a clip shrinks the frame and moves it so that all but the margin stays inside the
area: a scene never paints outside.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data.demo import foley
from data.demo.canvas import Canvas, Colour, Point
from data.demo.foley import Hit, Timbre
from data.demo.painting import BALL_FULL_SPEED, BALL_GRAVITY, HEIGHT, PAINTERS, WIDTH, Moment

FIRST_EVENT_SEC = 0.15
LAST_EVENT_BEFORE_END_SEC = 0.25
TIME_DIGITS = 3  # event times are in milliseconds: a whole number of samples at 16 kHz
MIN_EVENTS, MAX_EVENTS = 2, 5
STRIKE_GAP_SEC = 0.35
STROKE_SEC = (0.25, 0.40)
STROKE_PAUSE_SEC = 0.28  # from the end of one stroke to the start of the next
BALL_RESTITUTION = (0.74, 0.86)
BALL_FIRST_STRENGTH = (0.85, 1.0)
BALL_MIN_GAP_SEC = 0.3
BALL_MIN_BOUNCES = 3
MARGIN = 2  # of the unit frame, on each side, which no painter enters

# Ranges of what varies from clip to clip, or from event to event.
SIZE = (0.8, 1.0)
DETUNING = (0.95, 1.05)  # of the pitch that follows from the size
LOUDNESS = (0.45, 0.9)
STRIKE_STRENGTH = (0.6, 1.0)
STROKE_STRENGTH = (0.7, 1.0)
MEAN_SHADE = 0.92  # brightness of the picture of a scene of mean paleness
SHADE_BY_PALENESS = 0.08
BRIGHTNESS_BY_PALENESS = 0.25
COLOUR_CAST = 0.06


@dataclass(frozen=True)
class Scene:
    """One foley scene: what it is, when it sounds, and how it looks and sounds.

    Attributes:
        kind: one of `painting.KINDS`.
        duration_sec: length of picture and sound.
        hits: the events, in order of time.
        size: factor on all lengths, at most 1.
        shift: where the upper-left corner of the shrunken frame lies, in unit pixels.
        tint: what brings colours from 0 to 1 to the picture's red, green and blue.
        timbre: variation of the sound.
        loudness: peak of the sound, in (0, 1].
        noise_seed: seed of the noise in the sound, so that each call of `sound` gives
          the same samples.
    """

    kind: str
    duration_sec: float
    hits: tuple[Hit, ...]
    size: float
    shift: Point
    tint: Colour
    timbre: Timbre
    loudness: float
    noise_seed: int

    @property
    def event_times_sec(self) -> list[float]:
        """When the contacts happen, in ascending order, in seconds."""
        return [hit.time_sec for hit in self.hits]

    def sound(self, sampling_rate: int) -> NDArray[np.float32]:
        """The sound track, exactly silent before the first event.

        Args:
          sampling_rate: samples per second; at 16 kHz every event falls on a sample.

        Returns:
          float32 [duration_sec * sampling_rate], peak at most 1.
        """
        rng = np.random.default_rng(self.noise_seed)
        track = np.zeros(round(self.duration_sec * sampling_rate))
        for hit in self.hits:
            sound = foley.contact(self.kind, hit, self.timbre, sampling_rate, rng)
            heard = track[round(hit.time_sec * sampling_rate) :][: len(sound)]
            heard += sound[: len(heard)]
        level = self.loudness * (foley.SCRAPE_LEVEL if self.kind == foley.SCRAPE else 1)
        return (track * (level / np.abs(track).max(initial=1e-9))).astype(np.float32)

    def draw(self, image: Image.Image, time_sec: float, origin: Point, scale: float) -> None:
        """Paint the scene onto a black area of 96x128 unit pixels.

        Args:
          image: RGB; drawn on in place.
          time_sec: moment to show.
          origin: upper-left corner (x, y) of the area, in pixels of the image.
          scale: pixels of the image to a unit pixel; more than 1 to supersample.
        """
        corner = (origin[0] + scale * self.shift[0], origin[1] + scale * self.shift[1])
        canvas = Canvas(image, scale * self.size, corner, self.tint)
        PAINTERS[self.kind](canvas, Moment(self.hits, time_sec, self.duration_sec))


def make_scene(kind: str, rng: np.random.Generator, duration_sec: float) -> Scene:
    """A random scene: 2 to 5 events between 0.15 s and 0.25 s before the end.

    Strikes are at least 0.35 s apart, bounces 0.3 s, and strokes of a scrape start at least 0.53 s
    apart.

    Args:
      kind: one of `painting.KINDS`.
      rng: source of everything that varies.
      duration_sec: length of the clip, at least 1.5 s.
    """
    if kind == "ball":
        hits = _bounces(rng, duration_sec)
    elif kind == foley.SCRAPE:
        hits = _strokes(rng, duration_sec)
    else:
        hits = _strikes(rng, duration_sec)
    size = rng.uniform(*SIZE)
    paleness = rng.uniform(-1.0, 1.0)
    return Scene(
        kind=kind,
        duration_sec=duration_sec,
        hits=hits,
        size=size,
        shift=(
            rng.uniform(-MARGIN * size, WIDTH - (WIDTH - MARGIN) * size),
            rng.uniform(-MARGIN * size, HEIGHT - (HEIGHT - MARGIN) * size),
        ),
        tint=_tint(rng, paleness),
        timbre=Timbre(
            pitch=rng.uniform(*DETUNING) / size,
            brightness=1 + BRIGHTNESS_BY_PALENESS * paleness,
        ),
        loudness=rng.uniform(*LOUDNESS),
        noise_seed=int(rng.integers(2**32)),
    )


def _tint(rng: np.random.Generator, paleness: float) -> Colour:
    """A common shade and a slight cast."""
    shade = MEAN_SHADE + SHADE_BY_PALENESS * paleness
    red, green, blue = 255 * (shade + rng.uniform(-COLOUR_CAST, COLOUR_CAST, size=3))
    return float(red), float(green), float(blue)


def _strikes(rng: np.random.Generator, duration_sec: float) -> tuple[Hit, ...]:
    """Impacts at random times."""
    times_sec = _spread_times(rng, duration_sec, STRIKE_GAP_SEC)
    return tuple(Hit(time_sec, rng.uniform(*STRIKE_STRENGTH)) for time_sec in times_sec)


def _strokes(rng: np.random.Generator, duration_sec: float) -> tuple[Hit, ...]:
    """Strokes of a scrape; the last may be cut by the end of the clip."""
    length_sec = rng.uniform(*STROKE_SEC)
    times_sec = _spread_times(rng, duration_sec, length_sec + STROKE_PAUSE_SEC)
    return tuple(Hit(time_sec, rng.uniform(*STROKE_STRENGTH), length_sec) for time_sec in times_sec)


def _bounces(rng: np.random.Generator, duration_sec: float) -> tuple[Hit, ...]:
    """Contacts of a ball: restitution shrinks the speed of each impact and the gap before it."""
    restitution = rng.uniform(*BALL_RESTITUTION)
    strength = rng.uniform(*BALL_FIRST_STRENGTH)
    end_sec = duration_sec - LAST_EVENT_BEFORE_END_SEC
    gaps_sec: list[float] = []
    strengths = [strength]
    while len(strengths) < MAX_EVENTS:
        strength *= restitution
        gap_sec = 2 * BALL_FULL_SPEED * strength / BALL_GRAVITY
        too_late = FIRST_EVENT_SEC + sum(gaps_sec) + gap_sec > end_sec
        if gap_sec < BALL_MIN_GAP_SEC or (too_late and len(strengths) >= MIN_EVENTS):
            break
        gaps_sec.append(gap_sec)
        strengths.append(strength)
    kept = int(rng.integers(min(BALL_MIN_BOUNCES, len(strengths)), len(strengths) + 1))
    first_sec = rng.uniform(FIRST_EVENT_SEC, end_sec - sum(gaps_sec[: kept - 1]))
    times_sec = first_sec + np.cumsum([0.0, *gaps_sec[: kept - 1]])
    return tuple(
        Hit(round(time_sec, TIME_DIGITS), strength)
        for time_sec, strength in zip(times_sec.tolist(), strengths[:kept], strict=True)
    )


def _spread_times(rng: np.random.Generator, duration_sec: float, min_gap_sec: float) -> list[float]:
    """2 to 5 (at most as many as fit) sorted random times, at least `min_gap_sec` apart."""
    span_sec = duration_sec - LAST_EVENT_BEFORE_END_SEC - FIRST_EVENT_SEC
    most = min(MAX_EVENTS, 1 + int(span_sec / min_gap_sec))
    count = int(rng.integers(MIN_EVENTS, most + 1))
    slack_sec = span_sec - (count - 1) * min_gap_sec
    offsets_sec = np.sort(rng.uniform(0.0, slack_sec, size=count)).tolist()
    return [
        round(FIRST_EVENT_SEC + index * min_gap_sec + offset_sec, TIME_DIGITS)
        for index, offset_sec in enumerate(offsets_sec)
    ]
