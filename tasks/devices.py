"""The devices of this machine: which one to take, its fastest precision, and whether it ran out of memory.

Knows nothing of models.
"""

import os
import warnings

import torch

from tasks.values import TaskError


def pick_device(name: str) -> torch.device:
    """The named device; `auto` takes CUDA, else MPS, else the CPU.

    Raises:
        TaskError: when the named device is not on this machine, or CUDA is told to round float32.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise TaskError(f"device: {name!r} is not known; wanted auto, cpu, cuda or mps.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise TaskError("engines.device: cuda was asked for, but torch finds no CUDA device; use auto or cpu.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise TaskError("engines.device: mps was asked for, but torch finds none here; use auto or cpu.")
    if device.type == "cuda":
        _keep_float32()
        # Torch's thread for backward passes sets up its context by itself, and warns of it in the user's terminal.
        warnings.filterwarnings("ignore", "Attempting to run cuBLAS, but there was no current CUDA context")
    return device


def _keep_float32() -> None:
    """Let CUDA compute float32 in float32: a memory is certified in the numbers that the sweep names.

    In TF32 the logits of SmolLM2 differ by 0.0024 of the largest one, and torch takes it for convolutions by default.

    Raises:
        TaskError: when the environment forces TF32.
    """
    if os.environ.get("NVIDIA_TF32_OVERRIDE") == "1":
        raise TaskError(
            "NVIDIA_TF32_OVERRIDE=1: it rounds float32 to TF32 on this GPU, so nothing would be certified in float32. "
            "Unset it; for faster products set dtype: bfloat16."
        )
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def native_dtype(name: str) -> str:
    """bfloat16 if the device multiplies matrices in it, else float32: by the device's features, not by a clock.

    Raises:
        TaskError: when the named device is not on this machine.
    """
    device = pick_device(name)
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return "bfloat16"
    return "float32"


def is_out_of_memory(error: Exception) -> bool:
    """Whether this error means that RAM or device memory ran out."""
    # Only CUDA has an error class of its own; CPU, MPS and cuBLAS raise a plain RuntimeError.
    message = str(error)
    words_of_it = ("out of memory", "can't allocate memory", "ALLOC_FAILED")
    return isinstance(error, MemoryError) or any(words in message for words in words_of_it)
