"""Every metric: what it is called and how it is judged, of which clips it is, how it is measured.

A metric of your own is an entry of `METRICS` and a function (docs/extending.md).
"""

import dataclasses
import functools
import importlib.util
from collections.abc import Iterable, Mapping
from typing import Final, Literal

from vssflow_jax.audio import mel
from vssflow_jax.evaluate.metrics import of_clips, of_sets, of_words
from vssflow_jax.evaluate.metrics.labels import Label
from vssflow_jax.evaluate.metrics.of_clips import Fraction, OfClip, Prediction, Reference
from vssflow_jax.evaluate.metrics.of_sets import OfFeatures, OfRows, Pairing, mel_statistics
from vssflow_jax.evaluate.metrics.of_words import OfWords
from vssflow_jax.evaluate.networks import files, panns, synchformer, vggish
from vssflow_jax.evaluate.networks.files import Cache
from vssflow_jax.evaluate.rows import Row
from vssflow_jax.features import faces, voice_activity, voices
from vssflow_jax.input_pipeline.tasks import TASKS
from vssflow_jax.utils.errors import UserError

WORDS, EVENTS, SPEECH, CAPTION = "words", "events", "speech", "caption"


@dataclasses.dataclass(frozen=True)
class Metric:
    """Everything about one metric; it is measured in one of four ways, or elsewhere, or not.

    Attributes:
      label: how it is called, written and judged.
      tasks: tasks of clips that have it; () for all.
      of_clip: of a clip's sound, the true one, and what is known of the clip. It may raise
        UserError where a clip is not fit for it.
      of_words: of what is said in a clip, and what a recogniser hears.
      of_features: of features of all sounds that lie in folders.
      of_rows: of the rows of all clips, for each version.
      needs: what a clip must have, `WORDS`, `EVENTS`, `SPEECH` or `CAPTION`; "" for nothing.
      package: package that it needs, by the name to import; "" for none.
      install: the command that installs the package.
    """

    label: Label
    tasks: tuple[str, ...] = ()
    of_clip: OfClip | None = None
    of_words: OfWords | None = None
    of_features: OfFeatures | None = None
    of_rows: OfRows | None = None
    needs: str = ""
    package: str = ""
    install: str = ""

    @property
    def measured(self) -> bool:
        """Whether it is measured here."""
        return bool(self.of_clip or self.of_words or self.of_features or self.of_rows)

    @property
    def absence(self) -> str:
        """How to get it, if its package is not installed; else ""."""
        if not self.package or importlib.util.find_spec(self.package):
            return ""
        return f"the package {self.package} is not installed: {self.install}"

    def is_of(self, task: str) -> bool:
        """Whether clips of a task can have it."""
        spoken = TASKS[task].spoken or self.needs != SPEECH
        return spoken and (not self.tasks or task in self.tasks)

    def applies(self, reference: Reference) -> bool:
        """Whether a clip can have it at all."""
        has = {
            WORDS: bool(reference.transcript),
            EVENTS: len(reference.event_times_sec) > 0,
            CAPTION: bool(reference.caption),
        }
        return has.get(self.needs, True) and self.is_of(reference.task)


_RATE = functools.partial(Label, better="lower", unit="%", scale=100.0, decimals=1)


def _of_words(measure: OfWords, name: str, explanation: str, task: str = "") -> Metric:
    label = _RATE(name=name, explanation=explanation, task=task)
    return Metric(label, (task or "visualtts",), of_words=measure, needs=WORDS)


def _word_error_rate(task: str = "") -> Metric:
    explanation = "share of the transcripts' words that a speech recogniser gets wrong."
    return _of_words(of_words.word_error_rate, "Word error rate", explanation, task)


_WITH_VOICE_ACTIVITY = functools.partial(
    Metric, package=voice_activity.PACKAGE, install=voice_activity.INSTALL
)


def _presence_of_speech(label: Label, *tasks: str) -> Metric:
    return _WITH_VOICE_ACTIVITY(label, tasks, of_clip=of_clips.presence_of_speech)


def _speech_heard(*tasks: str, task: str = "") -> Metric:
    label = _RATE(
        name="Speech heard",
        better="higher",
        explanation="share of the clips with a speaker in which a network hears speech.",
        task=task,
    )
    return _presence_of_speech(label, *tasks)


def _recall_by_speech(where: str, explanation: str, *, spoken: bool) -> Metric:
    return _WITH_VOICE_ACTIVITY(
        Label(
            name=f"Onset recall {where}",
            better="higher",
            explanation=explanation,
            decimals=2,
            task="joint",
        ),
        ("joint",),
        of_clip=functools.partial(of_clips.recall_of_onsets_by_speech, spoken=spoken),
        needs=EVENTS,
    )


