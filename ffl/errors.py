"""The one exception that a user can cause and fix.

Programs print its message as a single line and exit with status 2; library users catch it. Losses and metrics
called with a wrong tensor raise ValueError or TypeError instead, as any torch module would.
"""


class UserError(Exception):
    """Something the user can put right: a missing folder, a bad file, an impossible option.

    The message is one line that names the thing, the value found, and the fix.
    """
