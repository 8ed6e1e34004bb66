"""Every strategy on eight simulated devices computes what one device does."""

import sys
from collections.abc import Mapping

import numpy as np
import pytest

from tests import eight_devices, tiny
from vssflow_jax.parallel.sharding import STRATEGIES

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Mapping[str, np.ndarray]]:
    """What `eight_devices` writes, by file."""
    out = tmp_path_factory.mktemp("strategies")
    done = tiny.run([sys.executable, "-m", "tests.eight_devices", str(out)], tiny.EIGHT_DEVICES)
    assert done.returncode == 0, done.stderr
    return {path.stem: dict(np.load(path)) for path in out.iterdir()}


def distance(found: np.ndarray, expected: np.ndarray) -> float:
    """Relative, of whole arrays."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("strategy", [*STRATEGIES, eight_devices.NORMED])
def test_losses_gradients_and_clips_are_those_of_one_device(
    results: Mapping[str, Mapping[str, np.ndarray]], strategy: str
) -> None:
    _, *normed = strategy.split("-")
    alone, found = results["-".join(["alone", *normed])], results[strategy]
    assert found.keys() == alone.keys()
    assert len(alone["loss"]) == eight_devices.STEPS
    np.testing.assert_allclose(found["loss"], alone["loss"], rtol=TOLERANCE)
    off = {name: distance(found[name], alone[name]) for name in alone}
    assert max(off.values()) < TOLERANCE, off
