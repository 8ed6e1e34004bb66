"""Clips of a benchmark to sounds and rows, so that an evaluation may be stopped anywhere.

Clips go through in batches, and what is known of a batch is written before the next but one begins:
the sounds, and a row for each clip of what was measured. So memory does not grow with their number,
and an evaluation that was killed goes on where it was. Of many processes each vocodes, measures and
writes its share of every batch.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import jax
import joblib
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
from vssflow_jax.run.experiment import TrainState
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import JsonLines
from vssflow_jax.utils.processes import pool

CLIPS_WORTH_A_PROCESS = 16


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

    def run(self, renderer: Renderer, state: TrainState) -> None:
        """Make the rows that are not there yet; all processes return together."""
        done = {Place(row.task, row.index) for row in rows.read(self.out) if not row.failed}
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
            measuring(len(self.places) - len(done)) as workers,
        ):
            measured: list[Future[Row]] = []
            for batch in [*batches, []]:  # the empty one waits for the last
                missing = [place for place in batch if place not in done]
                submitted = []
                if missing:
                    submitted = self._submit(batch, missing, size, renderer, state, log, workers)
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
        size: int,
        renderer: Renderer,
        state: TrainState,
        log: JsonLines,
        workers: Executor,
    ) -> list[Future[Row]]:
        """Generate a batch, write this process's sounds of it, and start to measure them."""
        clips, failed = self._read(batch)
        for place in missing:
            if place in failed and distributed.is_main():
                log.write(dataclasses.asdict(Row(place.task, place.index, failed=failed[place])))
        if not clips:
            return []
        members = list(clips)
        # Filled up, so that all batches have one shape.
        filled = [members[i % len(members)] for i in range(size)]
        others = self._others(filled, clips)
        log_mels = renderer.log_mels(state, [clips[place] for place in filled], others)
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
            video, mp4 = self.dataset.path / clip.video, self.out / "mp4" / f"{clip.clip_id}.mp4"
            try:
                if not clip.video:
                    raise UserError("the dataset names no video of the clip")
                media.replace_audio(video, generated.waveform, mel.SAMPLING_RATE, mp4)
            except UserError as error:
                problems["mp4"] = str(error)
        reference = Reference(
            clip.task, clip.transcript, clip.event_times_sec, self.benchmark.normalisation
        )
        row = Row(
            place.task,
            place.index,
            clip.clip_id,
            clip.transcript,
            clip.voice,
            problems=problems,
            generate_sec=renderer.generate_sec,
        )
        return workers.submit(score_clip, row, reference, sounds, self._metrics)


@contextmanager
def measuring(clips: int) -> Iterator[Executor]:
    """Processes that measure; a thread for few clips, which would wait for processes to start."""
    workers = min(joblib.cpu_count(), clips // CLIPS_WORTH_A_PROCESS)
    with pool(workers) if workers > 1 else ThreadPoolExecutor(1) as executor:
        try:
            yield executor
        except BaseException:
            executor.shutdown(cancel_futures=True)
            raise
