"""Errors that are the user's to mend."""


class UserError(Exception):
    """Bad input: one line that says what is wrong, where, and what to do.

    The entry points print it without a traceback and exit with code 2 (`vssflow_jax.cli`).
    """


class MissingPackage(UserError):
    """A package that is needed is not installed; the message says how to install it."""


class Rejected(Exception):
    """A row that cannot be made a record.

    Its text is "kind of fault: details"; rejected rows are counted by kind.
    """
