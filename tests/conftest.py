"""What several test files share: one small demo dataset, made for real, once a session."""

import os

# Before JAX is imported, here and in subprocesses. Most of the tests' time goes into compiling.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import shutil
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

from data import build
from tests import buckets, tiny
from vssflow_jax.audio.mel import BANDS
from vssflow_jax.clip import ClipSpec

AUTOENCODER_WIDTHS = (8, 8, 16)


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests start many processes that compile the same small step."""
    patch = pytest.MonkeyPatch()
    own = tmp_path_factory.getbasetemp()
    # The workers of pytest-xdist lie side by side in a folder of the session.
    directory = str((own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "compiled")
    patch.setenv("JAX_COMPILATION_CACHE_DIR", directory)
    patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
    jax.config.update("jax_compilation_cache_dir", directory)
    yield
    patch.undo()


@pytest.fixture(scope="module", autouse=True)
def forget_programs() -> Iterator[None]:
    """Programs of other test files are of no use: without this a worker keeps gigabytes of them."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="session")
def stores_there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Emulated stores, which this process and those that it starts reach from now on."""
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    with buckets.running() as variables:
        for name, value in variables.items():
            patch.setenv(name, value)
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


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders as Hugging Face has them, of a small random autoencoder and vocoder, by kind."""
    # Imported here: they take seconds, and most tests do without.
    import torch
    from diffusers import AutoencoderKL
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("pretrained")
    folders = {"audioldm_vae": root / "vae", "hifigan": root / "vocoder"}
    AutoencoderKL(
        in_channels=1,
        out_channels=1,
        down_block_types=("DownEncoderBlock2D",) * len(AUTOENCODER_WIDTHS),
        up_block_types=("UpDecoderBlock2D",) * len(AUTOENCODER_WIDTHS),
        block_out_channels=AUTOENCODER_WIDTHS,
        latent_channels=8,
        norm_num_groups=4,
    ).save_pretrained(folders["audioldm_vae"])
    SpeechT5HifiGan(
        SpeechT5HifiGanConfig(
            model_in_dim=BANDS,
            upsample_initial_channel=32,
            upsample_rates=[5, 4, 2, 2, 2],
            upsample_kernel_sizes=[16, 16, 8, 4, 4],
            resblock_kernel_sizes=[3],
            resblock_dilation_sizes=[[1, 3]],
            normalize_before=False,
        )
    ).save_pretrained(folders["hifigan"])
    return folders
