"""Errors that a user can act on."""


class UserError(ValueError):
    """Report bad input in one line: the field, its value and what is allowed.

    The command line prints the message as `error: <message>` and exits with code 2.
    """

    def _render_traceback_(self) -> list[str]:
        """Return the lines that IPython and notebooks show instead of a traceback."""
        return [f"error: {self}"]
