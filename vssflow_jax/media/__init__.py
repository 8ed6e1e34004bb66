"""Reading and writing of video files with sound, through PyAV (the `demo` extra).

Whatever the container, everything is placed on one time line, the one that a player shows: it
begins with the first picture. Nothing is held that grows with a video's length but its sound.

container: opening and closing of files; which streams of them count.
track: when each picture is shown, and which way up.
pictures: pictures as encoders want them, in blocks.
sound: the sound, aligned with the pictures.
encode: pictures and sound to H.264 and AAC.
remux: the same pictures with another sound.
"""

from vssflow_jax.media.container import SUFFIXES, VIDEOS, located
from vssflow_jax.media.encode import write_video
from vssflow_jax.media.pictures import View, blocks, read_video
from vssflow_jax.media.remux import Plan, plan, replace_audio
from vssflow_jax.media.sound import audio_rate, mono, read_audio, read_voice, write_wav
from vssflow_jax.media.track import Track, read_track

__all__ = [
    "SUFFIXES",
    "VIDEOS",
    "Plan",
    "Track",
    "View",
    "audio_rate",
    "blocks",
    "located",
    "mono",
    "plan",
    "read_audio",
    "read_track",
    "read_video",
    "read_voice",
    "replace_audio",
    "write_video",
    "write_wav",
]
