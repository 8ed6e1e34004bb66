"""What several test files share: one small demo dataset, made for real, once a session."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # before JAX is imported, here and in subprocesses

import shutil
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

from data import build
from tests import tiny
from vssflow_jax.clip import ClipSpec


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests start many processes that compile the same small step."""
    patch = pytest.MonkeyPatch()
    directory = str(tmp_path_factory.mktemp("compiled"))
    patch.setenv("JAX_COMPILATION_CACHE_DIR", directory)
    patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
    jax.config.update("jax_compilation_cache_dir", directory)
    yield
    patch.undo()


@pytest.fixture(scope="session")
def demo_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small demo dataset; leave it as it is."""
    path = tmp_path_factory.mktemp("demo-data")
    config = tiny.config(path)
    build.ensure(config.data, ClipSpec(**config.clip))
    return path


@pytest.fixture
def own_data(demo_data: Path, tmp_path: Path) -> Path:
    """A copy of the dataset to damage."""
    return Path(shutil.copytree(demo_data, tmp_path / "data"))
