"""The forms of names, label keys, label values and images that the Kubernetes API accepts."""

import re

LONGEST = 63  # characters of a label's value, of its key without the prefix, and of a host's name
LONGEST_DOMAIN = 253  # characters of the prefix of a label's key, and of most objects' names

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_WORD = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?"
_DOMAIN = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*"


def bad_key(key: str) -> str | None:
    """Return the mistake in the key of a label, or None."""
    prefix, slash, name = key.rpartition("/")
    if slash and (why := bad_domain(prefix)):
        return f"the part before the '/' of its key {why}"
    return _bad_word(name, "its key" if not slash else "the part after the '/' of its key")


def bad_value(value: str) -> str | None:
    """Return the mistake in the value of a label, or None; the value may be empty."""
    return _bad_word(value, "its value") if value else None


def bad_object(name: str) -> str | None:
    """Return the mistake in the name of an object, such as a Secret, or None."""
    why = bad_domain(name)
    return f"it {why}" if why else None


def bad_resource(name: str) -> str | None:
    """Return the mistake in the name of a device that nodes offer, an extended resource, or None."""
    if "/" not in name:
        return "it has no '/', as in VENDOR/DEVICE"
    if (domain := name.partition("/")[0]) == "kubernetes.io" or domain.endswith(".kubernetes.io"):
        return "names of kubernetes.io are not those of devices"
    return bad_key(f"requests.{name}") and (bad_key(name) or "it is too long")  # the key that a quota has for it


def bad_digest(image: str) -> str | None:
    """Return the mistake in the digest of an image's name, or None; most names have no digest."""
    name, at, digest = image.partition("@")
    if not at or (name and _DIGEST.fullmatch(digest)):
        return None
    if not name:
        return "there is no name before the '@'"
    kind, _, figures = digest.partition(":")
    if kind != "sha256":
        return f"after the '@' stands {digest!r}, and not sha256: with 64 figures from 0-9 and a-f"
    if re.fullmatch(r"[0-9a-f]*", figures) is None:
        return "its digest has other characters than 0-9 and a-f"
    return f"its digest has {len(figures)} figures after sha256:, and not 64"


def bad_domain(name: str) -> str | None:
    """Return the mistake in a name of the form of a DNS domain, or None."""
    if len(name) > LONGEST_DOMAIN:
        return f"has {len(name)} characters, and Kubernetes takes {LONGEST_DOMAIN}"
    if re.fullmatch(_DOMAIN, name) is None:
        return (
            "may have small letters, digits, '-' and '.' only, and a letter or digit at both ends and beside every '.'"
        )
    return None


def _bad_word(word: str, what: str) -> str | None:
    if len(word) > LONGEST:
        return f"{what} has {len(word)} characters, and Kubernetes takes {LONGEST}"
    if re.fullmatch(_WORD, word) is None:
        return f"{what} may have letters, digits, '-', '_' and '.' only, and a letter or digit at both ends"
    return None
