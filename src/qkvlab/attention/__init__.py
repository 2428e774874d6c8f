"""What happens once q, k and v exist: masks, scores, softmax, the layer and its trace."""

from qkvlab.attention.layer import Attention
from qkvlab.attention.trace import Trace

__all__ = ["Attention", "Trace"]
