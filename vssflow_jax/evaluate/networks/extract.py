"""Features of the sounds, videos or captions of many clips, by the networks behind metrics."""

import functools
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import tqdm

from vssflow_jax.evaluate.networks import judges
from vssflow_jax.evaluate.networks.judge import Judge
from vssflow_jax.evaluate.networks.judges import JUDGES
from vssflow_jax.evaluate.networks.store import Store
from vssflow_jax.parallel import distributed
from vssflow_jax.utils.errors import MissingPackage, UserError
from vssflow_jax.utils.processes import ahead, workers_for

GROUPS = {"sound": 32, "video": 4, "caption": 256}
"""Clips that a network is given together, by what it is shown."""


class _Unfit(NamedTuple):
    """Why a network has nothing to say of a clip."""

    reason: str


def extract(
    name: str, weights: Path, shown: Mapping[str, Any], folder: Path, max_sec: float = 0
) -> None:
    """Let a judge look at clips, or go on with it, on all devices of all processes.

    Args:
      name: a key of `JUDGES`.
      weights: file or folder of the judge's weights.
      shown: clip -> the file or the caption that the judge is shown.
      folder: gets a store of that name (`networks.store`).
      max_sec: so much of a clip is taken; 0 takes all.

    Raises:
      UserError: the weights are not whole, or of another network.
    """
    judge, store = JUDGES[name](weights), Store(folder / name)
    if distributed.is_main():
        store.claim({**judges.origin(name, weights), "max_sec": max_sec})
    distributed.wait_for_all(f"claimed {folder / name}")
    done = store.done()
    distributed.wait_for_all(f"read {folder / name}")  # before anyone writes another
    missing = [clip for clip in sorted(shown) if clip not in done]
    missing = missing[jax.process_index() :: jax.process_count()]
    what = f"{judge.title}, {folder.name} {judge.shown}s"
    bar = tqdm.tqdm(
        total=len(missing), desc=what, unit="clip", disable=not (missing and distributed.is_main())
    )
    prepare, size = functools.partial(_example, judge, max_sec), GROUPS[judge.shown]
    with bar, workers_for(len(missing)) as executor:
        found = ahead(executor, prepare, (shown[clip] for clip in missing), 2 * size)
        for start in range(0, len(missing), size):
            clips = missing[start : start + size]
            examples = dict(zip(clips, itertools.islice(found, len(clips)), strict=True))
            fit = {clip: x for clip, x in examples.items() if not isinstance(x, _Unfit)}
            made = judge.features([*fit.values()]) if fit else []
            unfit = {clip: x.reason for clip, x in examples.items() if isinstance(x, _Unfit)}
            store.add(dict(zip(fit, made, strict=True)), unfit)
            bar.update(len(clips))
    judges.forget()
    distributed.wait_for_all(f"judged {folder / name}")


def _example(judge: Judge, max_sec: float, shown: Any) -> Any:
    try:
        return judge.example(shown, max_sec)
    except MissingPackage:
        raise  # It is not the clip's fault, and can be mended.
    except UserError as error:
        return _Unfit(str(error))
