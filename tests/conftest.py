"""One thread per test process, so that workers do not fight for the cores; hypothesis draws the same every time."""

import os

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")  # read when NumPy and PyTorch are first imported

from hypothesis import settings  # noqa: E402

settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")
