"""The one exception a user's mistake is reported with."""


class UserError(Exception):
    """Something the user can mend: a wrong key, a missing input, a damaged file.

    The message is complete by itself (what, what it was, what is allowed, what to do). The command line prints
    it without a traceback and exits with a code other than 0.
    """
