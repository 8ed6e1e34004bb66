"""What can be seen and heard of one video of any length, for sound to be generated for it."""

import dataclasses
import math
import re
from collections.abc import Collection
from pathlib import Path

import ml_collections
import numpy as np
import tqdm

from vssflow_jax import media
from vssflow_jax.clip import ClipSpec
from vssflow_jax.features import encoders, faces
from vssflow_jax.features.footage import Box, Encoders, Footage, Mouth
from vssflow_jax.features.weights_free import WEIGHTS_FREE
from vssflow_jax.input_pipeline import dataset
from vssflow_jax.input_pipeline.records import on_disk
from vssflow_jax.input_pipeline.streams import STREAMS
from vssflow_jax.media import Track
from vssflow_jax.utils.errors import Rejected, UserError

_ROUNDING = 1e-6


@dataclasses.dataclass(frozen=True)
class Seen:
    """A video as a model is told of it.

    Attributes:
      spec: geometry of a clip that holds all of it, and is no shorter than those of training.
      duration_sec: duration of the video itself.
      streams: features by name, as `ClipFeatures` has them.
    """

    spec: ClipSpec
    duration_sec: float
    streams: dict[str, np.ndarray]


def encoders_of(
    data: ml_collections.ConfigDict,
    clip: str,
    speaker: str,
    features_root: str,
    weights_free: Collection[str],
) -> Encoders:
    """The encoders to look at a video with; those without weights as the run's dataset had them.

    Args:
      data: the section of the run's config.
      clip, speaker, features_root, weights_free: see `vssflow_jax.features.encoders.choose`; the
        last, if empty, are taken from what the dataset says of itself, where it is at hand.

    Raises:
      UserError: as `choose` says, or a damaged dataset.
    """
    networks = {"visual": clip, "speaker": speaker}
    if not weights_free:
        recorded = _recorded(data)
        weights_free = [
            name
            for name, encoder in WEIGHTS_FREE.by_stream.items()
            if f"{on_disk(name)}={encoder!r}" in recorded and not networks.get(name)
        ]
    return encoders.choose(clip, speaker, features_root, weights_free)


def _recorded(data: ml_collections.ConfigDict) -> str:
    """The encoders of a run's dataset, as its metadata names them; empty if they are not known."""
    if data.source == "demo":
        return repr(WEIGHTS_FREE)
    if not dataset.exists(data.path):
        return ""
    _, _, metadata = dataset.open_metadata(Path(data.path))
    return str(metadata.get("origin", {}).get("encoders", ""))


def look(
    track: Track, spec: ClipSpec, chosen: Encoders, mouth: Mouth | None, voice: Path | None
) -> Seen:
    """Features of a whole video.

    Args:
      track: track of the video; its name is the clip's, for features from files.
      spec: geometry of the clips of training.
      chosen: encoders.
      mouth: where it is, in pixels of the video as it is shown; found if it is None.
      voice: sound file of the speaker, of whom its name is the voice's.

    Raises:
      UserError: a file that cannot be read, or features that do not fit.
    """
    duration_sec = float(track.duration)
    latent_frames = math.ceil(duration_sec * spec.latent_rate - _ROUNDING)
    whole = dataclasses.replace(
        spec, duration_sec=max(latent_frames, spec.latent_frames) / spec.latent_rate
    )
    sample = media.read_voice(voice, spec.sampling_rate, VOICE_SAMPLE_SEC) if voice else None
    if mouth is None and chosen.need_mouth(whole):
        mouth = _find_mouth(track, whole)
    try:
        with tqdm.tqdm(total=len(track.packets), desc="look") as bar:
            kept = chosen.watch(track, whole, mouth, bar.update)
        footage = Footage(
            clip_id=track.name,
            spec=whole,
            duration_sec=duration_sec,
            kept=kept,
            voice=voice.stem if voice else "",
            voice_sample=sample,
        )
        features = chosen(footage)
    except Rejected as reason:
        raise UserError(f"{track.path}: {reason}") from reason
    streams = {
        name: features[name].astype(STREAMS[name].dtype)
        if len(features[name])
        else STREAMS[name].absent(width)
        for name, width in chosen.widths.items()
    }
    return Seen(whole, duration_sec, streams)


def _find_mouth(track: Track, spec: ClipSpec) -> Mouth | None:
    """Where the mouth is, if it can be found; says what was found."""
    if not faces.available():
        print("no mouth is known: give --mouth_box, or have it found: pip install -e '.[faces]'")
        return None
    with tqdm.tqdm(total=len(track.packets), desc="faces") as bar:
        found = faces.find_mouths(track, spec.video_rate, spec.video_frames, bar.update)
    print(found.remark() if found else "no face is found")
    return found.boxes if found else None


VOICE_SAMPLE_SEC = 10.0


def parse_box(text: str) -> Box | None:
    """A mouth box "left top right bottom" in pixels; None if the text is none."""
    match = re.fullmatch(r"(\d+) (\d+) (\d+) (\d+)", text.strip())
    if not match:
        return None
    left, top, right, bottom = map(int, match.groups())
    return left, top, right, bottom
