"""Draws texts from a language model, token by token.

Knows nothing of memories or probes.
"""

# Axes: B texts, L tokens, V ordinary tokens.

from collections.abc import Sequence

import torch
from torch import Tensor

from tasks.language_model import LanguageModel


@torch.no_grad()
def sample_texts(
    model: LanguageModel,
    num_texts: int,
    length: int,
    *,
    temperature: float,
    seed: int,
    ordinary_tokens: Sequence[int],
) -> Tensor:
    """Texts drawn from the model, (B, L) token ids, none of them special.

    The first token follows the BOS. If the model has no BOS, it is drawn uniformly.
    """
    generator = torch.Generator().manual_seed(seed)
    ordinary_V = torch.tensor(ordinary_tokens)
    drawn: list[Tensor] = []
    if model.bos is None:
        drawn.append(ordinary_V[torch.randint(len(ordinary_V), (num_texts,), generator=generator)][:, None])
    first = drawn[0] if model.bos is None else torch.full((num_texts, 1), model.bos)
    inputs = model.embed(first.to(model.device))
    reading = model.reading()
    while len(drawn) < length:
        logits_BV = reading.read(inputs).cpu()[:, ordinary_V]
        if temperature == 0:
            choice_B1 = logits_BV.argmax(-1, keepdim=True)
        else:
            choice_B1 = (logits_BV / temperature).softmax(-1).multinomial(1, generator=generator)
        drawn.append(ordinary_V[choice_B1])
        inputs = model.embed(drawn[-1].to(model.device))
    return torch.cat(drawn, dim=1)