def _distortion(kind: str, name: str, explanation: str) -> Metric:
    return Metric(
        Label(
            name=f"Mel-cepstral distortion{name}",
            better="lower",
            explanation=explanation,
            unit="dB",
            decimals=2,
        ),
        ("visualtts", "tts"),
        of_clip=functools.partial(of_clips.distortion, kind=kind),
        package="pyworld",
        install="pip install -e '.[metrics]'",
    )


def _opinion(
    what: str, predictor: str, most: int = 5, better: Literal["higher", ""] = "higher"
) -> Label:
    scale = f"on a scale of 1 to {most}"
    return Label(
        name=f"{predictor}, {what}",
        better=better,
        explanation=f"{what} {scale}, as a network predicts listeners to rate it.",
        decimals=2,
    )


def _aesthetics(scores: Cache, what: str, better: Literal["higher", ""] = "higher") -> Metric:
    label = _opinion(what, "Audiobox", 10, better)
    return Metric(label, of_features=OfFeatures(scores, None, of_sets.opinion))


def _dnsmos(name: str, what: str, predictor: str = "DNSMOS") -> Metric:
    return Metric(
        _opinion(what, predictor),
        needs=SPEECH,
        of_clip=functools.partial(of_clips.opinion, name=name),
        package="speechmos",
        install="pip install -e '.[metrics]'",
    )


def _nisqa(name: str, what: str) -> Metric:
    of_features = OfFeatures(files.NISQA_SCORES[name], None, of_sets.opinion)
    return Metric(_opinion(what, "NISQA"), needs=SPEECH, of_features=of_features)


def _distance(features: str, explanation: str) -> Label:
    return Label(
        name=f"Fréchet distance, {features}", better="lower", explanation=explanation, decimals=2
    )


def _network_distance(network: str, features: Cache, paired: Pairing = "") -> Metric:
    label = _distance(network, "of features from those of the original sounds.")
    return Metric(label, of_features=OfFeatures(features, features, of_sets.distance, paired))


def _divergence(network: str, logits: Cache, paired: Pairing) -> Metric:
    label = Label(
        name=f"KL divergence, {network}",
        better="lower",
        explanation=f"of the classes that {network} hears from those in the original sound.",
        decimals=2,
    )
    return Metric(label, of_features=OfFeatures(logits, logits, of_sets.divergence, paired))


def _inception(network: str, logits: Cache, paired: Pairing = "") -> Metric:
    label = Label(
        name=f"Inception score, {network}",
        better="higher",
        explanation=f"how sure {network} is of each sound's class, and how many classes there are.",
        decimals=2,
    )
    reference = logits if paired else None
    return Metric(label, of_features=OfFeatures(logits, reference, of_sets.inception, paired))


def _lip_sync(of: Literal["confidence", "distance"], label: Label) -> Metric:
    return Metric(
        label,
        ("visualtts", "joint"),
        needs=SPEECH,
        of_features=OfFeatures(
            files.SYNCNET_SOUND,
            files.SYNCNET_VIDEO,
            functools.partial(of_sets.lip_sync, of=of),
            paired="exact",
            further=(files.SYNCNET_FIRST,),
            unfit="the sound ends before the face is seen",
        ),
        package=faces.PACKAGE,
        install=faces.INSTALL,
    )


def _mel_distance(task: str) -> Metric:
    label = Label(
        name="Mel distance",
        better="lower",
        explanation="mean difference of the mel spectrogram from that of the original sound.",
        unit="dB",
        decimals=1,
        task=task,
    )
    return Metric(label, (task,), of_clip=of_clips.distance_of_mels)


