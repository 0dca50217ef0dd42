"""What is public of a run's words: no path, host, user or secret."""

import pytest

from orchestrator.publishing.anonymous import public
from orchestrator.spec.sweep import Sweep

SWEEP = Sweep.model_validate(
    {
        "name": "mine",
        "models": ["/home/alice/gpt2", "/data/quickstart/model", "org/hub", "/scratch/gpt2"],
        "texts": [{"source": "files", "path": "/home/alice/texts/*.txt"}],
        "storage": "s3://secret-bucket/runs",
    }
)
MODELS = {
    "gpt2": {"model": {"name": "/home/alice/gpt2", "dtype": "float32"}, "facts": {"fingerprint": "12"}},
    "org/hub": {"model": {"name": "org/hub", "dtype": "float32"}, "facts": {"fingerprint": "34"}},
}
PROVENANCE = {"models": MODELS, "sessions": [{"session_id": "s1", "host": "alices-laptop", "command": ["run", "/a"]}]}


def test_places_keep_their_last_name():
    shown = public(SWEEP, PROVENANCE, without_texts=False)
    assert [model.name for model in shown.sweep.models] == ["./gpt2", "./quickstart/model", "org/hub", "./gpt2-2"]
    assert [entry.model_dump()["path"] for entry in shown.sweep.texts] == ["./*.txt"]
    assert shown.sweep.storage == "runs/"
    assert [known["model"]["name"] for known in shown.provenance["models"].values()] == ["./gpt2", "org/hub"]
    assert shown.provenance["sessions"] == [{"session_id": "s1"}]


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("/home/alice/gpt2: no weights", "./gpt2: no weights"),
        ("see /var/log/ray/x.log, or /tmp", "see x.log, or tmp"),
        ("'/home/Jo Doe/x y.txt' is gone", "'x y.txt' is gone"),
        (r"C:\Users\jo\x.txt and \\server\share\y", "x.txt and y"),
        ("~/private/x", "x"),
        ("alices-laptop lost 10.0.0.7:6379", "[redacted] lost [redacted]:6379"),
        ("s3://bucket/key and http://head:8265/api", "[redacted] and [redacted]"),
        ("https://huggingface.co/org/hub", "https://huggingface.co/org/hub"),
        ("token hf_abcdefgh12345", "token [redacted]"),
        ("60 tokens/s, 1/2 of org/hub at 0.5", "60 tokens/s, 1/2 of org/hub at 0.5"),
        ("torch 2.13.0 and version 1.2.3", "torch 2.13.0 and version 1.2.3"),
    ],
)
def test_messages(message, shown):
    assert public(SWEEP, PROVENANCE, without_texts=False).clean(message) == shown
