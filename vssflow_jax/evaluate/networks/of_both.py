"""The networks that hold a sound against its pictures, each in two halves.

Letters: n samples or pictures, w windows, b segments or pieces of a clip.
"""

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vssflow_jax import media
from vssflow_jax.audio.mfcc import mfcc
from vssflow_jax.clip import to_int16
from vssflow_jax.evaluate.networks import synchformer
from vssflow_jax.evaluate.networks.judge import Example, Judge, at_least, row_by_row
from vssflow_jax.evaluate.networks.sounds import check_pictures, read_pictures, read_sound
from vssflow_jax.evaluate.networks.store import Made
from vssflow_jax.features import face_tracks, faces
from vssflow_jax.networks import imagebind, synchformer_sound, syncnet
from vssflow_jax.networks import synchformer as synchformer_video
from vssflow_jax.networks.spread import Spread
from vssflow_jax.utils.errors import UserError
from vssflow_jax.weights import folder

_PICTURE_SEC = 2.0  # from one picture that ImageBind is shown to the next
_VIDEO_RATE = 25
_SIDE = 224  # of pictures
_IMAGEBIND = "imagebind_huge.pth from facebookresearch/ImageBind"
_SYNCNET = "syncnet_v2.model from VGG, Oxford"
_SYNCHFORMER = "synchformer_state_dict.pth from hkchengrex/MMAudio v0.1"


class ImageBindSound(Judge):
    """ImageBind: what is heard, in the space of what is seen."""

    kind, title = "imagebind", "ImageBind"
    source = _IMAGEBIND

    def example(self, path: Path, max_sec: float) -> Example:
        """Three pieces [b, n]: of the start, the middle and the end."""
        piece = int(imagebind.SOUND_SEC * imagebind.SAMPLING_RATE)
        waveform = read_sound(path, max_sec=max_sec, centre=True, first_channel=True)
        at_least(piece, "ImageBind", waveform)
        starts = np.linspace(0, len(waveform) - piece, imagebind.SOUND_CLIPS).astype(int)
        return waveform[starts[:, None] + np.arange(piece)]

    def features(self, examples: Sequence[Example]) -> list[Made]:
        rows = row_by_row(Spread.load("imagebind_sound", self.weights), examples)
        return [{"sound": of_clip.mean(axis=0)} for of_clip in rows]


