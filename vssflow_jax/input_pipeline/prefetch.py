"""Batches read ahead: by threads or processes, from any position, onto the devices."""

import contextlib
import ctypes
import dataclasses
import sys
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import grain
import ml_collections
import numpy as np
import tqdm
from absl import flags

from vssflow_jax.utils import plugins
from vssflow_jax.utils.errors import UserError

Example = dict[str, np.ndarray]
Position = dict[str, int]

BATCHES_ON_DEVICES = 2  # put there before they are asked for

# Of glibc's malloc.h; the largest threshold that it takes.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGEST_MMAP_THRESHOLD = 32 << 20
_KEPT_BYTES = 1 << 30


@dataclasses.dataclass(frozen=True)
class ReadOptions:
    """How batches are read. What is in them does not depend on it.

    Attributes:
      workers: processes that read; 0 for threads of this one.
      threads: reading threads of each process.
      batches_ahead: batches that each process makes before they are asked for.
      max_bad_records: records that may be passed over since they cannot be used.
    """

    workers: int = 0
    threads: int = 2
    batches_ahead: int = 4
    max_bad_records: int = 10

    @classmethod
    def from_config(cls, data: ml_collections.ConfigDict) -> "ReadOptions":
        """As the `data` section of a config says."""
        return cls(**{field.name: data[field.name] for field in dataclasses.fields(cls)})


AS_USUAL = ReadOptions()


class Made(NamedTuple):
    """A batch, or the part of it that a process reads.

    Attributes:
      example: its arrays, clips along the leading axis.
      passed_over: what was wrong with each record that was passed over for it.
      clip_ids: of its clips, in order.
    """

    example: Example
    passed_over: list[str]
    clip_ids: list[str]


@dataclasses.dataclass(frozen=True)
class Batches:
    """Endless batches, to be gone through from any position.

    Attributes:
      made: a `Made` by the number of the batch, from 0.
      read_options: processes and threads.
    """

    made: grain.MapDataset
    read_options: ReadOptions

    def __iter__(self) -> "BatchIterator":
        return BatchIterator(self)


class BatchIterator(Iterator[Example]):
    """Goes through batches; nothing is read before the first is asked for.

    Says of each record that is passed over what is wrong with it, once.

    Raises:
      UserError: more records are bad than `ReadOptions.max_bad_records`.
    """

    def __init__(self, batches: Batches):
        self._batches = batches
        self._bad: dict[str, None] = {}  # a set that remembers the order
        self._position = 0
        self._left_out: Collection[int] = ()
        self._reader: grain.DatasetIterator | None = None

    @property
    def num_bad(self) -> int:
        """Records passed over since this process began."""
        return len(self._bad)

    def __next__(self) -> Example:
        while self._position in self._left_out:
            self._next()
        made = self._next()
        for reason in made.passed_over:
            self._note(reason)
        return made.example

    def _next(self) -> Made:
        self._reader = self._reader or self._read()
        try:
            made = next(self._reader)
        except RuntimeError as error:
            if "Worker process" not in str(error):
                raise
            raise UserError(
                "a process that reads was killed, perhaps for want of memory; the same command "
                "goes on, with fewer --config.data.workers"
            ) from error
        self._position += 1
        return made

    def _read(self) -> grain.DatasetIterator:
        read_options = self._batches.read_options
        if read_options.workers and not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain asks them, and in a notebook nobody parses them.
        # From here on, in place of the reader's own state, which knows how many workers it has.
        read = self._batches.made.slice(slice(self._position, None)).to_iter_dataset(
            grain.ReadOptions(
                num_threads=read_options.threads, prefetch_buffer_size=read_options.batches_ahead
            )
        )
        keep_freed_memory()
        modules = plugins.loaded()

        def start(*_: int) -> None:
            keep_freed_memory()
            plugins.load(modules)

        workers = grain.MultiprocessingOptions(num_workers=read_options.workers)
        return iter(read.mp_prefetch(workers, worker_init_fn=start))

    def _note(self, reason: str) -> None:
        if reason in self._bad:
            return
        self._bad[reason] = None
        tqdm.tqdm.write(f"record passed over: {reason}", file=sys.stderr)
        limit = self._batches.read_options.max_bad_records
        if len(self._bad) > limit:
            raise UserError(
                f"{len(self._bad)} records are bad, data.max_bad_records allows {limit}; the last: "
                + reason
            )

    def get_state(self) -> Position:
        """The position, as JSON values."""
        return {"next_index": self._position}

    def set_state(self, state: Position) -> None:
        """Go on from a position."""
        self.close()
        self._position = state["next_index"]

    def leave_out(self, numbers: Collection[int]) -> None:
        """From here on, give the batches of these numbers to nobody."""
        self._left_out = numbers

    def close(self) -> None:
        """Stop what reads ahead."""
        if self._reader:
            self._reader.close()
        self._reader = None


class OnDevices(contextlib.AbstractContextManager["OnDevices"], Iterator[Any]):
    """Batches put on the devices by a thread, some before they are asked for.

    Args:
      batches: at the position of the first batch.
      put: from a batch in this process to one on the devices.
    """

    def __init__(self, batches: BatchIterator, put: Callable[[Example], Any]):
        self._batches, self._put = batches, put
        self._position = batches.get_state()
        self._coming: deque[Future[tuple[Any, Position]]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="put")

    def __next__(self) -> Any:
        while len(self._coming) <= BATCHES_ON_DEVICES:
            self._coming.append(self._thread.submit(self._put_next))
        batch, self._position = self._coming.popleft().result()
        return batch

    def _put_next(self) -> tuple[Any, Position]:
        batch = self._put(next(self._batches))
        return batch, self._batches.get_state()

    def get_state(self) -> Position:
        """The position after the batch given out last."""
        return self._position

    @property
    def number(self) -> int:
        """Of the batch given out last, from 0."""
        return self._position["next_index"] - 1

    def __exit__(self, *error: object) -> None:
        self._thread.shutdown(cancel_futures=True)
        self._batches.close()


def keep_freed_memory() -> None:
    """Have the C library keep what is freed, for what is needed next.

    Records and batches are blocks of megabytes. If they go back to the system when they are freed,
    each new one is filled in page by page as it is touched, which takes longer than reading it.
    Does nothing where the library is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
