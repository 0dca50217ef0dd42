"""Says of weights that the files hold and the loaded model does not whether the model can do without them.

It can if they are of layers that config.json leaves out as a whole. It cannot if they are of layers that it has: these
would compute something else, such as with a bias left out, or with integers whose scales are left out.
"""

import re
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedModel

from tasks.towers import parts_read
from tasks.values import WrongModelError
from tasks.wording import counted

BUFFERS = re.compile(
    r"(attn|attention)\.bias$|\.(masked_bias|causal_mask|inv_freq|cos_cached|sin_cached|position_ids|embed_positions)$"
)
"""Constants, such as masks and angles, that older releases of transformers saved and that models now compute. Source:
`register_buffer` in GPT-2, GPT-Neo, GPT-J, CodeGen, GPT-NeoX and Llama of transformers 4.0 to 4.30."""


def about_unused(name: str, model: PreTrainedModel, config: Any, unused: Sequence[str]) -> tuple[str, ...]:
    """A note if the files hold weights that the model has no place for.

    Args:
        name: The model, as messages call it.
        model: The loaded model, before anything was added to its layers.
        config: Its configuration.
        unused: The names of those weights.

    Raises:
        WrongModelError: when some of them are of a layer that the model has.
    """
    modules = dict(model.named_modules())
    read = {id(module) for part in parts_read(model, config) for module in part.modules()}
    layers = {place: module for place, module in modules.items() if id(module) in read}
    computed = {place for place, _ in model.named_buffers()}
    prefixes = ("", f"{model.base_model_prefix}.")  # files of a model without head leave its prefix out
    of_layers = [
        weights
        for weights in unused
        if not BUFFERS.search(weights)
        and not any(prefix + weights in computed for prefix in prefixes)
        and any(_is_of_a_layer(prefix + weights, layers) for prefix in prefixes)
    ]
    if of_layers:
        raise WrongModelError(
            f"{name}: {counted(len(of_layers), 'weight')} in the files that config.json leaves out of layers that it "
            f"asks for, such as {of_layers[0]}: the layers would compute something else. Wanted the files of one "
            "model, not quantized; copy or download them again."
        )
    if not unused:
        return ()
    fewer = counted(len(unused), "weight")
    return (f"config.json asks for {fewer} fewer than are in the files; left out, such as {unused[0]}.",)


def _is_of_a_layer(weights: str, layers: dict[str, Any]) -> bool:
    """Whether a weight of this name would be of one of these modules: in a numbered one, or of one without parts."""
    parts = weights.split(".")[:-1]
    for length in range(len(parts), 0, -1):
        if (found := layers.get(".".join(parts[:length]))) is not None:
            is_numbered = any(part.isdigit() for part in parts[:length])
            return is_numbered or (length == len(parts) and not any(found.children()))
    return False
