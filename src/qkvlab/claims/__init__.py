"""Claims: every sentence people say about Q, K and V, decided by registered checks and never by a hand.

    claim = find("no-synonyms")            # or its number: a sentence, its places, its literature
    registration["claims"] = register(registration["tasks"], alpha)      # before the first run
    for each in told(findings):            # after it: verdict, evidence, obstacles, the interview answer
        each.verdict                       # supported, refuted, depends (on `each.on`) or undecided
        for place in each.places:          # state: holds, fails, open or absent; `text` says it with numbers
            for row in place.evidence:     # row.check: words, asks, threshold; row.answer: says, low, high, n, ...
                span(row.check, row.answer), threshold(row.check), row.obstacle

`to_row` and `from_row` lead to ``verdicts.json`` and back, so that the command line needs no study.

Reading order: ``check`` asks, ``numbers`` and ``answer`` decide one question, ``claim`` states a sentence, ``telling``
combines, ``sayings`` holds the sentences.
"""

from qkvlab.claims.answer import Answer
from qkvlab.claims.catalogue import catalogue, find
from qkvlab.claims.check import Check, Term
from qkvlab.claims.claim import Claim, Place, Source
from qkvlab.claims.decided import Answered, Known, answered, told
from qkvlab.claims.registered import Registered, register, registered
from qkvlab.claims.rows import from_row, to_row
from qkvlab.claims.telling import Evidence, Told, ToldPlace, ruling, tell
from qkvlab.claims.wording import RULINGS, SAYS, SIDES, STATES, level, quantity, span, threshold

__all__ = [
    "RULINGS",
    "SAYS",
    "SIDES",
    "STATES",
    "Answer",
    "Answered",
    "Check",
    "Claim",
    "Evidence",
    "Known",
    "Place",
    "Registered",
    "Source",
    "Term",
    "Told",
    "ToldPlace",
    "answered",
    "catalogue",
    "find",
    "from_row",
    "level",
    "quantity",
    "register",
    "registered",
    "ruling",
    "span",
    "tell",
    "threshold",
    "to_row",
    "told",
]
