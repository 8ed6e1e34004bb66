"""What every entry point shares: flags to config, and errors to one line with exit code 2."""

import io
import logging
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import absl.logging
import ml_collections
from absl import app, flags
from ml_collections import config_flags

from vssflow_jax.parallel import distributed
from vssflow_jax.parallel.meeting import MissingProcess
from vssflow_jax.run import run_config
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import as_path

BUG = 1
USER_ERROR = 2
PROCESS_LOST = 3
INTERRUPTED = 130  # as shells say it

MORE = "..."
"""In place of an operand: any number of them."""

_CONFIG = "config"
_RUN_FLAGS = ("workdir", "checkpoint")
_PROSE = ("transcript",)  # flags whose text names no file
_URL = re.compile(r"\w[\w+.-]*://[^,]*")


def run(main: Callable[[list[str]], None], *operands: str) -> NoReturn:
    """Parse flags, call `main`, exit. Bad input ends in one line on stderr and exit code 2.

    Args:
      main: gets the name of the program and the operands.
      operands: names of what has to be given without a flag, in order; a last one of `MORE` lets
        any number follow.
    """
    required = tuple(name for name in operands if name != MORE)

    def guarded(argv: list[str]) -> None:
        _quieten_libraries()
        given = argv[1:]
        if len(given) > len(required) and MORE not in operands:
            fail(f"unexpected argument '{given[len(required)]}'; flags start with --")
        if len(given) < len(required):
            fail(f"{required[len(given)]} is missing; name it after the command")
        try:
            main(argv)
            distributed.wait_for_all("end")
        except MissingProcess as error:
            fail(str(error), PROCESS_LOST)
        except UserError as error:
            fail(str(error))
        except OSError as error:
            fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            distributed.leave(INTERRUPTED)
        except Exception as error:
            if distributed.is_loss(error):
                fail(
                    f"another process was lost ({error}); start the job again, it goes on from the "
                    "last checkpoint",
                    PROCESS_LOST,
                )
            traceback.print_exc()
            distributed.leave(BUG)

    app.run(guarded, flags_parser=_parse)
    sys.exit(0)


def overridden(values: flags.FlagValues = flags.FLAGS) -> list[str]:
    """Dotted names of the fields of `--config` that were set one by one."""
    flag = values[_CONFIG]
    return [] if flag.value is None else [*config_flags.get_override_values(flag)]


def fail(message: str, code: int = USER_ERROR) -> NoReturn:
    """Print one line and exit."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    distributed.leave(code, all_there=code != PROCESS_LOST)


def _quieten_libraries() -> None:
    """Leave what goes wrong to exceptions: the libraries below log it too, with tracebacks."""
    absl.logging.set_verbosity(absl.logging.FATAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    sys.unraisablehook = _unless_read_too_late
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # A terminal may lack a letter.


def _unless_read_too_late(unraisable: Any) -> None:
    """Print an exception that nothing could catch, unless a thread found a loop closed.

    One part of a damaged checkpoint that cannot be read ends the loop that tensorstore's other
    reads report to.
    """
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


def _parse(argv: list[str]) -> list[str]:
    try:
        operands = flags.FLAGS(_with_config_of_run(argv))
        _check_paths({f"--{name}": value for name, value in flags.FLAGS.flag_values_dict().items()})
        _check_paths({"the command line": operands[1:]})
        return operands
    except flags.UnrecognizedFlagError as error:
        if error.flagname.startswith(f"{_CONFIG}."):
            where = [named for flag in _RUN_FLAGS if (named := _find(flag, argv[1:]))]
            holds_none = f": there is no run in {where[0][0]}" if where else ""
            fail(f"--{error.flagname} is of a config, and none is given{holds_none}; name --config")
        fail(str(error))
    except (flags.Error, UserError) as error:
        fail(str(error))
    except (AttributeError, KeyError) as error:
        # ml_collections' way of saying that an override names no field of the config.
        name = re.search(r"'(\w+)\\?'", str(error))
        nearest = re.search(r'Did you mean "(\w+)"', str(error))
        hint = f"did you mean '{nearest[1]}'?" if nearest else "its fields are in the config file"
        fail(f"--config has no field '{name[1] if name else error}'; {hint}")
    except OSError as error:
        fail(f"--config: {error}")


def _with_config_of_run(argv: Sequence[str]) -> list[str]:
    """The command line, with a run's folder for `--config` as the config file of that run.

    If there is no `--config`, it is that of the run which another flag names.
    """
    name, *given = flags.FLAGS.read_flags_from_files(list(argv), force_gnu=False)
    if _CONFIG not in flags.FLAGS:
        return [name, *given]
    if named := _find(_CONFIG, given):
        path, where = named
        given[where] = [f"--{_CONFIG}={_config_of_run(path) or path}"]
        return [name, *given]
    for flag in _RUN_FLAGS:
        if (named := _find(flag, given)) and (config := _config_of_run(named[0])):
            return [name, f"--{_CONFIG}={config}", *given]
    return [name, *given]


def _find(flag: str, given: Sequence[str]) -> tuple[str, slice] | None:
    """The value of a flag on a command line and where both stand; None if it is not there."""
    for index, argument in enumerate(given):
        if re.fullmatch(rf"--?{flag}", argument):
            return "".join(given[index + 1 : index + 2]), slice(index, index + 2)
        if match := re.fullmatch(rf"--?{flag}=(.*)", argument):
            return match[1], slice(index, index + 1)
    return None


def _config_of_run(path: str) -> str:
    """The run's config as ml_collections takes it; "" if the path is not that of a run."""
    try:
        run, _ = run_config.run_and_step(as_path(path))
    except UserError:
        return ""  # `_check_paths` will say so, and of which flag
    return f"{run_config.__file__}:{run}" if path and run_config.exists(run) else ""


def _check_paths(values: dict[str, Any]) -> None:
    """Check that all URLs in flags and fields are of stores that can be reached.

    Raises:
      UserError: one is of another scheme, or the package for it is not installed.
    """
    for name, value in values.items():
        if name.removeprefix("--") in _PROSE:
            continue
        for field, text in _texts(name, value):
            for url in _URL.findall(text):
                try:
                    as_path(url)
                except UserError as error:
                    raise UserError(f"{field}: {error}") from error


def _texts(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """All strings of a flag's value, with the names that they are given by."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, ml_collections.ConfigDict):
        for field, part in value.items():
            yield from _texts(f"{name}.{field}", part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(name, part)
