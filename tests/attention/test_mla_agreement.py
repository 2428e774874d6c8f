"""Multi-head latent attention behind other parts equals its NumPy twin."""

import pytest
import torch
from test_reference_agreement import SITUATIONS, agree

from qkvlab.designs import parse
from qkvlab.testing import sizes

NAMES = ("MLA11/bias", "MLA11q7/rope4/bias", "MLA/rope/noself", "MLA11/rope4/h16", "MLA11/rope2/window3", "MLA11/alibi")


@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS)
@pytest.mark.parametrize("name", NAMES)
def test_it_equals_its_twin(name, situation):
    design = parse(name)
    agree(design, sizes(design), torch.float64, 2, 5, **situation)
