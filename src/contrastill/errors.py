"""The one exception type that means: the user can repair this. The command line prints it without a traceback."""

__all__ = ["UserError"]


class UserError(ValueError):
    """Bad input. The message says what was expected, what was found, and what to do about it."""
