"""What a clip can be of. Another task is an entry here and splits of its name in a dataset."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Task:
    """A kind of clip.

    Attributes:
      title: heading of its clips on pages.
      seed: added to the seed of the draws of its clips; no two tasks have the same.
      page: its place on pages.
      spoken: whether somebody speaks.
      pictured: whether there is a picture.
      main_metrics: metrics in `metrics.json`; the first one that clips have orders them on pages.
    """

    title: str
    seed: int
    page: int
    spoken: bool
    pictured: bool
    main_metrics: tuple[str, ...] = ()


TASKS: dict[str, Task] = {
    "v2s": Task(
        "Sound from video (V2S)",
        seed=0,
        page=2,
        spoken=False,
        pictured=True,
        main_metrics=("onset_f1", "desync", "ib_score", "mel_distance_db_v2s"),
    ),
    "visualtts": Task(
        "Speech from lips and text (VisualTTS)",
        seed=1,
        page=0,
        spoken=True,
        pictured=True,
        main_metrics=("wer", "lse_d", "mcd_dtw", "mel_distance_db_visualtts"),
    ),
    "tts": Task(
        "Speech from text (TTS)",
        seed=2,
        page=1,
        spoken=True,
        pictured=False,
        main_metrics=("wer_tts", "mcd_dtw", "mel_distance_db_tts"),
    ),
    "joint": Task(
        "Both at once (joint)",
        seed=3,
        page=3,
        spoken=True,
        pictured=True,
        main_metrics=("wer_joint", "onset_recall_joint", "desync", "mel_distance_db_joint"),
    ),
}
"""Name in records, splits and configs -> task."""


def on_pages() -> list[str]:
    """The names in the order of pages."""
    return sorted(TASKS, key=lambda name: TASKS[name].page)
