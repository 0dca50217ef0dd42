"""Which part of a GPU an engine takes, from what is known before anything is loaded."""

import pytest

from orchestrator.cluster.sizing import CONTEXT_GIGABYTES, engine_gigabytes, gpus_of_engine
from tasks.facts import ModelFacts
from tasks.values import Model


def facts(num_parameters: float, width: int) -> ModelFacts:
    return ModelFacts(
        fingerprint="f",
        revision="r",
        vocabulary=50_000,
        context=2048,
        embedding_width=width,
        num_parameters=int(num_parameters),
    )


def test_device_memory_is_weights_and_activations():
    # 12 layers of width 1024 have 12 * 12 * 1024^2 weights: at 2 bytes .3 GB, and 17 * 2 bytes a layer, token and unit.
    weights = 12 * 12 * 1024**2
    found = engine_gigabytes(Model(name="m", dtype="bfloat16"), facts(weights, 1024), tokens=1000)
    assert found == pytest.approx((2 * weights + 17 * 12 * 1024 * 2 * 1000) / 1e9 + CONTEXT_GIGABYTES)


@pytest.mark.parametrize(
    ("num_parameters", "width", "dtype", "quantization", "gigabytes", "gpus"),
    [
        (162e6, 768, "bfloat16", None, 80, 1 / 4),
        (162e6, 768, "float32", None, 16, 1),
        (8e9, 4096, "bfloat16", None, 80, 1),
        (8e9, 4096, "bfloat16", None, 24, 2),
        (8e9, 4096, "bfloat16", "nf4", 24, 1),
        (70e9, 8192, "bfloat16", None, 80, 3),
    ],
)
def test_small_models_share_a_gpu_and_large_ones_take_several(
    num_parameters, width, dtype, quantization, gigabytes, gpus
):
    model = Model(name="m", dtype=dtype, quantization=quantization)
    assert gpus_of_engine(model, facts(num_parameters, width), longest=1568, gpu_gigabytes=gigabytes) == gpus
