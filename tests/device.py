"""Where the tests of models run: on the CPU, or on a GPU under `make test-gpu`."""

import os

import pytest
import torch

DEVICE = torch.device(os.environ.get("MAPLE_TEST_DEVICE", "cpu"))
needs_gpu = pytest.mark.skipif(DEVICE.type == "cpu", reason="it needs a GPU: `make test-gpu`")
