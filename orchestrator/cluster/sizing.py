"""How much device memory an engine needs, and so how many GPUs, or which fraction of one.

Estimated from a model's configuration, before anything is loaded. An engine that finds less device memory than this
cuts its batches; one that cannot hold a single slot reports that. Pure. Knows nothing of Ray or torch.
"""

import math
from collections.abc import Sequence

from orchestrator.cluster.placement import ModelNeeds, Node
from orchestrator.planning.plan import PlannedModel
from tasks.facts import ModelFacts
from tasks.values import Model

SMALL_PARAMETERS = 10_000_000
"""Models below this gain almost nothing from a second thread (24 texts on stories260K: 51 s of steps with one thread,
47 s with two), so on CPUs each core gets its own engine (twice as much in the same time)."""

GPU_GIGABYTES = {
    "T4": 16, "P100": 16, "V100": 16, "A10": 24, "A10G": 24, "L4": 24, "RTX-4090": 24, "A40": 48, "L40": 48, "L40S": 48,
    "RTX-A6000": 48, "A100": 40, "A100-40G": 40, "A100-80G": 80, "H100": 80, "H200": 141, "B200": 180,
}  # fmt: skip
"""Device memory in GB by Ray's name of a GPU; the smaller one where a name stands for two sizes."""
UNKNOWN_GPU_GIGABYTES = 16
"""Assumed for a GPU that is not listed: the smallest in common use."""
BYTES_PER_WEIGHT = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "int8": 1.0, "nf4": 0.5}
ACTIVATIONS_PER_HIDDEN = 17
"""Numbers kept for the backward pass per layer, token and hidden unit: 34 bytes at 2 bytes per number. Frozen weights
need fewer, so this is an upper bound.
Source: Korthikanti et al. 2022, "Reducing Activation Recomputation in Large Transformer Models", equation 1."""
WEIGHTS_PER_HIDDEN_SQUARED = 12
"""Weights of a layer over the square of its width."""
CONTEXT_GIGABYTES = 1.5
"""Device memory that CUDA, its libraries and fragmentation take in each process."""
USABLE = 0.9
"""Share of a GPU's device memory that is planned with."""
BUSY_TOKENS = 8192
"""Tokens per step that keep a GPU busy: device memory beyond what they take is of no use. Estimated, not measured."""
MOST_ENGINES_PER_GPU = 4
"""More processes on one GPU wait for each other: twelve on an H100 took turns (docs/scale.md). Estimated."""


def engine_gigabytes(model: Model, facts: ModelFacts, *, tokens: int) -> float:
    """Device memory in GB of an engine with so many tokens per step: weights, activations and CONTEXT_GIGABYTES."""
    weight_bytes = BYTES_PER_WEIGHT[model.quantization or model.dtype]
    number_bytes = BYTES_PER_WEIGHT[model.dtype]
    # Number of layers times width, from the weights of a layer of this width.
    layers_times_width = facts.num_parameters / (WEIGHTS_PER_HIDDEN_SQUARED * facts.embedding_width)
    activations = ACTIVATIONS_PER_HIDDEN * layers_times_width * number_bytes * tokens
    return (facts.num_parameters * weight_bytes + activations) / 1e9 + CONTEXT_GIGABYTES


def gpus_of_engine(model: Model, facts: ModelFacts, *, longest: int, gpu_gigabytes: float) -> float:
    """GPUs that one engine takes: a fraction if several engines fit on one GPU, several if one GPU is too small.

    Args:
        model: The model, with its precision.
        facts: What its configuration states.
        longest: Tokens of the longest possible text.
        gpu_gigabytes: Device memory of one GPU, in GB.
    """
    usable = USABLE * gpu_gigabytes
    least = engine_gigabytes(model, facts, tokens=longest)
    if least > usable:
        return float(math.ceil(least / usable))
    comfortable = engine_gigabytes(model, facts, tokens=max(longest, BUSY_TOKENS))
    return 1.0 / max(1, min(MOST_ENGINES_PER_GPU, int(usable / comfortable)))


def model_needs(
    planned: PlannedModel, nodes: Sequence[Node], *, longest: int, num_open: int, num_begun: int
) -> ModelNeeds:
    """What is known about a model before its engines are placed.

    Args:
        planned: The model.
        nodes: The cluster, and nodes that may be added to it: an engine must fit the smallest of their GPUs.
        longest: Tokens of the longest possible text.
        num_open: Searches that are not done.
        num_begun: Searches that were not done when the session began.
    """
    gigabytes = min((node.gpu_gigabytes for node in nodes if node.gpus), default=0.0)
    gpus = 1.0
    if gigabytes:
        gpus = gpus_of_engine(planned.model, planned.facts, longest=longest, gpu_gigabytes=gigabytes)
    return ModelNeeds(
        model=planned.name,
        num_open=num_open,
        num_begun=num_begun,
        gpus=gpus,
        is_small=planned.facts.num_parameters < SMALL_PARAMETERS,
    )
