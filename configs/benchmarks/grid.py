"""Dubbing on GRID (Cooke et al. 2006), as VSSFlow's evaluation scripts have it.

Words are recognised by Whisper (the paper takes its large network), and both texts go through its
normaliser of English; the plain figure stands beside it. The naturalness is UTMOS's, and voices are
compared as VERSA does, by RawNet3.
"""

import ml_collections

METRICS = (
    *("wer", "wer_plain", "wer_utterance", "cer", "speaker_similarity_rawnet3"),
    *("speaker_similarity", "utmos", "speech_heard"),
    *("mcd", "mcd_dtw", "mcd_dtw_sl", "lse_c", "lse_d", "dnsmos_ovrl", "dnsmos_sig", "dnsmos_bak"),
    *("mel_distance_db_visualtts", "fd_mel_statistics"),
)


def get_config() -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(
        {
            "tasks": ("visualtts",),
            "metrics": METRICS,
            "recogniser": "whisper",
            "normalisation": "whisper",
        }
    )
