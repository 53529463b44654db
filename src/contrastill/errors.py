"""The one exception type that means: the user can repair this. The command line prints it without a traceback."""

__all__ = ["CheckFailed", "UserError"]


class UserError(ValueError):
    """Bad input. The message says what was expected, what was found, and what to do about it."""


class CheckFailed(UserError):
    """Nothing was wrong with the input, but a check that was asked for says no; exit code 1."""
