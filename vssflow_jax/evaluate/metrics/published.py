"""Figures that papers print for the benchmarks, to stand beside those of an evaluation."""

import dataclasses
from collections.abc import Mapping
from typing import Final


@dataclasses.dataclass(frozen=True)
class Publication:
    """A table of a paper, as far as its metrics are measured here.

    Attributes:
      source: where it is printed.
      caveat: what keeps its figures from being compared with those of an evaluation.
      metrics: metrics of the columns, named and scaled as in `metrics.json`.
      systems: system -> values, in the order of `metrics`.
    """

    source: str
    caveat: str
    metrics: tuple[str, ...]
    systems: Mapping[str, tuple[float, ...]]


_MMAUDIO = Publication(
    source="MMAudio (Cheng et al. 2025), arXiv 2412.15322, table 1",
    caveat=(
        "Comparable only for the whole test split, 8 s of each clip, and features made by "
        "av-benchmark. The ImageBind score is printed there times 100."
    ),
    metrics=(
        *("fd_passt", "fd_panns", "fd_vggish", "kl_panns", "kl_passt"),
        *("is_panns", "ib_score", "desync"),
    ),
    systems={
        "V-AURA": (218.50, 14.80, 2.88, 2.42, 2.07, 10.08, 0.2764, 0.654),
        "VATT": (131.88, 10.63, 2.77, 1.48, 1.41, 11.90, 0.2500, 1.195),
        "Frieren": (106.10, 11.45, 1.34, 2.73, 2.86, 12.25, 0.2278, 0.851),
        "FoleyCrafter": (140.09, 16.24, 2.51, 2.30, 2.23, 15.68, 0.2568, 1.225),
        "V2A-Mapper": (84.57, 8.40, 0.84, 2.69, 2.56, 12.47, 0.2258, 1.225),
        "MMAudio-S-16kHz": (70.19, 5.22, 0.79, 1.65, 1.59, 14.44, 0.2913, 0.483),
        "MMAudio-L-44.1kHz": (60.60, 4.72, 0.97, 1.65, 1.40, 17.40, 0.3322, 0.442),
    },
)
_ABLATION_SOURCE = "VSSFlow (Cheng et al. 2025), arXiv 2509.24773: curves beside its code"
_ABLATION_OF_SOUND = Publication(
    source=_ABLATION_SOURCE,
    caveat=(
        "The rows say what lies beside the latent. Which features its FAD is of is not stated, so "
        "compare how the rows differ from one another, not the values."
    ),
    metrics=("ib_score", "fad", "desync"),
    systems={
        "none": (0.247, 10.76, 1.21),
        "all": (0.229, 12.41, 0.63),
        "lips, motion": (0.270, 9.32, 0.68),
        "video, text": (0.233, 12.01, 1.13),
        "lips, motion, text": (0.260, 10.26, 0.71),
    },
)
_ABLATION_OF_SPEECH = Publication(
    source=_ABLATION_SOURCE,
    caveat=(
        "The rows say what lies beside the latent. The word error rate is another recogniser's, "
        "and the clips may be another test split's, so compare how the rows differ from one "
        "another, not the values."
    ),
    metrics=("lse_d", "wer"),
    systems={
        "none": (6.94, 0.268),
        "all": (6.75, 0.148),
        "lips, motion": (6.72, 0.359),
        "video, text": (6.85, 0.146),
        "lips, motion, text": (6.80, 0.147),
    },
)

PUBLISHED: Final[Mapping[str, tuple[Publication, ...]]] = {
    "vggsound": (_MMAUDIO, _ABLATION_OF_SOUND),
    "chem": (_ABLATION_OF_SPEECH,),
    "grid": (_ABLATION_OF_SPEECH,),
    "lrs2": (_ABLATION_OF_SPEECH,),
}
"""Name of a benchmark -> tables of figures."""
