"""Train the small language model that the quickstart measures.

    python benchmarks/train_model.py --texts DIR --out DIR [--shape gpt2]

Reads plain `.txt` files, trains a byte-level BPE tokenizer and a Llama or a GPT-2 of a few million parameters on
them, and writes a Hugging Face folder: weights, tokenizer and a model card. Training saves its state
beside the model and resumes from there when the same command is given again.

Knows nothing of capsweep. It is one file, though long, because it is run once and read whole.
"""

# Axes: B sequences, L tokens.

import hashlib
import json
import math
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

BOS = "<|endoftext|>"
PASSAGE_CHARACTERS = 2000
"""Characters of a passage, about: texts are cut between paragraphs, and a BOS stands before each passage."""
HELD_OUT_SHARE = 0.01
"""Share of the passages that are not trained on and give the held-out loss."""
SAVE_EVERY_SECONDS = 120.0
Shape = Literal["llama", "gpt2"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """Everything but the texts that decides the trained weights."""

    shape: Shape = "llama"
    """llama: rotary positions, gated blocks, RMS norms. gpt2: learned positions, biases, layer norms."""
    vocabulary: int = 512
    """Tokens in the vocabulary, the BOS among them."""
    hidden_size: int = 256
    """Width of the residual stream and of a memory vector."""
    layers: int = 3
    """Transformer blocks."""
    context: int = 256
    """Longest sequence, in tokens."""
    rows: int = 16
    """Sequences per optimizer step."""
    steps: int = 7_000
    """Optimizer steps in all."""
    matrix_rate: float = 0.02
    """Peak learning rate of Muon, which trains the matrices of the blocks."""
    vector_rate: float = 0.003
    """Peak learning rate of AdamW, which trains embeddings and norms."""
    seed: int = 0
    """Seed of the weights and of the order of the data."""


DEFAULTS = Training()


def passages(folder: Path) -> list[str]:
    """Cut every `.txt` file of `folder` (sorted by name) into passages at paragraph ends.

    Raises:
        FileNotFoundError: when the folder holds no `.txt` file.
    """
    files = sorted(folder.glob("*.txt"))
    if not files:
        raise FileNotFoundError(f"{folder}: no .txt file found; wanted at least one plain text to train on.")
    found: list[str] = []
    for file in files:
        passage = ""
        for paragraph in file.read_text(encoding="utf-8", errors="replace").split("\n\n"):
            # Line breaks inside a paragraph come from the printed page.
            if line := " ".join(paragraph.split()):
                passage += line + "\n\n"
            if len(passage) >= PASSAGE_CHARACTERS:
                found.append(passage)
                passage = ""
        if passage:
            found.append(passage)
    return found


def train_tokenizer(texts: list[str], *, vocabulary: int, context: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE: any text can be encoded, and decoding gives it back to the byte."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=[BOS],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=BOS,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )


def encode(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> NDArray[np.uint16]:
    """All passages as one stream of token ids, a BOS before each."""
    encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
    bos = tokenizer.bos_token_id
    return np.concatenate([np.array([bos, *ids], dtype=np.uint16) for ids in encoded])


def new_model(training: Training, *, bos_id: int) -> PreTrainedModel:
    """A model with fresh weights and a tied head."""
    torch.manual_seed(training.seed)
    if training.shape == "gpt2":
        return GPT2LMHeadModel(
            GPT2Config(
                vocab_size=training.vocabulary,
                n_embd=training.hidden_size,
                n_layer=training.layers,
                n_head=training.hidden_size // 32,
                n_positions=training.context,
                resid_pdrop=0.0,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
                bos_token_id=bos_id,
                eos_token_id=bos_id,
            )
        )
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=training.vocabulary,
            hidden_size=training.hidden_size,
            intermediate_size=training.hidden_size * 5 // 2,
            num_hidden_layers=training.layers,
            num_attention_heads=training.hidden_size // 32,
            num_key_value_heads=training.hidden_size // 64,
            max_position_embeddings=training.context,
            tie_word_embeddings=True,
            bos_token_id=bos_id,
            eos_token_id=bos_id,
        )
    )


def batches(stream: NDArray[np.uint16], training: Training, *, first_step: int) -> Iterator[Tensor]:
    """Random windows of the stream, (B, L) token ids; a step's windows do not depend on when training resumed."""
    for step in range(first_step, training.steps):
        generator = np.random.default_rng((training.seed, step))
        starts = generator.integers(0, len(stream) - training.context, size=training.rows)
        yield torch.from_numpy(np.stack([stream[s : s + training.context] for s in starts]).astype(np.int64))


def rate_factor(step: int, steps: int) -> float:
    """Warm-up over 1 % of the steps, then constant, then linear to zero over the last half."""
    return min(1.0, (step + 1) / (0.01 * steps), 2 * (1 - step / steps))


@torch.no_grad()
def held_out_loss(model: PreTrainedModel, stream: NDArray[np.uint16], *, context: int) -> float:
    """Mean cross-entropy in nats per token over the held-out stream, cut into windows of `context`."""
    num_windows = len(stream) // context
    windows = torch.from_numpy(stream[: num_windows * context].reshape(num_windows, context).astype(np.int64))
    losses = [model(input_ids=part, labels=part).loss.item() for part in windows.split(32)]
    return float(np.mean(losses))


def make_optimizers(model: PreTrainedModel, training: Training) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of a Llama's blocks and AdamW for the rest; AdamW for all of a GPT-2, as published.

    Muon computes in bfloat16: on a processor without it a step takes six times as long.
    """
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    is_llama = training.shape == "llama"
    matrices = [p for p in model.parameters() if is_llama and p.ndim == 2 and id(p) not in embeddings]
    taken = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in taken]
    adamw = torch.optim.AdamW(others, lr=training.vector_rate, betas=(0.9, 0.95), weight_decay=0.0)
    if not matrices:
        return [adamw]
    return [torch.optim.Muon(matrices, lr=training.matrix_rate, weight_decay=0.01, momentum=0.95), adamw]


def train(model: PreTrainedModel, stream: NDArray[np.uint16], training: Training, *, state_file: Path) -> float:
    """Train in place, from the saved state if there is one; returns the seconds spent in all sessions."""
    optimizers = make_optimizers(model, training)
    peaks = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    first_step, seconds_before = 0, 0.0
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        first_step, seconds_before = state["step"], state["seconds"]
        print(f"resuming at step {first_step} of {training.steps}", flush=True)

    started = saved_at = time.monotonic()

    def save(step: int) -> None:
        state = {
            "model": model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in optimizers],
            "step": step,
            "seconds": seconds_before + time.monotonic() - started,
        }
        torch.save(state, state_file.with_suffix(".tmp"))
        state_file.with_suffix(".tmp").replace(state_file)

    smooth = math.nan
    for step, tokens_BL in enumerate(batches(stream, training, first_step=first_step), start=first_step):
        for group, peak in zip(
            [group for optimizer in optimizers for group in optimizer.param_groups], peaks, strict=True
        ):
            group["lr"] = peak * rate_factor(step, training.steps)
        loss = model(input_ids=tokens_BL, labels=tokens_BL).loss
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        smooth = loss.item() if math.isnan(smooth) else 0.98 * smooth + 0.02 * loss.item()
        if (step + 1) % 50 == 0:
            rate = (step + 1 - first_step) / (time.monotonic() - started)
            minutes_left = (training.steps - step - 1) / rate / 60
            print(
                f"step {step + 1} of {training.steps}  loss {smooth:.3f}  {minutes_left:.0f} minutes left", flush=True
            )
        if time.monotonic() - saved_at > SAVE_EVERY_SECONDS:
            save(step + 1)
            saved_at = time.monotonic()
    save(training.steps)
    return seconds_before + time.monotonic() - started


def model_card(training: Training, *, facts: dict[str, str]) -> str:
    """The README of the model folder: its data, training and licence."""
    rows = "\n".join(f"| {name} | {value} |" for name, value in {**asdict(training), **facts}.items())
    return f"""---
license: apache-2.0
language: en
library_name: transformers
---
# The quickstart model of capsweep

A small causal language model trained from scratch by `benchmarks/train_model.py`. It exists so that
`make quickstart` measures a real model without a download; it is not meant for anything else.

Data: public-domain books (Project Gutenberg, header and footer removed), nothing else. Weights and tokenizer were
made by this project and carry its licence, Apache-2.0.

| what | value |
|---|---|
{rows}
"""


def main(
    texts: Annotated[Path, typer.Option(help="Folder of plain .txt files to train on.")],
    out: Annotated[Path, typer.Option(help="Folder to write the model to.")],
    shape: Annotated[Shape, typer.Option(help="Kind of model.")] = DEFAULTS.shape,
    steps: Annotated[int, typer.Option(help="Optimizer steps in all.")] = DEFAULTS.steps,
    layers: Annotated[int, typer.Option(help="Transformer blocks.")] = DEFAULTS.layers,
    hidden_size: Annotated[int, typer.Option(help="Width of the model.")] = DEFAULTS.hidden_size,
    vocabulary: Annotated[int, typer.Option(help="Tokens in the vocabulary.")] = DEFAULTS.vocabulary,
) -> None:
    """Train a small language model; the same command resumes where it stopped."""
    training = Training(shape=shape, steps=steps, layers=layers, hidden_size=hidden_size, vocabulary=vocabulary)
    work = out.with_name(out.name + ".training")
    work.mkdir(parents=True, exist_ok=True)
    # The number of steps may be raised until the rate begins to fall; everything else stays as begun.
    asked = json.dumps({**asdict(training), "steps": None})
    if (work / "training.json").exists() and (work / "training.json").read_text() != asked:
        raise typer.BadParameter(f"{work} holds a training with other settings; remove the folder to start again.")
    (work / "training.json").write_text(asked)

    cut = passages(texts)
    # Every n-th passage is held out, so that each book is in both parts.
    every = round(1 / HELD_OUT_SHARE)
    kept = [passage for number, passage in enumerate(cut) if number % every]
    if not (work / "tokenizer.json").exists():
        train_tokenizer(kept, vocabulary=vocabulary, context=training.context).save_pretrained(work)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(work)
    if not (work / "train.npy").exists():
        np.save(work / "train.npy", encode(tokenizer, kept))
    stream = np.load(work / "train.npy", mmap_mode="r")
    held_out = encode(tokenizer, cut[::every])

    model = new_model(training, bos_id=tokenizer.bos_token_id)
    num_parameters = sum(p.numel() for p in model.parameters())
    print(f"{len(stream):,} training tokens, {num_parameters:,} parameters", flush=True)
    seconds = train(model, stream, training, state_file=work / "state.pt")

    # Half precision on disk: the model is measured with exactly the shipped weights, in whatever precision it runs.
    model.bfloat16()
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    loss = held_out_loss(model.float().eval(), held_out, context=training.context)
    digest = hashlib.sha256("".join(cut).encode()).hexdigest()[:16]
    facts = {
        "parameters": f"{num_parameters:,}",
        "training files": f"{len(list(texts.glob('*.txt')))} (sha256 of the passages {digest})",
        "training tokens seen": f"{training.steps * training.rows * training.context:,} of {len(stream):,}",
        "held-out loss": f"{loss:.3f} nats a token, {loss / math.log(2):.2f} bits",
        "hours of training": f"{seconds / 3600:.1f}",
    }
    (out / "README.md").write_text(model_card(training, facts=facts))
    print(f"{out}: held-out loss {loss:.3f} nats a token after {training.steps} steps", flush=True)
    shutil.rmtree(work)


if __name__ == "__main__":
    typer.run(main)
