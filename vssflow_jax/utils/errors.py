"""Errors that are the user's to mend."""


class UserError(Exception):
    """Bad input: one line that says what is wrong, where, and what to do.

    The entry points print it without a traceback and exit with code 2 (`vssflow_jax.cli`).
    """
