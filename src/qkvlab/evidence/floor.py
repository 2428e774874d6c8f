"""Is there anything to be equivalent about? Two designs that both learned nothing are not a finding.

The floor is `uniform`, the control that attends to everything alike. "Equivalent" is given only where the
baseline beats it by more than the gate (2 delta), and that too is decided by a betting sequence at the same
alpha.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from qkvlab.evidence.betting import wealth_down, wealth_up
from qkvlab.evidence.differences import Outcome, paired
from qkvlab.evidence.rule import Rule

Floor = Literal["beaten", "not beaten", "waiting", "absent"]


def beats_floor(baseline: Sequence[Outcome], uniform: Sequence[Outcome] | None, rule: Rule) -> Floor:
    """Say whether the mean of uniform - baseline is shown to lie above the gate.

    Args:
        baseline: outcomes by seed-list prefix, [n].
        uniform: outcomes of the floor by seed-list prefix; the longer arm is cut. None: the study has no
            floor.
        rule: gate, clip, alpha and bets are used.

    Returns:
        "beaten" once the low end has exceeded the gate, "not beaten" once the high end has fallen below it,
        whichever came first, so that later seeds change neither; "waiting" as long as neither happened;
        "absent" without a floor.
    """
    if uniform is None:
        return "absent"
    n = min(len(baseline), len(uniform))
    if n < rule.min_seeds:
        return "waiting"
    lead = paired(uniform[:n], baseline[:n], rule.clip).values
    # The low end exceeds the gate exactly where the gate, as a claimed mean, is refused from below.
    above = wealth_up(lead, rule.gate, rule.clip, rule.bets, rule.weights) > 2 / rule.alpha
    below = wealth_down(lead, rule.gate, rule.clip, rule.bets, rule.weights) > 2 / rule.alpha
    settled = np.flatnonzero(above | below)
    if settled.size == 0:
        return "waiting"
    # At one look both cannot hold: betting up gains only where D is above the gate on average, betting down
    # only where it is below.
    return "beaten" if above[settled[0]] else "not beaten"
