"""Tests of a CUDA card: nothing of them is collected where PyTorch sees none (`CONTRIBUTING.md`)."""

import torch

collect_ignore_glob = [] if torch.cuda.is_available() else ["test_*.py"]