class ImageBindVideo(Judge):
    """ImageBind: what is seen, in the space of what is heard."""

    kind, shown, title = "imagebind", "video", "ImageBind"
    source = _IMAGEBIND

    def check(self) -> None:
        """See `Judge`."""
        check_pictures()
        super().check()

    def example(self, path: Path, max_sec: float) -> Example:
        """Pairs of neighbouring pictures [b, 2, h, w, 3], from both ends and the middle of each."""
        pictures = read_pictures(path, 1 / _PICTURE_SEC, _SIDE, max_sec, whole=True)
        if len(pictures) < imagebind.FRAMES:
            raise UserError(f"{path}: of 2 s or less, of which ImageBind sees no two pictures")
        along = int(np.argmax(pictures.shape[1:3])) + 1
        spare = pictures.shape[along] - _SIDE
        crops = (
            pictures.take(np.arange(start, start + _SIDE), axis=along)
            for start in (0, -(-spare // 2), spare)
        )
        pairs = (itertools.pairwise(crop) for crop in crops)
        return np.stack([np.stack(pair) for of_crop in pairs for pair in of_crop])

    def features(self, examples: Sequence[Example]) -> list[Made]:
        rows = row_by_row(Spread.load("imagebind_video", self.weights), examples)
        return [{"video": of_clip.mean(axis=0)} for of_clip in rows]


class OfSynchformer(Judge):
    """One of the sides of Synchformer, whose file holds both and what compares them."""

    kind, title = "synchformer", "Synchformer"
    source = _SYNCHFORMER

    def check(self) -> None:
        """See `Judge`."""
        if folder.is_imported(self.weights):
            raise UserError(
                f"{self.weights} holds one side of Synchformer: name the file {_SYNCHFORMER}, "
                "which holds both and what compares them"
            )
        synchformer.load(self.weights)


class SynchformerSound(OfSynchformer):
    """Synchformer: what is heard when."""

    def example(self, path: Path, max_sec: float) -> Example:
        """Segments [b, n]."""
        segments = synchformer_sound.segments(read_sound(path, max_sec=max_sec, centre=True))
        _check_long_enough(path, len(segments))
        return segments

    def features(self, examples: Sequence[Example]) -> list[Made]:
        rows = row_by_row(Spread.load("synchformer_sound", self.weights), examples)
        return [{"sound": tokens} for tokens in rows]


class SynchformerVideo(OfSynchformer):
    """Synchformer: what moves when."""

    shown = "video"

    def check(self) -> None:
        """See `Judge`."""
        check_pictures()
        super().check()

    def example(self, path: Path, max_sec: float) -> Example:
        """Pictures [n, h, w, 3]."""
        pictures = read_pictures(path, _VIDEO_RATE, _SIDE, max_sec)
        _check_long_enough(path, synchformer_video.count_segments(len(pictures)))
        return pictures

    def features(self, examples: Sequence[Example]) -> list[Made]:
        segments = [synchformer_video.segments(pictures) for pictures in examples]
        rows = row_by_row(Spread.load("synchformer", self.weights), segments)
        return [{"video": tokens} for tokens in rows]


class SyncNetSound(Judge):
    """SyncNet: what lips would do at what is heard."""

    kind, title = "syncnet", "SyncNet"
    source = _SYNCNET

    def example(self, path: Path, max_sec: float) -> Example:
        """Cepstra [w, 13, 20] of the whole sound, as it is."""
        samples = to_int16(read_sound(path, max_sec=max_sec))
        count = syncnet.count_windows(sys.maxsize, len(samples))
        if not count:
            raise UserError(f"{path}: shorter than 0.24 s, of which SyncNet hears no window")
        return syncnet.sound_windows(mfcc(samples), count).astype(np.float32)

    def features(self, examples: Sequence[Example]) -> list[Made]:
        rows = row_by_row(Spread.load("syncnet_sound", self.weights), examples)
        return [{"sound": of_clip} for of_clip in rows]


class SyncNetVideo(Judge):
    """SyncNet: what lips do, of the face that is followed for longest."""

    kind, shown, title = "syncnet", "video", "SyncNet"
    source = _SYNCNET

    def check(self) -> None:
        """See `Judge`."""
        check_pictures()
        faces.check_installed()
        super().check()

    def example(self, path: Path, max_sec: float) -> Example:
        """Number of the first picture of the face's track, and its faces [n, h, w, 3]."""
        track = media.read_track(path)
        seconds = min(float(track.duration), max_sec or float("inf"))
        count = max(round(seconds * face_tracks.RATE), 1)
        face = face_tracks.find(track, count)
        if face is None:
            raise UserError(
                f"{path}: no face is seen in at least {face_tracks.least_seen(count)} pictures of "
                f"{count}, of at least {face_tracks.SMALLEST:g} pixels and followed from one to "
                "the next"
            )
        return face.first, face_tracks.cut(track, face)

    def features(self, examples: Sequence[Example]) -> list[Made]:
        """A clip at a time: each picture is in five windows."""
        apply = Spread.load("syncnet_video", self.weights)
        made: list[Made] = []
        for first, pictures in examples:
            count = syncnet.count_windows(len(pictures), sys.maxsize)
            rows = apply(syncnet.picture_windows(pictures, count))
            made.append({"video": rows, "first": np.int32(first)})
        return made


def _check_long_enough(path: Path, segments: int) -> None:
    if segments < synchformer.SEGMENTS:
        raise UserError(
            f"{path}: {segments} segments, shorter than the {synchformer.SEGMENTS} (4.8 s) that "
            "Synchformer compares"
        )
