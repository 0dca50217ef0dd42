"""Removes secrets from text that is stored or shown: rows, provenance, messages.

A secret is the value of an environment variable or flag whose name matches SECRET_NAME, or the part of a URL before
the `@` of its host, or behind such a name in its query. Knows nothing of runs or sweeps.
"""

import os
import re
from collections.abc import Mapping, Sequence

from orchestrator.errors import BadInput

MARK = "[redacted]"
SECRET_NAME = re.compile(
    r"TOKEN$|SECRET|KEY$|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|CONNECTION_STRING|_PAT$", re.IGNORECASE
)
"""Names of environment variables and flags, such as HF_TOKEN, AWS_SECRET_ACCESS_KEY and --api-key."""
SHORTEST_SECRET = 8
"""Shorter values (`1`, `none`, `true`) are not secrets, and would match inside ordinary words."""
URL_CREDENTIALS = re.compile(r"(?<=://)(?:[^/?#\s:]*:(?!\d+[/?#])[^\s?#'\"<>]*|[^/?#\s'\"<>]*)@")
"""Everything up to the last `@`: a password may contain one, and an S3 key a slash. What follows a port is a path."""
URL_PARAMETER = re.compile(
    r"(?P<name>[?&](?:[\w.-]*(?:token|secret|key|password|credential|signature)|sig|auth)=)[^&#\s'\"<>]+", re.IGNORECASE
)
"""A secret behind the `?` of a URL: of an index, or in what an object store or the hub has signed."""
ASSIGNED = re.compile(r"(?P<flag>(?<![\w-])--?(?P<name>[A-Za-z][\w-]*)[= ]\s*)(?P<value>[^\s'\"]+)")


def redact(text: str, environment: Mapping[str, str] | None = None) -> str:
    """The text with every secret replaced by MARK.

    Args:
        text: Text that will be stored or shown.
        environment: Variables whose values may be secrets; None: those of this process.
    """
    # Longest first: one secret may be a prefix of another.
    for secret in sorted(secrets_in(os.environ if environment is None else environment), key=len, reverse=True):
        text = text.replace(secret, MARK)
    text = URL_PARAMETER.sub(rf"\g<name>{MARK}", URL_CREDENTIALS.sub(f"{MARK}@", text))
    return ASSIGNED.sub(_without_value, text)


def secrets_in(environment: Mapping[str, str]) -> set[str]:
    """The values of variables whose names mark a secret."""
    values = {value.strip() for name, value in environment.items() if SECRET_NAME.search(name)}
    return {value for value in values if len(value) >= SHORTEST_SECRET}


def _without_value(found: re.Match[str]) -> str:
    return found["flag"] + MARK if SECRET_NAME.search(found["name"]) else found[0]


def redact_command(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> list[str]:
    """The arguments of a command without secrets, including a secret in the argument after its flag."""
    before = ["", *arguments]
    return [
        MARK if re.fullmatch(r"--?[\w-]+", flag) and SECRET_NAME.search(flag) else redact(argument, environment)
        for flag, argument in zip(before, arguments, strict=False)
    ]


def credentials_in(url: str) -> str | None:
    """The error message if `url` holds credentials, which rows, pages and messages would repeat; else None."""
    if not URL_CREDENTIALS.search(url):
        return None
    return (
        f"{redact(url)} holds credentials. Remove them from the URL, and give them as environment variables "
        "(such as AWS_ACCESS_KEY_ID, FSSPEC_SFTP_PASSWORD) or in the fsspec configuration."
    )


def refuse_credentials(url: str) -> None:
    """Raise BadInput if the URL of a run holds credentials."""
    if message := credentials_in(url):
        raise BadInput(message)