METRICS: dict[str, Metric] = {
    "wer": _word_error_rate(),
    "wer_tts": _word_error_rate("tts"),
    "wer_joint": _word_error_rate("joint"),
    "wer_plain": _of_words(
        of_words.plain_word_error_rate,
        "Word error rate, plain",
        "of texts in lower case and without punctuation, otherwise as they are.",
    ),
    "wer_utterance": _of_words(
        of_words.word_error_rate_of_utterance,
        "Word error rate, mean of utterances",
        "each utterance counts the same, however long it is.",
    ),
    "cer": _of_words(
        of_words.character_error_rate,
        "Character error rate",
        "share of the transcripts' characters that a speech recogniser gets wrong.",
    ),
    "speaker_similarity": Metric(
        Label(
            name="Speaker similarity",
            better="higher",
            explanation="cosine between the voice and that of the original sound; 1 is the same.",
            decimals=3,
        ),
        of_clip=of_clips.likeness_of_voices,
        needs=SPEECH,
        package=voices.PACKAGE,
        install=voices.INSTALL,
    ),
    "speaker_similarity_rawnet3": Metric(
        Label(
            name="Speaker similarity, RawNet3",
            better="higher",
            explanation="cosine between RawNet3's vectors of the voice and of that of the original "
            "sound; VERSA's figure, if the weights are ESPnet's.",
            decimals=3,
        ),
        needs=SPEECH,
        of_features=OfFeatures(files.VOICE, files.VOICE, of_sets.similarity, paired="exact"),
    ),
    "mcd": _distortion("plain", "", "from the original sound, frame by frame."),
    "mcd_dtw": _distortion(
        "dtw", ", DTW", "after both sounds are aligned by dynamic time warping."
    ),
    "mcd_dtw_sl": _distortion("dtw_sl", ", DTW-SL", "aligned, and times the ratio of the lengths."),
    "lse_c": _lip_sync(
        "confidence",
        Label(
            name="Lip-sync confidence (LSE-C)",
            better="higher",
            explanation="of SyncNet in the offset that it finds between lips and sound.",
            decimals=2,
        ),
    ),
    "lse_d": _lip_sync(
        "distance",
        Label(
            name="Lip-sync distance (LSE-D)",
            better="lower",
            explanation="between SyncNet's features of lips and sound.",
            decimals=2,
        ),
    ),
    "utmos": Metric(
        _opinion("naturalness", "UTMOS"),
        needs=SPEECH,
        of_features=OfFeatures(files.OPINION, None, of_sets.opinion),
    ),
    "audiobox_ce": _aesthetics(files.ENJOYMENT, "content enjoyment"),
    "audiobox_cu": _aesthetics(files.USEFULNESS, "content usefulness"),
    # How many things are to be heard at once: no virtue, and no fault.
    "audiobox_pc": _aesthetics(files.COMPLEXITY, "production complexity", better=""),
    "audiobox_pq": _aesthetics(files.QUALITY, "production quality"),
    "nisqa_mos": _nisqa("mos", "overall quality"),
    "nisqa_noi": _nisqa("noi", "noisiness (5: none)"),
    "nisqa_dis": _nisqa("dis", "discontinuity (5: none)"),
    "nisqa_col": _nisqa("col", "coloration (5: none)"),
    "nisqa_loud": _nisqa("loud", "loudness (5: as it should be)"),
    "dnsmos_ovrl": _dnsmos("ovrl", "overall quality"),
    "dnsmos_sig": _dnsmos("sig", "speech quality"),
    "dnsmos_bak": _dnsmos("bak", "quietness of the background"),
    "dnsmos_p808": _dnsmos("p808", "overall quality", "DNSMOS P.808"),
    "onset_f1": Metric(
        Label(
            name="Onset F1",
            better="higher",
            explanation="how well the onsets heard coincide with the events seen; 1 is perfect.",
            decimals=2,
        ),
        ("v2s",),
        of_clip=of_clips.f1_of_onsets,
        needs=EVENTS,
    ),
    "onset_recall_joint": Metric(
        Label(
            name="Onset recall",
            better="higher",
            explanation="share of the events seen that are heard; speech has onsets of its own.",
            decimals=2,
            task="joint",
        ),
        ("joint",),
        of_clip=of_clips.recall_of_onsets,
        needs=EVENTS,
    ),
    "onset_recall_in_speech": _recall_by_speech(
        "in speech",
        "of the events seen during the original sound's speech, the share that is heard.",
        spoken=True,
    ),
    "onset_recall_out_of_speech": _recall_by_speech(
        "out of speech",
        "of the events seen outside the original sound's speech, the share that is heard.",
        spoken=False,
    ),
    "speech_heard": _speech_heard("visualtts", "tts"),
    "speech_heard_joint": _speech_heard("joint", task="joint"),
    "speech_leak": _presence_of_speech(
        _RATE(
            name="Speech leak",
            explanation="share of the clips without a speaker in which a network hears speech; "
            "original sounds may hold some too.",
        ),
        "v2s",
    ),
    "desync": Metric(
        Label(
            name="DeSync",
            better="lower",
            explanation="offset between picture and sound that Synchformer finds.",
            unit="s",
            decimals=3,
        ),
        of_features=OfFeatures(
            synchformer.AUDIO,
            synchformer.VIDEO,
            of_sets.synchrony,
            paired="clean",
            network="synchformer",
            unfit="picture or sound is shorter than 4.8 s",
        ),
    ),
    "ib_score": Metric(
        Label(
            name="ImageBind score",
            better="higher",
            explanation="cosine between ImageBind's features of picture and sound.",
            decimals=3,
        ),
        of_features=OfFeatures(
            files.IMAGEBIND_AUDIO, files.IMAGEBIND_VIDEO, of_sets.similarity, paired="clean"
        ),
    ),
    "clap_score": Metric(
        Label(
            name="CLAP score",
            better="higher",
            explanation="cosine between LAION-CLAP's features of the sound and of its caption.",
            decimals=3,
        ),
        needs=CAPTION,
        of_features=OfFeatures(
            files.CLAP_FEATURES, files.CLAP_TEXT, of_sets.similarity, paired="clean"
        ),
    ),
    "fad": Metric(_distance("features not stated", "")),  # papers print it
    "fd_vggish": _network_distance("VGGish", vggish.FEATURES),
    "fd_panns": _network_distance("PANNs", panns.FEATURES),
    "fd_passt": _network_distance("PaSST", files.PASST_FEATURES, paired="clean"),
    "fd_clap": _network_distance("LAION-CLAP", files.CLAP_FEATURES, paired="clean"),
    "fd_mel_statistics": Metric(
        _distance(
            "mel statistics",
            "of mean and deviation of each mel band; not comparable with any network's.",
        ),
        of_rows=of_sets.mel_distances,
    ),
    "kl_panns": _divergence("PANNs", panns.LOGITS, paired="exact"),
    "kl_passt": _divergence("PaSST", files.PASST_LOGITS, paired="clean"),
    "is_panns": _inception("PANNs", panns.LOGITS),
    "is_passt": _inception("PaSST", files.PASST_LOGITS, paired="clean"),
    "mel_distance_db_visualtts": _mel_distance("visualtts"),
    "mel_distance_db_tts": _mel_distance("tts"),
    "mel_distance_db_v2s": _mel_distance("v2s"),
    "mel_distance_db_joint": _mel_distance("joint"),
}
"""Name in `metrics.json` -> metric, in the order to show. av-benchmark calls those of networks
FD-VGG, FD-PANN, FD-PASST, KL-PANNS-softmax, KL-PASST-softmax, ISC-PANNS-mean, ISC-PASST-mean,
IB-Score, LAION-CLAP-Score and DeSync."""


GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "Words": ("wer", "cer"),
    "Speech": ("speaker", "mcd", "speech"),
    "As listeners would rate it": ("utmos", "audiobox", "nisqa", "dnsmos"),
    "In time with the picture": ("onset", "desync", "lse"),
    "What the sound is of": ("fad", "fd", "kl", "is", "ib", "clap"),
    "Spectrogram": ("mel",),
}
"""Heading -> first words of the names of the metrics below it."""


def group(metric: str) -> str:
    """The heading that a metric stands below."""
    first = metric.partition("_")[0]
    return next((heading for heading, words in GROUPS.items() if first in words), "Others")


def label(metric: str) -> Label:
    """The label of a metric; one that is not known here goes by its own name."""
    if metric in METRICS:
        return METRICS[metric].label
    return Label(metric.replace("_", " ").capitalize())


def in_order(metrics: Iterable[str]) -> list[str]:
    """Metrics as they are to be shown; those not known here come last."""
    places = {name: place for place, name in enumerate(METRICS)}
    return sorted(metrics, key=lambda metric: places.get(metric, len(places)))


def score_clip(
    row: Row,
    reference: Reference,
    sounds: Mapping[str, Prediction],
    metrics: Mapping[str, Metric],
) -> Row:
    """Measure a clip, and add what is found to its row.

    Args:
      row: of the clip.
      reference: what is known of it; events after the end of the true sound do not count.
      sounds: version -> sound; the true one is among them.
      metrics: metrics of clips, by name; if one is of words, they are recognised here.
    """
    end_sec = len(sounds["ground_truth"].samples) / mel.SAMPLING_RATE
    times = reference.event_times_sec
    reference = dataclasses.replace(reference, event_times_sec=times[times < end_sec])
    scores: dict[str, dict[str, Fraction]] = {version: {} for version in sounds}
    problems = dict(row.problems)
    applying = {name: metric for name, metric in metrics.items() if metric.applies(reference)}
    for name, metric in applying.items():
        if metric.of_clip is None:
            continue
        for version, sound in sounds.items():
            try:
                fraction = metric.of_clip(sound, sounds["ground_truth"], reference)
            except UserError as error:
                problems[name] = f"{version}: {error}"
                continue
            if any(fraction):  # else the clip holds nothing that the metric is of
                scores[version][name] = fraction
    of_words = any(metric.of_words for metric in applying.values())
    return dataclasses.replace(
        row,
        scores=scores,
        recognised={version: sound.recognised for version, sound in sounds.items() if of_words},
        mel_statistics={
            version: mel_statistics(sound.log_mel).tolist() for version, sound in sounds.items()
        },
        problems=problems,
    )
