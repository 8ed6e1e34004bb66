"""Sound and speech together on V2C-Animation (Chen et al. 2022).

Words are compared as on GRID. Onsets are measured of clips whose records have `event_times_sec`.
"""

import ml_collections

METRICS = (
    *("fd_vggish", "fd_panns", "fd_passt", "kl_panns", "kl_passt", "is_panns", "is_passt"),
    *("ib_score", "desync", "wer_joint", "speaker_similarity_rawnet3", "speaker_similarity"),
    *("lse_c", "lse_d", "utmos"),
    *("speech_heard_joint", "onset_recall_in_speech", "onset_recall_out_of_speech"),
    *("dnsmos_ovrl", "dnsmos_sig", "dnsmos_bak", "mel_distance_db_joint", "fd_mel_statistics"),
)


def get_config() -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(
        {
            "tasks": ("joint",),
            "metrics": METRICS,
            "recogniser": "whisper",
            "normalisation": "whisper",
        }
    )
