"""Dubbing on Chem (Lip2Wav's chemistry lectures, Prajwal et al. 2020).

Any sentence may be said, and the recogniser here knows GRID alone: score `wer` with ESPnet or VERSA
on the lists beside the wavs.
"""

import ml_collections

METRICS = (
    *("wer", "wer_utterance", "speaker_similarity", "mcd", "mcd_dtw", "mcd_dtw_sl"),
    *("lse_c", "lse_d", "utmos", "dnsmos_ovrl", "dnsmos_sig", "dnsmos_bak"),
    *("mel_distance_db_visualtts", "fd_mel_statistics"),
)


def get_config() -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(
        {"tasks": ("visualtts",), "metrics": METRICS, "recogniser": "none"}
    )
