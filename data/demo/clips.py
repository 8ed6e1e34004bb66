"""Makes the demo dataset: mp4 clips with sound, voice samples and a manifest.

A clip is 3 s of a 192x128 picture. Its left half belongs to the presenter, its right half to the
foley scene; the half that a clip does not use is black. ROOT gets

  manifest.jsonl             one row per clip, sorted by clip_id
  clips/SPLIT/CLIP_ID.mp4    H.264 and AAC
  voices/VOICE.wav           a sentence of each voice that is in no clip
  parameters.json            what the set was made from
"""

import functools
import io
import json
import operator
import zlib
from pathlib import Path
from typing import Any, Final

import numpy as np
import soundfile
from PIL import Image
from tqdm import tqdm

from data.demo import face, looks, painting, scenes, speech, visemes
from vssflow_jax import media
from vssflow_jax.features import grid
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import as_path, write_atomically
from vssflow_jax.utils.processes import as_done

FORMAT_VERSION: Final = 2
"""Raise it whenever the same parameters give other clips or rows than before."""

DURATION_SEC: Final = 3.0
FPS: Final = 25
SAMPLING_RATE: Final = speech.SAMPLING_RATE
WIDTH: Final = 192
HEIGHT: Final = 128
SCENE_X: Final = face.WIDTH
"""Left edge of the foley scene's half."""

SCENE_SCALE: Final = 2
"""Supersampling of the foley scene."""

# Share of the foley and of the joint clips; the rest is speech.
_SHARES: Final = {"train": {"v2s": 1 / 4, "joint": 1 / 20}, "test": {"v2s": 1 / 3, "joint": 1 / 6}}
_TASK_LABELS: Final = {"visualtts": "speech", "v2s": "sound", "joint": "joint"}
"""Task -> its word in a clip id."""

_MAX_SPEECH_SEC: Final = 2.3
_MARGIN_SEC: Final = 0.1
"""Least silence before and after speech."""
_RATE_SPREAD: Final = 0.03
_PITCH_SPREAD: Final = 4.0
_FASTER: Final = 1.06
"""Factor on the speaking rate until a long sentence fits."""

_SPEECH_PEAK: Final = (0.5, 0.8)
_SOUND_GAIN: Final = 0.9
_JOINT_SOUND_GAIN: Final = (0.3, 0.7)
_MAX_PEAK: Final = 0.95
_BLINK_SEC: Final = 0.24
_FIRST_BLINK_SEC: Final = (0.2, 2.0)
_BLINK_INTERVAL_SEC: Final = (1.4, 3.5)

_ENROLMENT_TEXT: Final = "The north wind and the warm sun met over our quiet garden this morning"


Row = dict[str, Any]


