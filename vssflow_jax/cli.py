"""What every entry point shares: flags to config, and errors to one line with exit code 2."""

import logging
import re
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

import absl.logging
from absl import app, flags

from vssflow_jax import hosts
from vssflow_jax.errors import UserError

BUG = 1
USER_ERROR = 2
PROCESS_LOST = 3
INTERRUPTED = 130  # as shells say it

MORE = "..."
"""In place of an operand: any number of them."""


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
            hosts.wait_for_all("end")
        except UserError as error:
            fail(str(error))
        except OSError as error:
            fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            hosts.leave(INTERRUPTED)
        except Exception as error:
            if hosts.is_loss(error):
                fail(
                    f"another process was lost ({error}); start the job again, it goes on from the "
                    "last checkpoint",
                    PROCESS_LOST,
                )
            traceback.print_exc()
            hosts.leave(BUG)

    app.run(guarded, flags_parser=_parse)
    sys.exit(0)


def fail(message: str, code: int = USER_ERROR) -> NoReturn:
    """Print one line and exit."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    hosts.leave(code, all_there=code != PROCESS_LOST)


def _quieten_libraries() -> None:
    """Leave what goes wrong to exceptions: the libraries below log it too, with tracebacks."""
    absl.logging.set_verbosity(absl.logging.FATAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)


def _parse(argv: list[str]) -> list[str]:
    try:
        return flags.FLAGS(argv)
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
