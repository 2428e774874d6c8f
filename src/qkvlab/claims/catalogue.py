"""All claims, read from the folder ``sayings``."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from qkvlab.claims import sayings
from qkvlab.claims.claim import Claim
from qkvlab.errors import unknown


@cache
def catalogue() -> dict[str, Claim]:
    """Return every claim by id, in the order of their numbers."""
    names = [module.name for module in pkgutil.iter_modules(sayings.__path__, sayings.__name__ + ".")]
    found = sorted((importlib.import_module(name).CLAIM for name in names), key=lambda claim: claim.number)
    return {claim.id: claim for claim in found}


def find(name: str) -> Claim:
    """Return a claim by its number or id.

    Raises:
        BadInput: there is none; the nearest is offered.

    >>> find("3") is find("self-attention")
    True
    """
    for claim in catalogue().values():
        if name.strip().lower() in (str(claim.number), claim.id):
            return claim
    known = [f"{claim.number} {claim.id}" for claim in catalogue().values()]
    raise unknown("claim", name, [part for text in known for part in text.split()])
