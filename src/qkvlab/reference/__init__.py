"""The same mathematics once more in plain NumPy: the yardstick of the tests, and what runs shipped models."""

from qkvlab.reference.attention import Steps, softmax, trace
from qkvlab.reference.encoder import Encoder, Understood
from qkvlab.reference.reader import Reading, read

__all__ = ["Encoder", "Reading", "Steps", "Understood", "read", "softmax", "trace"]
