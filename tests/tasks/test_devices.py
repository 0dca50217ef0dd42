"""Devices: on CUDA, float32 is float32."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tasks.devices import pick_device
from tasks.values import TaskError


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose torch would find CUDA, and may round to TF32."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    rounding: list[Any] = [torch.backends.cuda.matmul, torch.backends.cudnn]
    before = [each.allow_tf32 for each in rounding]
    for each in rounding:
        each.allow_tf32 = True
    yield
    for each, allowed in zip(rounding, before, strict=True):
        each.allow_tf32 = allowed


@pytest.mark.parametrize("name", ["auto", "cuda", "cuda:1"])
def test_products_and_convolutions_are_not_rounded_to_tf32(cuda, name):
    assert pick_device(name).type == "cuda"
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32


def test_an_environment_that_rounds_is_refused(cuda, monkeypatch):
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    with pytest.raises(TaskError, match=r"NVIDIA_TF32_OVERRIDE=1: .*Unset it; for faster products set dtype: bfloat16"):
        pick_device("cuda")
    assert pick_device("cpu").type == "cpu"


def test_an_environment_that_forbids_tf32_is_accepted(cuda, monkeypatch):
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    assert pick_device("cuda").type == "cuda"
