"""The one exception for things a user can mend."""

from __future__ import annotations


class UserError(Exception):
    """Bad input or set-up. The message names the thing and the remedy; the CLI prints it and exits with 2."""
