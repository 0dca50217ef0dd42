"""The trainer of the quickstart's model: a few steps give a folder that transformers reads, and are kept on the way."""

import pytest
import train_model
import typer
from transformers import AutoModelForCausalLM, AutoTokenizer

TEXT = "\n\n".join(f"Paragraph {n}: the fox ran over hill number {n * 7 % 31} and back again." for n in range(200))


def test_a_few_steps_give_a_model_and_its_card(tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "book.txt").write_text(TEXT)
    out = tmp_path / "model"
    train_model.main(tmp_path / "texts", out, shape="gpt2", steps=2, layers=1, hidden_size=64, vocabulary=300)
    tokenizer, model = AutoTokenizer.from_pretrained(out), AutoModelForCausalLM.from_pretrained(out)
    tokens = tokenizer(TEXT)["input_ids"]
    assert tokenizer.decode(tokens) == TEXT
    assert model.config.vocab_size == 300 > max(tokens)
    card = (out / "README.md").read_text()
    assert "trained from scratch by `benchmarks/train_model.py`" in card
    assert "| steps | 2 |" in card
    assert not (tmp_path / "model.training").exists(), "what a training keeps to resume from is gone when it ends"


def test_a_training_with_other_settings_is_not_continued(tmp_path):
    work = tmp_path / "model.training"
    work.mkdir()
    (work / "training.json").write_text("{}")
    with pytest.raises(typer.BadParameter, match="remove the folder to start again"):
        train_model.main(tmp_path, tmp_path / "model")
