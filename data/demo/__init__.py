"""The demo dataset: drawn and synthesised video clips with sound, made from a seed."""

from typing import Final

from vssflow_jax.utils.optional import require

_PACKAGES: Final = ("av", "espeakng_loader", "PIL", "tqdm")

for _package in _PACKAGES:
    require(_package, extra="demo")
