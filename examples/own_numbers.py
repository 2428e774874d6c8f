"""Decide between two designs from your own runs: any loss, any trainer, paired by seed."""

import numpy as np

from qkvlab.evidence import Outcome, Rule, decide

rng = np.random.default_rng(0)
hard = rng.normal(0, 0.02, size=40)  # what a seed does to every design
baseline = [Outcome(0.300 + h + e) for h, e in zip(hard, rng.normal(0, 0.003, 40), strict=True)]
shared = [Outcome(0.304 + h + e) for h, e in zip(hard, rng.normal(0, 0.003, 40), strict=True)]
uniform = [Outcome(0.900)] * 40  # the floor: without it nothing is called equivalent

verdict = decide(shared, baseline, uniform, Rule(delta=0.05, alpha=0.05))
print(f"{verdict.verdict} after {verdict.n} seeds: {verdict.estimate:+.4f} [{verdict.low:+.3f}, {verdict.high:+.3f}]")
