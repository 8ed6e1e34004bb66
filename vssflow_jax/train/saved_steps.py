"""Compiled train steps in a file: made on one machine, run on others without compiling there.

`python -m vssflow_jax.plan --save_step=FILE` writes one, `train.compiled_step` names it. The file
is a line of JSON, its header, and after it the programs, one for each window of batches, as JAX
serialises them. The header has all that the programs depend on, and is compared with what there is
before any of them is looked at. Programs are native code, and JAX unpickles what goes with them:
take none from whom you would not take code.
"""

import dataclasses
import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import jax
import ml_collections
from flax.traverse_util import flatten_dict
from jax.experimental import serialize_executable

from vssflow_jax.audio.codec import latents_digest
from vssflow_jax.run import compilation_cache
from vssflow_jax.run.experiment import Experiment
from vssflow_jax.run.run_config import NOT_OF_THE_STEP, resolved_values
from vssflow_jax.train.step import compiled_step, inputs, of_windows
from vssflow_jax.utils import sources
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import as_path, whole

_FORMAT = "vssflow_jax compiled steps 1"
_PACKAGES = ("jax", "jaxlib", "flax", "optax")
_SETTINGS = (  # which change what a function compiles to
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_enable_x64",
    "jax_numpy_dtype_promotion",
    "jax_threefry_partitionable",
)
_LONGEST_HEADER = 1 << 24
_FLAGS_OF_CPU = Path("/proc/cpuinfo")

# Of a config what a step may depend on: these, and of `train` all but what `NOT_OF_THE_STEP` names.
_SECTIONS = ("clip.", "model.", "sharding.", "train.")
_FIELDS = ("seed", "plugins", "codec.kind", "codec.latents", "data.bucket_sec")


@dataclasses.dataclass(frozen=True)
class SavedSteps:
    """A file whose header says that its programs are those of an experiment, here.

    Attributes:
      path: the file.
      header: its first line.
    """

    path: Path
    header: Mapping[str, Any]

    @classmethod
    def find(cls, config: ml_collections.ConfigDict, experiment: Experiment) -> "SavedSteps | None":
        """The file that `train.compiled_step` names, if it names one.

        Raises:
          UserError: it is no such file, or of other versions, devices, code or fields of a config.
        """
        if not config.train.compiled_step:
            return None
        path = as_path(config.train.compiled_step).expanduser()
        with path.open("rb") as file:
            header = _read_header(path, file)
        here = _made_for(config, experiment)
        for name, (saved, found) in _differences(header["made_for"], here):
            raise UserError(
                f"train.compiled_step: {path} was made for {name} {saved}, and here it is {found}; "
                "make it again, python -m vssflow_jax.plan --save_step=... (docs/launch.md), or "
                "compile here: --config.train.compiled_step="
            )
        return cls(path, header)

    def load(self, experiments: Mapping[int, Experiment]) -> dict[int, jax.stages.Compiled]:
        """The programs, ready to run, by the latent frames of their windows.

        Args:
          experiments: experiments of these windows.

        Raises:
          UserError: the file is damaged, or the runtime does not take a program.
        """
        loaded = {}
        with self.path.open("rb") as file:
            file.readline()
            for program in self.header["programs"]:
                payload = file.read(program["bytes"])
                if hashlib.sha256(payload).hexdigest() != program["sha256"]:
                    raise UserError(
                        f"train.compiled_step: {self.path} is damaged; copy or make it again"
                    )
                experiment = experiments[program["frames"]]
                loaded[program["frames"]] = self._load(payload, program["metrics"], experiment)
        return loaded

    def _load(self, payload: bytes, metrics: list[str], experiment: Experiment) -> Any:
        arguments = inputs(experiment, self.header["made_for"]["config"]["codec.latents"])
        results = arguments[0], dict.fromkeys(metrics, 0)
        try:
            return serialize_executable.deserialize_and_load(
                payload,
                jax.tree.structure((arguments, {})),
                jax.tree.structure(results),
                execution_devices=experiment.mesh_rules.mesh.devices.flatten().tolist(),
            )
        except jax.errors.JaxRuntimeError as error:
            raise UserError(
                f"train.compiled_step: {self.path} is not taken here ({error}); make it again, or "
                "compile here: --config.train.compiled_step="
            ) from error


