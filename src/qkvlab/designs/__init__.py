"""How q, k and v are made: one idea per file, found because its file is here and states its ``EXAMPLES``.

Nothing here imports PyTorch until a design is built.
"""

from qkvlab.designs.design import Design, Matrix
from qkvlab.designs.ways import PATTERNS, Way

__all__ = ["PATTERNS", "Design", "Matrix", "Way", "catalogue", "examples", "famous", "parse"]

from qkvlab.designs.grammar import catalogue, examples, famous, parse  # reads this folder, so it comes last
