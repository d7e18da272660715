"""The one exception that means "the user can mend this"."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A broken rule, with the value that broke it and the remedy, in one line.

    The two commands print it as ``error: <message>`` and exit with status 2; anything else is our own fault.
    """


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """Return the error for an unknown name: says the name, the nearest known one and all known ones."""
    known = sorted(known)
    spelt = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), spelt, n=1, cutoff=0.4)
    hint = f" did you mean {spelt[near[0]]!r}?" if near else ""
    return UserError(f"unknown {kind} {name!r};{hint} known: {', '.join(known)}")


def must_be_positive(section: str, options: object, *names: str) -> None:
    """Raise UserError for a field of ``options`` that is not positive; ``section`` is where the config has them."""
    for name in names:
        if not getattr(options, name) > 0:  # nor is NaN
            raise UserError(f"{section}.{name} must be positive, not {getattr(options, name)}")
