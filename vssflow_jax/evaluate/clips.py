"""Clips of a benchmark to sounds and rows, so that an evaluation may be stopped anywhere.

Clips go through in batches, and what is known of a batch is written before the next but one begins:
the sounds, and a row for each clip of what was measured. So memory does not grow with their number,
and an evaluation that was killed goes on where it was. Of many processes each vocodes, measures and
writes its share of every batch.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path

import jax
import ml_collections
import tqdm

from vssflow_jax import media
from vssflow_jax.audio import mel
from vssflow_jax.evaluate import rows
from vssflow_jax.evaluate.benchmark import Benchmark, Place
from vssflow_jax.evaluate.metrics.of_clips import Prediction, Reference
from vssflow_jax.evaluate.metrics.registry import METRICS, Metric, score_clip
from vssflow_jax.evaluate.rows import Row
from vssflow_jax.evaluate.versions import Renderer
from vssflow_jax.input_pipeline.dataset import BadRecord, Dataset
from vssflow_jax.input_pipeline.example import Clip
from vssflow_jax.parallel import distributed
from vssflow_jax.run.experiment import InferenceState
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import as_path
from vssflow_jax.utils.logs import JsonLines
from vssflow_jax.utils.processes import workers_for


@dataclasses.dataclass(frozen=True)
class Names:
    """The clips that were met, by name: files are called like them, so that each needs its own.

    Attributes:
      places: name -> where the clip lies.
    """

    places: dict[str, Place]

    def add(self, clips: Mapping[Place, str], dataset: Path) -> None:
        """Add the names of clips.

        Raises:
          UserError: another clip has the name of one.
        """
        for place, name in clips.items():
            other = self.places.setdefault(name, place)
            if other != place:
                raise UserError(
                    f"dataset {dataset}: {other.task} clip {other.index} and {place.task} clip "
                    f"{place.index} are both called '{name}', and their sounds would be one file; "
                    "give each clip a name of its own and build the dataset again, or name a "
                    "benchmark whose tasks hold only one of them"
                )


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Clips of a benchmark to rows.

    Attributes:
      config: config of the model.
      benchmark: the benchmark that the clips are of.
      dataset: the dataset that holds them.
      places: where in it.
      out: gets rows and sounds.
    """

    config: ml_collections.ConfigDict
    benchmark: Benchmark
    dataset: Dataset
    places: Sequence[Place]
    out: Path

    def run(self, renderer: Renderer, state: InferenceState) -> None:
        """Make the rows that are not there yet; all processes return together.

        Raises:
          UserError: two clips have one name, or a sound cannot be written.
        """
        good = [row for row in rows.read(self.out) if not row.failed]
        names = Names({row.clip_id: Place(row.task, row.index) for row in good})
        done = {*names.places.values()}
        # All have read them before anyone writes another.
        distributed.wait_for_all(f"read {self.out}")
        size = min(self.config.eval.batch_size, len(self.places))
        # Of the same clips however often it is stopped: what is generated may depend on its batch
        # in the last bits.
        batches = [self.places[i : i + size] for i in range(0, len(self.places), size)]
        for kind in ("wav", "reference", *(["mp4"] if self.benchmark.mp4 else [])):
            (self.out / kind).mkdir(exist_ok=True)
        bar = tqdm.tqdm(
            total=len(self.places),
            initial=len(done),
            desc=self.benchmark.name,
            unit="clip",
            disable=not distributed.is_main(),
        )
        with (
            bar,
            rows.log(self.out, jax.process_index()) as log,
            workers_for(len(self.places) - len(done)) as workers,
        ):
            measured: list[Future[Row]] = []
            for batch in [*batches, []]:  # the empty one waits for the last
                missing = [place for place in batch if place not in done]
                submitted = []
                if missing:
                    submitted = self._submit(
                        batch, missing, names, size, renderer, state, log, workers
                    )
                # While these were generated, those of the batch before were measured.
                for row in measured:
                    log.write(dataclasses.asdict(row.result()))
                measured = submitted
                bar.update(len(missing))
        distributed.wait_for_all(f"evaluated {self.out}")

    def _submit(
        self,
        batch: Sequence[Place],
        missing: Sequence[Place],
        names: "Names",
        size: int,
        renderer: Renderer,
        state: InferenceState,
        log: JsonLines,
        workers: Executor,
    ) -> list[Future[Row]]:
        """Generate a batch, write this process's sounds of it, and start to measure them."""
        clips, failed = self._read(batch)
        # Each process reads every clip, so that all of them stop at the same one.
        names.add({place: clip.clip_id for place, clip in clips.items()}, self.dataset.path)
        for place in missing:
            if place in failed and distributed.is_main():
                log.write(dataclasses.asdict(Row(place.task, place.index, failed=failed[place])))
        if not clips:
            return []
        members = list(clips)
        # Filled up, so that all batches have one shape.
        filled = [members[i % len(members)] for i in range(size)]
        others = self._others(filled, clips)
        log_mels = renderer.log_mels(
            state, self.config.eval.seed, [clips[place] for place in filled], others
        )
        mine = range(jax.process_index(), len(members), jax.process_count())
        own = [index for index in mine if members[index] in missing]
        sounds = renderer.sounds(
            [clips[members[index]] for index in own],
            {version: mels[own] for version, mels in log_mels.items()},
            self.benchmark.clip_sec,
        )
        return [
            self._start(members[index], clips[members[index]], of_clip, renderer, workers)
            for index, of_clip in zip(own, sounds, strict=True)
        ]

    def _read(self, batch: Sequence[Place]) -> tuple[dict[Place, Clip], dict[Place, str]]:
        """The clips of a batch, and why others could not be read."""
        clips, failed = {}, {}
        for place in batch:
            try:
                clip = self.dataset.clips(self.benchmark.part, place.task)[place.index]
            except BadRecord as error:
                failed[place] = str(error)
                continue
            if len(clip.features.sound):
                clips[place] = clip
            else:
                failed[place] = f"{clip.clip_id} has no sound to hold the generated one against"
        return clips, failed

    @functools.cached_property
    def _following(self) -> dict[Place, Place]:
        """For each clip the next one of its task, round about."""
        following: dict[Place, Place] = {}
        for task in self.benchmark.tasks:
            same = [place for place in self.places if place.task == task]
            following |= zip(same, same[1:] + same[:1], strict=True)
        return following

    @functools.cached_property
    def _metrics(self) -> dict[str, Metric]:
        """Of clips: themselves, not their names, for another process knows of no plugins."""
        return {name: METRICS[name] for name in self.benchmark.of_clips}

    def _others(self, batch: Sequence[Place], clips: Mapping[Place, Clip]) -> list[Clip]:
        """For each clip the next one of its task, round about, if there is any that can be read."""
        if "shuffled" not in self.benchmark.versions:
            return [clips[place] for place in batch]
        others = {}
        for place in set(batch):
            following = self._following[place]
            found = clips if following in clips else self._read([following])[0]
            others[place] = found.get(following, clips[place])
        return [others[place] for place in batch]

    def _video(self, clip: Clip) -> str:
        """The file of the clip's pictures; "" if the dataset has none."""
        path = as_path(self.dataset.path, clip.video)
        is_there = clip.video and media.located(path).path.is_file()
        return str(path.absolute()) if is_there else ""

    def _start(
        self,
        place: Place,
        clip: Clip,
        sounds: Mapping[str, Prediction],
        renderer: Renderer,
        workers: Executor,
    ) -> Future[Row]:
        """Write a clip's sound, and have it measured."""
        problems = {}
        generated = sounds["generated"]
        wav = self.out / "wav" / f"{clip.clip_id}.wav"
        media.write_wav(wav, generated.samples, mel.SAMPLING_RATE)
        truth = sounds["ground_truth"].samples
        media.write_wav(self.out / "reference" / wav.name, truth, mel.SAMPLING_RATE)
        if self.benchmark.mp4:
            video = as_path(self.dataset.path, clip.video)
            mp4 = self.out / "mp4" / f"{clip.clip_id}.mp4"
            try:
                if not clip.video:
                    raise UserError("the dataset names no video of the clip")
                media.replace_audio(video, generated.waveform, mel.SAMPLING_RATE, mp4)
            except UserError as error:
                problems["mp4"] = str(error)
        reference = Reference(clip.task, clip.transcript, clip.event_times_sec, clip.caption)
        row = Row(
            place.task,
            place.index,
            clip.clip_id,
            clip.transcript,
            clip.voice,
            video=self._video(clip),
            caption=" ".join(clip.caption.split()),
            event_times_sec=tuple(map(float, clip.event_times_sec)),
            problems=problems,
            generate_sec=renderer.generate_sec,
        )
        return workers.submit(score_clip, row, reference, sounds, self._metrics)
