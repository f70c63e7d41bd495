"""Errors that a user can act on."""


class UserError(ValueError):
    """Report bad input: one line that names the field, the value and what is allowed.

    The command line prints the message as `error: <message>` and exits with code 2.
    """

    def _render_traceback_(self) -> list[str]:
        """Return what IPython and notebooks show in place of a traceback."""
        return [f"error: {self}"]
