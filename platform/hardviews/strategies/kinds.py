"""Kinds of pairs that a strategy names: parts of a sum of methods ("0"), or their kinds ("0/class")."""

from hardviews.methods.method import Method
from hardviews.views.plan import of_kinds


def unknown_kinds(kinds: tuple[str, ...] | None, method: Method) -> str | None:
    """Return why a method has no pairs of some kinds, and what to do; None if it has pairs of each."""
    pairs = method.pairs()
    unknown = [kind for kind in kinds or () if not of_kinds(pairs, [kind])]
    if kinds is None or (kinds and not unknown):
        return None
    known = ", ".join(dict.fromkeys(name for pair in pairs for name in (pair.part, pair.kind) if name))
    named = f"has no pairs {', '.join(unknown)}" if unknown else "is given no kind"
    return f"kinds is {list(kinds)}, and the method {named}: choose among {known}, or leave kinds out for all."
