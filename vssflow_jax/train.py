"""Training, top to bottom: mesh, data, model, shardings, restore, loop."""

import time
from contextlib import ExitStack
from pathlib import Path

import jax
import ml_collections
import numpy as np
import tensorboardX
import tqdm

from vssflow_jax import input as input_pipeline
from vssflow_jax import sharding
from vssflow_jax.audio import mel
from vssflow_jax.checkpoint import Checkpoints
from vssflow_jax.config import check as check_config
from vssflow_jax.dataset import TASKS, Dataset
from vssflow_jax.errors import UserError
from vssflow_jax.generate import draw_start, make_generate
from vssflow_jax.run_files import MetricsLog, claim
from vssflow_jax.run_files import check as check_run
from vssflow_jax.sound import Vocoder, latents_digest, make_vocoder
from vssflow_jax.start import initial_state
from vssflow_jax.stopping import stop_requested
from vssflow_jax.train_step import Metrics, Recipe, TrainState, jit_train_step


def train(config: ml_collections.ConfigDict, workdir: Path) -> bool:
    """Train until `config.train.steps`, from the newest checkpoint of `workdir` if there is one.

    Args:
      config: a resolved experiment config.
      workdir: gets `config.json`, `metrics.jsonl`, `checkpoints/`, `tensorboard/`.

    Returns:
      whether the last step was reached: False after Ctrl-C or SIGTERM, with all saved.

    Raises:
      UserError: bad config, data, or workdir; a loss that is no number; a full disk.
    """
    check_config(config)

    # ------------------------------------------------------------------------------------ mesh
    recipe = Recipe.from_config(config)
    recipe.check_batch()

    # ------------------------------------------------------------------------------------ data
    dataset = Dataset(
        config.data.path, recipe.spec, config.data.durations, config.data.durations_path
    )
    dataset.check_widths(recipe.model.feature_widths)
    if config.codec.latents == "offline":
        dataset.check_latents(latents_digest(config.codec))
    if config.eval.after_training:
        dataset.check_part("test")
    batches = input_pipeline.train_batches(
        dataset,
        config.data.mixture,
        config.train.batch_size,
        config.seed,
        config.codec.latents,
    )
    iterator = iter(batches)

    # ------------------------------------------------------------------- model and shardings
    abstract = recipe.abstract_state()
    train_step = jit_train_step(recipe)
    vocoder = make_vocoder(config.vocoder)
    check_run(workdir, config)
    workdir.mkdir(parents=True, exist_ok=True)
    with ExitStack() as closing:
        # ----------------------------------------------------------------------------- restore
        checkpoints = closing.enter_context(Checkpoints(workdir, config.train.keep_checkpoints))
        elapsed_sec = 0.0
        if checkpoints.latest is None:
            state = initial_state(recipe, abstract, lambda: batches)
        else:
            state, progress = checkpoints.restore(abstract)
            dataset.check_counts(progress["clips"])
            iterator.set_state(progress["data"])
            elapsed_sec = progress["elapsed_sec"]
        done, steps = int(state.step), config.train.steps
        resolved = claim(workdir, config)

        # -------------------------------------------------------------------------------- loop
        log = closing.enter_context(MetricsLog(workdir))
        board = closing.enter_context(
            tensorboardX.SummaryWriter(str(workdir / "tensorboard"), purge_step=done)
        )
        bar = closing.enter_context(
            tqdm.tqdm(total=steps, initial=min(done, steps), desc="train", unit="step")
        )
        stop = closing.enter_context(stop_requested())
        sampler = Sampler(config, recipe, dataset, vocoder, board)
        started = time.monotonic()

        def save() -> None:
            progress = {
                "data": iterator.get_state(),
                "clips": dataset.counts,
                "elapsed_sec": elapsed_sec + time.monotonic() - started,
            }
            checkpoints.save(done, state, progress, resolved)

        def report(step: int, metrics: Metrics) -> None:
            values = {name: float(value) for name, value in jax.device_get(metrics).items()}
            if not np.isfinite([values["loss"], values["grad_norm"]]).all():
                raise UserError(
                    f"step {step}: the loss is {values['loss']}, the norm of its gradient "
                    f"{values['grad_norm']}; lower train.learning_rate or set "
                    f"train.grad_clip_norm; the last checkpoint is of step {checkpoints.latest}"
                )
            bar.set_postfix(loss=f"{values['loss']:.3f}", refresh=False)
            if step % config.train.log_every == 0:
                # A bin of flow time that no clip fell into has no loss.
                row = {name: value for name, value in values.items() if np.isfinite(value)}
                log.write({"step": step, **row})
                for name, value in row.items():
                    board.add_scalar(f"train/{name}", value, step)
                board.add_scalar("train/steps_per_sec", bar.format_dict["rate"] or 0.0, step)

        pending: tuple[int, Metrics] | None = None

        def settle() -> None:
            nonlocal pending
            if pending:
                report(*pending)
            pending = None

        while done < steps and not stop.is_set():
            try:
                batch = sharding.put_batch(next(iterator), recipe.layout)
            except UserError:
                settle()
                save()
                raise
            with jax.transfer_guard("disallow"):
                state, metrics = train_step(state, batch)
            done += 1
            bar.update()
            # Read one step late, so that the next step is under way before we look.
            settle()
            pending = (done, metrics)
            if done % config.train.checkpoint_every == 0:
                settle()
                save()
            if done % config.train.sample_every == 0:
                sampler.write(state, done)
        settle()
        save()
        minutes = (elapsed_sec + time.monotonic() - started) / 60
    if done < steps:
        print(f"stopped after step {done} of {steps}, saved; the same command goes on from there")
    else:
        print(f"trained {done} steps in {minutes:.1f} minutes")
    return done >= steps


class Sampler:
    """Writes sound generated from a few test clips to TensorBoard while training goes on."""

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        recipe: Recipe,
        dataset: Dataset,
        vocoder: Vocoder,
        board: tensorboardX.SummaryWriter,
    ):
        self._board = board
        sources = [dataset.clips("test", task) for task in TASKS if dataset.count("test", task)]
        clips = [source[0] for source in sources]
        self._names = [clip.clip_id for clip in clips]
        examples = [input_pipeline.to_latent_rate(clip.features, recipe.spec) for clip in clips]
        self._features = jax.tree.map(lambda *x: np.stack(x), *examples) if examples else {}
        self._start = draw_start(recipe, config.seed, self._names)
        self._generate = make_generate(recipe, config.eval.sampler)
        self._vocode = vocoder

    def write(self, state: TrainState, step: int) -> None:
        """Generate and write, if there are test clips."""
        if not self._names:
            return
        log_mels = jax.device_get(self._generate(state, self._features, self._start))
        for name, log_mel in zip(self._names, log_mels, strict=True):
            waveform = self._vocode(log_mel)
            self._board.add_audio(f"sample/{name}", waveform, step, mel.SAMPLING_RATE)
