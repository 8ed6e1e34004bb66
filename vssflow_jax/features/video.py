"""What can be seen and heard of one video of any length, for sound to be generated for it."""

import dataclasses
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np
import tqdm

from vssflow_jax import media
from vssflow_jax.clip import ClipSpec
from vssflow_jax.features import encoders, frozen
from vssflow_jax.features.footage import Box, Encoders, Footage, Landmarks, LipReader, Mouth
from vssflow_jax.features.weights_free import WEIGHTS_FREE
from vssflow_jax.input_pipeline import dataset
from vssflow_jax.input_pipeline.records import on_disk
from vssflow_jax.input_pipeline.streams import STREAMS
from vssflow_jax.media import Track
from vssflow_jax.utils.errors import Rejected, UserError
from vssflow_jax.utils.files import as_path

_ROUNDING = 1e-6


@dataclasses.dataclass(frozen=True)
class Seen:
    """A video as a model is told of it.

    Attributes:
      spec: geometry of a clip that holds all of it, and is no shorter than those of training.
      duration_sec: duration of the video itself.
      streams: features of the whole by name, as `ClipFeatures` has them; of all streams but those
        that networks make of pictures, which see no more of a video at once than in training.
      mouth: where it is, if that is known, in any window over the video.
    """

    spec: ClipSpec
    duration_sec: float
    streams: dict[str, np.ndarray]
    mouth: Mouth | None


def encoders_of(
    data: ml_collections.ConfigDict,
    clip: str,
    speaker: str,
    features_root: str,
    weights_free: Collection[str],
    weights: str = "",
    dtype: str = "float32",
) -> Encoders:
    """The encoders to look at a video with; those without weights as the run's dataset had them.

    Args:
      data: the section of the run's config.
      clip, speaker, features_root, weights_free, weights, dtype: see
        `vssflow_jax.features.encoders.choose`. Where `weights` holds no encoders, those of the
        run's config are taken; and where `weights_free` names no streams, those that the dataset
        says it has, if it is at hand.

    Raises:
      UserError: as `choose` says, or a damaged dataset.
    """
    if not frozen.streams(weights):
        codecs = any(as_path(weights, name).is_dir() for name in ("vae", "vocoder"))
        own = str(data.get("weights", ""))
        weights = own if frozen.streams(own) else "" if codecs else weights
    if not weights_free:
        recorded = _recorded(data)
        flags = {"visual": clip, "speaker": speaker}
        named = {name for name, flag in flags.items() if flag} | frozen.streams(weights)
        weights_free = [
            name
            for name, encoder in WEIGHTS_FREE.by_stream.items()
            if f"{on_disk(name)}={encoder!r}" in recorded and name not in named
        ]
    return encoders.choose(clip, speaker, features_root, weights_free, weights, dtype)


def _recorded(data: ml_collections.ConfigDict) -> str:
    """The encoders of a run's dataset, as its metadata names them; empty if they are not known."""
    if data.source == "demo" and not data.get("weights"):
        return repr(WEIGHTS_FREE)
    if not dataset.exists(data.path):
        return ""
    _, _, metadata = dataset.open_metadata(as_path(data.path))
    return str(metadata.get("origin", {}).get("encoders", ""))


def look(
    track: Track,
    spec: ClipSpec,
    chosen: Encoders,
    mouth: Mouth | None,
    voice: Path | None,
    *,
    speaks: bool,
) -> Seen:
    """Features of a whole video.

    Args:
      track: track of the video; its name is the clip's, for features from files.
      spec: geometry of the clips of training.
      chosen: encoders.
      mouth: where it is, in pixels of the video as it is shown.
      voice: sound file of the speaker, of whom its name is the voice's.
      speaks: whether anything is said, so that a mouth is looked for if it is not known where it
        is. In training, clips in which nothing is said have no lips.

    Raises:
      UserError: a file that cannot be read, or features that do not fit.
    """
    duration_sec = float(track.duration)
    whole = _whole(spec, duration_sec)
    sample = media.read_voice(voice, spec.sampling_rate, VOICE_SAMPLE_SEC) if voice else None
    if mouth is None and speaks and chosen.lip_reader:
        beyond = chosen.grid / spec.latent_rate  # where the last window may end
        longer = dataclasses.replace(whole, duration_sec=whole.duration_sec + beyond)
        mouth = _find_mouth(track, longer, chosen.lip_reader)
    by_piece = of_pieces(chosen).by_stream
    at_once = chosen.of(name for name in chosen.by_stream if name not in by_piece)
    try:
        with tqdm.tqdm(total=len(track.packets), desc="look") as bar:
            kept = at_once.watch(track, whole, mouth, bar.update)
        footage = Footage(
            clip_id=track.name,
            spec=whole,
            duration_sec=duration_sec,
            kept=kept,
            voice=voice.stem if voice else "",
            voice_sample=sample,
        )
        streams = _as_streams(at_once, at_once(footage))
    except Rejected as reason:
        raise UserError(f"{track.path}: {reason}") from reason
    return Seen(whole, duration_sec, streams, mouth)