def make_demo_clips(
    root: str | Path, seed: int, num_train: int, num_test: int, workers: int
) -> Path:
    """Makes the demo clips under `root`, or what is missing of them after an interruption.

    The files depend on the seed and the numbers of clips only. A complete set of the same
    parameters is left as it is.

    Args:
      root: folder to fill; made when missing.
      seed: seed of everything that varies.
      num_train, num_test: clips of each split.
      workers: processes to use; with 1 the work is done in this process.

    Returns:
      Path of the manifest.

    Raises:
      UserError: `root` holds clips of other parameters, or a clip cannot be written.
    """
    root = as_path(root)
    manifest = root / "manifest.jsonl"
    if _is_begun(root, seed, num_train, num_test) and manifest.exists():
        return manifest
    for folder in ("voices", "clips/train", "clips/test"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    _write_voice_samples(root)
    plans = plan_clips(seed, num_train, num_test)
    made = as_done(functools.partial(make_clip, root, seed), plans, workers)
    rows = list(tqdm(made, total=len(plans), desc="demo clips", unit="clip"))
    rows.sort(key=operator.itemgetter("clip_id"))
    # Written last: where there is a manifest, there are all the clips.
    write_atomically(manifest, "".join(json.dumps(row) + "\n" for row in rows))
    return manifest


def plan_clips(seed: int, num_train: int, num_test: int) -> list[Row]:
    """Rows of the manifest, sorted by clip id, but for the times, which are known of made clips.

    Decides tasks, sentences, voices and kinds of events. No sentence occurs twice. Within each
    task, voices and kinds take turns.
    """
    rng = np.random.default_rng(seed)
    used: set[str] = set()
    rows = []
    for split, total in (("test", num_test), ("train", num_train)):
        counts = {task: round(share * total) for task, share in _SHARES[split].items()}
        counts["visualtts"] = total - sum(counts.values())
        for task, count in counts.items():
            for index in range(count):
                transcript = voice = event_kind = ""
                if task != "v2s":
                    transcript = _new_sentence(rng, used)
                    voice = list(speech.VOICES)[index % len(speech.VOICES)]
                if task != "visualtts":
                    event_kind = painting.KINDS[index % len(painting.KINDS)]
                clip_id = f"{split}-{_TASK_LABELS[task]}-{index:03d}"
                row = {
                    "clip_id": clip_id,
                    "split": split,
                    "task": task,
                    "video": f"clips/{split}/{clip_id}.mp4",
                    "duration_sec": DURATION_SEC,
                    "transcript": transcript,
                    "voice": voice,
                    "voice_sample": _voice_sample(voice) if voice else "",
                    "speech_start_sec": None,
                    "speech_end_sec": None,
                    "phoneme_starts_sec": [],
                    "event_kind": event_kind,
                    "event_times_sec": [],
                    "mouth_box": list(face.MOUTH_BOX) if voice else None,
                }
                rows.append(row)
    return sorted(rows, key=operator.itemgetter("clip_id"))


def make_clip(root: Path, seed: int, row: Row) -> Row:
    """Speaks and sounds one clip; draws and writes it unless it is there.

    Returns:
      its row of the manifest, with the times.
    """
    rng = np.random.default_rng([seed, zlib.crc32(row["clip_id"].encode())])
    row, file, scene, spoken = dict(row), root / row["video"], None, None
    waveform = np.zeros(round(DURATION_SEC * SAMPLING_RATE), np.float32)
    if row["event_kind"]:
        scene = scenes.make_scene(row["event_kind"], rng, DURATION_SEC)
        gain = rng.uniform(*_JOINT_SOUND_GAIN) if row["voice"] else _SOUND_GAIN
        waveform += np.float32(gain) * scene.sound(SAMPLING_RATE)
        row["event_times_sec"] = scene.event_times_sec
    if row["voice"]:
        spoken = _speak(row["transcript"], row["voice"], rng)
        latest_sec = DURATION_SEC - _MARGIN_SEC - spoken.duration_sec
        start = round(rng.uniform(_MARGIN_SEC, latest_sec) * SAMPLING_RATE)
        end = start + len(spoken.waveform)
        peak = np.float32(rng.uniform(*_SPEECH_PEAK))
        waveform[start:end] += _normalised(spoken.waveform) * peak
        start_sec, end_sec = start / SAMPLING_RATE, end / SAMPLING_RATE
        row["speech_start_sec"], row["speech_end_sec"] = round(start_sec, 6), round(end_sec, 6)
        row["phoneme_starts_sec"] = [
            [round(start_sec + time, 6) for time in word] for word in spoken.words
        ]
    if file.exists():
        return row

    # Each picture stands for the moment in the middle of its time on the screen.
    times_sec = (np.arange(round(DURATION_SEC * FPS)) + 0.5) / FPS
    frames = np.zeros((len(times_sec), HEIGHT, WIDTH, 3), np.uint8)
    if scene:
        frames[:, :, SCENE_X:] = _draw_scene(scene, times_sec)
    if spoken:
        phonemes = [(start_sec + time, phoneme) for time, phoneme in spoken.phonemes]
        mouths = visemes.mouth_track(phonemes, end_sec, times_sec)
        eyes_closed = _blinks(rng, times_sec)
        presenter = _presenter(row["voice"])
        for picture, mouth, closed in zip(frames, mouths, eyes_closed, strict=True):
            picture[:, : face.WIDTH] = presenter.frame(mouth, float(closed))
    waveform *= min(1.0, _MAX_PEAK / max(float(np.abs(waveform).max()), _MAX_PEAK))
    media.write_video(file, frames, FPS, waveform, SAMPLING_RATE)
    return row


def _new_sentence(rng: np.random.Generator, used: set[str]) -> str:
    """A sentence that is not yet among the used ones; adds it to them."""
    while (text := grid.sentence(rng)) in used:
        pass
    used.add(text)
    return text


def _speak(text: str, voice: str, rng: np.random.Generator) -> speech.Speech:
    """Speaks with a rate and pitch near the voice's own, faster where the text is long."""
    rate = speech.VOICES[voice] * rng.uniform(1 - _RATE_SPREAD, 1 + _RATE_SPREAD)
    pitch = round(speech.PITCH + rng.uniform(-_PITCH_SPREAD, _PITCH_SPREAD))
    while True:
        spoken = speech.synthesize(text, voice, round(rate), pitch)
        if spoken.duration_sec <= _MAX_SPEECH_SEC:
            return spoken
        rate *= _FASTER


def _normalised(waveform: np.ndarray) -> np.ndarray:
    return waveform / np.abs(waveform).max()


@functools.cache
def _presenter(voice: str) -> face.Presenter:
    return face.Presenter(looks.LOOKS[voice])


def _blinks(rng: np.random.Generator, times_sec: np.ndarray) -> np.ndarray:
    """How far the eyes are closed at each time, 0 to 1."""
    closed = np.zeros(len(times_sec))
    blink_sec = rng.uniform(*_FIRST_BLINK_SEC)
    while blink_sec < DURATION_SEC:
        distance = np.abs(times_sec - blink_sec) / (_BLINK_SEC / 2)
        closed = np.maximum(closed, 1.0 - distance)
        blink_sec += rng.uniform(*_BLINK_INTERVAL_SEC)
    return closed


def _draw_scene(scene: scenes.Scene, times_sec: np.ndarray) -> np.ndarray:
    """Pictures of a foley scene, uint8 [n, HEIGHT, WIDTH - SCENE_X, 3]."""
    size = ((WIDTH - SCENE_X) * SCENE_SCALE, HEIGHT * SCENE_SCALE)
    pictures = []
    for time_sec in times_sec:
        image = Image.new("RGB", size)
        scene.draw(image, float(time_sec), (0, 0), SCENE_SCALE)
        pictures.append(np.asarray(image.reduce(SCENE_SCALE)))
    return np.stack(pictures)


def _voice_sample(voice: str) -> str:
    return f"voices/{voice}.wav"


def _write_voice_samples(root: Path) -> None:
    for voice, words_per_minute in speech.VOICES.items():
        spoken = speech.synthesize(_ENROLMENT_TEXT, voice, words_per_minute)
        samples = _normalised(spoken.waveform) * _SPEECH_PEAK[1]
        wav = io.BytesIO()
        soundfile.write(wav, samples, SAMPLING_RATE, subtype="PCM_16", format="WAV")
        (root / _voice_sample(voice)).write_bytes(wav.getvalue())


def _is_begun(root: Path, seed: int, num_train: int, num_test: int) -> bool:
    """Whether `root` was begun with these parameters; from now on it is.

    Raises:
      UserError: it was begun with others.
    """
    parameters = {
        "format_version": FORMAT_VERSION,
        "seed": seed,
        "num_train": num_train,
        "num_test": num_test,
    }
    file, wanted = root / "parameters.json", json.dumps(parameters, indent=2) + "\n"
    if not file.exists():
        root.mkdir(parents=True, exist_ok=True)
        write_atomically(file, wanted)
        return False
    found = file.read_text()
    if found != wanted:
        raise UserError(
            f"{root} holds demo clips made with {found}, wanted are {wanted}: remove the folder "
            "or choose another"
        )
    return True