def write(path: Path, config: ml_collections.ConfigDict, experiment: Experiment) -> None:
    """Compile the steps of a config as training does, and write them into a file.

    Args:
      path: the file.
      config: the whole of it, with the end of its schedule (`run_config.with_schedule_end`).
      experiment: experiment of it, on the devices that the steps are to run on.
    """
    latents, programs, payloads = config.codec.latents, [], []
    for frames, of_window in of_windows(experiment, config.data.bucket_sec).items():
        with compilation_cache.left_out():
            compiled = compiled_step(of_window, latents)
        payload, _, results = serialize_executable.serialize(compiled)
        _, metrics = results.unflatten(range(results.num_leaves))
        programs.append(
            {
                "frames": frames,
                "bytes": len(payload),
                "sha256": hashlib.sha256(payload).hexdigest(),
                "metrics": sorted(metrics),
            }
        )
        payloads.append(payload)
    made_for = _made_for(config, experiment)
    header = {"format": _FORMAT, "made_for": made_for, "programs": programs}
    with whole(path) as partial, partial.open("wb") as file:
        file.write(json.dumps(header).encode() + b"\n")
        file.writelines(payloads)


def _read_header(path: Path, file: IO[bytes]) -> dict[str, Any]:
    try:
        header = json.loads(file.readline(_LONGEST_HEADER))
        if header["format"] == _FORMAT:
            return header
    except (ValueError, TypeError, KeyError):
        pass
    raise UserError(
        f"train.compiled_step: {path} holds no compiled steps; make them by "
        "python -m vssflow_jax.plan --save_step=... (docs/launch.md)"
    )


def _made_for(config: ml_collections.ConfigDict, experiment: Experiment) -> dict[str, Any]:
    """All that the steps of a config depend on, as JSON values."""
    mesh = experiment.mesh_rules.mesh
    devices = mesh.devices.flatten().tolist()
    platform_name = devices[0].platform
    packages = (*_PACKAGES, *(("libtpu",) if platform_name == "tpu" else ()))
    of_codec = latents_digest(config.codec) if config.codec.path else ""
    made_for = {
        "devices of kind": devices[0].device_kind,
        "versions of packages": sources.versions(packages),
        "sources with the digest": sources.digest(config.plugins),
        "a processor with the digest": _processor() if platform_name == "cpu" else "",
        "the mesh": dict(mesh.shape),
        "devices (number, slice, place)": [
            [device.id, getattr(device, "slice_index", 0) or 0, *getattr(device, "coords", ())]
            for device in devices
        ],
        "settings of JAX": {name: str(jax.config.values[name]) for name in _SETTINGS},
        "config": _of_the_step(config),
        "a codec with the digest": of_codec,
        "inputs with the digest": _digest(experiment, config),
    }
    return json.loads(json.dumps(made_for))


def _of_the_step(config: ml_collections.ConfigDict) -> dict[str, Any]:
    values = flatten_dict(resolved_values(config), sep=".")
    return {
        name: value
        for name, value in values.items()
        if name in _FIELDS or (name.startswith(_SECTIONS) and name not in NOT_OF_THE_STEP)
    }


def _digest(experiment: Experiment, config: ml_collections.ConfigDict) -> str:
    """Of names, shapes, dtypes and places of all that a step gets."""
    leaves = jax.tree_util.tree_leaves_with_path(inputs(experiment, config.codec.latents))
    told = [
        (jax.tree_util.keystr(path), leaf.shape, str(leaf.dtype), str(leaf.sharding.spec))
        for path, leaf in leaves
    ]
    kinds = [leaf.sharding.memory_kind for _, leaf in leaves]
    return hashlib.sha256(repr((told, kinds)).encode()).hexdigest()


def _processor() -> str:
    """Tells the instructions that the processor has from those of others."""
    text = _FLAGS_OF_CPU.read_text() if _FLAGS_OF_CPU.exists() else platform.processor()
    flags = [line for line in text.splitlines() if line.startswith(("flags", "Features"))]
    return hashlib.sha256((flags[0] if flags else text).encode()).hexdigest()


def _differences(
    saved: Mapping[str, Any], here: Mapping[str, Any]
) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Values of both, by name, where they differ."""
    for name in dict.fromkeys((*saved, *here)):
        before, now = saved.get(name, "absent"), here.get(name, "absent")
        if isinstance(before, dict) and isinstance(now, dict):
            yield from _differences(before, now)
        elif before != now:
            yield name, (before, now)
