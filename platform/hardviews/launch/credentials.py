"""Signs of a credential in a job's variables and arguments, which a cluster shows to others."""

import re

_WORDS = ("SECRET", "PASSWORD", "PASSWD", "TOKEN", "ACCESS_KEY", "API_KEY", "PRIVATE_KEY")
_IN_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://[^/@\s]*:[^/@\s]+@", re.IGNORECASE)


def confidential(name: str) -> bool:
    """Return whether an environment variable of this name holds a credential, and not the name of a file with one."""
    return any(word in name.upper() for word in _WORDS) and not name.upper().endswith("_FILE")


def has_password(text: str) -> bool:
    """Return whether a text contains an address with a password."""
    return _IN_ADDRESS.search(text) is not None
