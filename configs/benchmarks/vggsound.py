"""Sound from video on VGGSound's test split (Chen et al. 2020), as V2S papers report it.

The first 8 s of a clip are measured, as av-benchmark does.
"""

import ml_collections

METRICS = (
    *("fd_vggish", "fd_panns", "fd_passt", "kl_panns", "kl_passt", "is_panns", "is_passt"),
    *("ib_score", "desync", "speech_leak", "mel_distance_db_v2s", "fd_mel_statistics"),
)


def get_config() -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict({"tasks": ("v2s",), "clip_sec": 8.0, "metrics": METRICS})
