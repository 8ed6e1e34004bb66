"""The demo set's test part, with everything that can be measured without a download."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict({"versions": ("codec", "shuffled"), "mp4": True})
