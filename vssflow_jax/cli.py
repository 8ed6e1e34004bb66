"""What every entry point shares: flags to config, and errors to one line with exit code 2."""

import re
import sys
from collections.abc import Callable
from typing import NoReturn

from absl import app, flags

from vssflow_jax.errors import UserError

USER_ERROR = 2


def run(main: Callable[[list[str]], None]) -> NoReturn:
    """Parse flags, call `main`, exit. Bad input ends in one line on stderr and exit code 2."""

    def guarded(argv: list[str]) -> None:
        try:
            main(argv)
        except UserError as error:
            fail(str(error))

    app.run(guarded, flags_parser=_parse)
    sys.exit(0)


def fail(message: str) -> NoReturn:
    """Print one line and exit with `USER_ERROR`."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(USER_ERROR)


def _parse(argv: list[str]) -> list[str]:
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        fail(str(error))
    except (AttributeError, KeyError) as error:
        # ml_collections' way of saying that an override names no field of the config.
        message = str(error.args[0]) if error.args else str(error)
        name, *hint = re.findall(r"'([^']+)'|Did you mean \"([^\"]+)\"", message)
        nearest = f"; did you mean '{hint[0][1]}'?" if hint else "; see the config file for fields"
        fail(f"--config has no field '{name[0]}'{nearest}")
    except OSError as error:
        fail(f"--config: {error}")
