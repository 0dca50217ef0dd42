"""The device on which tests of engines, provers and models compute."""

import os

DEVICE = os.environ.get("CAPSWEEP_TEST_DEVICE", "cpu")
"""`make gpu-test` sets it to cuda."""