def of_pieces(chosen: Encoders) -> Encoders:
    """Those of the encoders that are to see a video in pieces as long as the clips of training."""
    return chosen.networks.of(
        name for name in chosen.networks.by_stream if STREAMS[name].rate is not None
    )


def look_at_pieces(
    track: Track, spec: ClipSpec, chosen: Encoders, seen: Seen, starts: Sequence[int]
) -> Iterator[dict[str, np.ndarray]]:
    """Features that networks make of pieces of a video, each seen as a clip of its own.

    Args:
      track: track of the video.
      spec: geometry of a piece, that of the clips of training.
      chosen: those of `of_pieces`.
      seen: what is known of the whole.
      starts: first video frame of each piece.

    Raises:
      UserError: a file that cannot be read.
    """
    for start in starts:
        start_sec = Fraction(start, spec.video_rate)
        piece = track.piece(start_sec, start_sec + Fraction(spec.duration_sec))
        mouth = _from(seen.mouth, start)
        try:
            kept = chosen.watch(piece, spec, mouth)
            duration_sec = min(seen.duration_sec - float(start_sec), spec.duration_sec)
            footage = Footage(clip_id=track.name, spec=spec, duration_sec=duration_sec, kept=kept)
            yield _as_streams(chosen, chosen(footage))
        except Rejected as reason:
            raise UserError(f"{track.path}: {reason}") from reason


def _whole(spec: ClipSpec, duration_sec: float) -> ClipSpec:
    """Geometry of a clip that holds all of a video, and is no shorter than one of training."""
    frames = math.ceil(duration_sec * spec.latent_rate - _ROUNDING)
    return dataclasses.replace(
        spec, duration_sec=max(frames, spec.latent_frames) / spec.latent_rate
    )


def _as_streams(chosen: Encoders, features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Features as `ClipFeatures` has them."""
    return {
        name: features[name].astype(STREAMS[name].dtype)
        if len(features[name])
        else STREAMS[name].absent(width)
        for name, width in chosen.widths.items()
    }


def _find_mouth(track: Track, spec: ClipSpec, reader: LipReader) -> Mouth | None:
    """Where the mouth is, if it can be found; says what was found."""
    try:
        reader.check_installed()
    except UserError as reason:
        print(f"no mouth is known: give --mouth_box, or have it found: {reason}")
        return None
    with tqdm.tqdm(total=len(track.packets), desc="faces") as bar:
        found = reader.find_mouth(track, spec, bar.update)
    print(found.remark() if found else "no face is found")
    return found.mouth if found else None


def _from(mouth: Mouth | None, start: int) -> Mouth | None:
    """Where the mouth is from a video frame on."""
    if isinstance(mouth, Landmarks):
        return mouth if mouth.points is None else Landmarks(mouth.points[start:])
    if mouth is None or isinstance(mouth[0], int):
        return mouth
    boxes: Sequence[Any] = mouth[start:]
    return boxes


VOICE_SAMPLE_SEC = 10.0


def parse_box(text: str) -> Box | None:
    """A mouth box "left top right bottom" in pixels; None if the text is none."""
    match = re.fullmatch(r"(\d+) (\d+) (\d+) (\d+)", text.strip())
    if not match:
        return None
    left, top, right, bottom = map(int, match.groups())
    return left, top, right, bottom
