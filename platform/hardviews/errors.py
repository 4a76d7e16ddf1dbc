"""Errors that a user can act on."""


class UserError(Exception):
    """A mistake in what the user gave: the message says what was wrong, where, and what to do.

    The command line prints the message as one paragraph, without a traceback, and exits with code 2.
    """
