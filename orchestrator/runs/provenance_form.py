"""The form of a run's provenance, as far as readers depend on it: anybody may have edited the file.

Knows nothing of files.
"""

import json
from dataclasses import fields
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, create_model

from tasks.facts import ModelFacts
from tasks.values import Model


class _Part(BaseModel, extra="allow", strict=True):
    """A mapping of the file: what is not named here may be anything."""


def _form_of(kind: Any, *, required: str, extra: Literal["allow", "forbid"]) -> Any:
    """The form of a dataclass, of which earlier versions had fewer fields."""
    optional = {field.name: (field.type, None) for field in fields(kind) if field.name != required}
    base = type(f"_{kind.__name__}Part", (_Part,), {}, extra=extra)
    return create_model(f"_{kind.__name__}", __base__=base, **{required: str, **optional})


class _Known(_Part):
    # A model is made of what stands here, so no other field may.
    model: _form_of(Model, required="name", extra="forbid")  # type: ignore[valid-type]
    facts: _form_of(ModelFacts, required="fingerprint", extra="allow")  # type: ignore[valid-type]
    readings: dict[str, Any] | None = None


class _Session(_Part):
    session_id: str
    started_at: AwareDatetime
    ended_at: AwareDatetime | None = None
    host: str | None = None
    machine: str | None = None
    processor: str | None = None
    cores: int | None = None
    git_commit: str | None = None
    versions: dict[str, str | None] | None = None
    notes: list[str] = []
    plugins: dict[str, str] = {}


class _Provenance(_Part):
    models: dict[str, _Known]
    sessions: list[_Session]
    sweep: str = ""
    text_commits: dict[str, str] = {}
    notes: list[str] = []
    published: dict[str, Any] = {}


def parse_provenance(content: bytes) -> dict[str, Any]:
    """What a run records about its models and sessions, as values of JSON.

    Raises:
        ValueError: when it is not JSON, or a part that readers depend on is missing or of another type.
        RecursionError: when it is nested too deeply.
    """
    _Provenance.model_validate_json(content)
    known = json.loads(content)
    _ = known.get("sweep", "").encode()  # half of a surrogate pair is no character
    return known
