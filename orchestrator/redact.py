"""Takes secrets out of text that is kept or shown: rows, provenance, messages.

A secret is the value of an environment variable whose name marks it as one, what stands before the `@` of a URL's
host, or what follows a flag whose name does. Knows nothing of runs or sweeps.
"""

import os
import re
from collections.abc import Mapping, Sequence

from orchestrator.errors import BadInput

MARK = "[redacted]"
SECRET_NAME = re.compile(r"TOKEN$|SECRET|KEY$|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL", re.IGNORECASE)
"""Names of environment variables and flags, such as HF_TOKEN, AWS_SECRET_ACCESS_KEY and --api-key."""
SHORTEST_SECRET = 8
"""A shorter value (`1`, `none`, `true`) is no secret, and would be found within innocent words."""
URL_CREDENTIALS = re.compile(r"(?<=://)(?:[^/?#\s:]*:(?!\d+[/?#])[^\s?#'\"<>]*|[^/?#\s'\"<>]*)@")
"""All up to the last `@`: passwords may hold one too, and keys of S3 a slash. What follows a port is a path."""
ASSIGNED = re.compile(r"(?P<flag>(?<![\w-])--?(?P<name>[A-Za-z][\w-]*)[= ]\s*)(?P<value>[^\s'\"]+)")


def redact(text: str, environment: Mapping[str, str] | None = None) -> str:
    """The text with every secret replaced by MARK.

    Args:
        text: Whatever will be written or shown.
        environment: Variables whose values may be secrets; None takes those of this process.
    """
    values = (os.environ if environment is None else environment).items()
    secrets = {value for name, value in values if SECRET_NAME.search(name) and len(value.strip()) >= SHORTEST_SECRET}
    # The longest first: one secret may be the beginning of another.
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret.strip(), MARK)
    return ASSIGNED.sub(_without_value, URL_CREDENTIALS.sub(f"{MARK}@", text))


def _without_value(found: re.Match[str]) -> str:
    return found["flag"] + MARK if SECRET_NAME.search(found["name"]) else found[0]


def redact_command(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> list[str]:
    """The arguments of a command without secrets, also where one follows its flag as an argument of its own."""
    before = ["", *arguments]
    return [
        MARK if re.fullmatch(r"--?[\w-]+", flag) and SECRET_NAME.search(flag) else redact(argument, environment)
        for flag, argument in zip(before, arguments, strict=False)
    ]


def credentials_in(url: str) -> str | None:
    """The message for a place whose URL holds credentials, which rows, pages and messages would repeat; or None."""
    if not URL_CREDENTIALS.search(url):
        return None
    return (
        f"{redact(url)} holds credentials. Take them out of the URL; give them as environment variables "
        "(such as AWS_ACCESS_KEY_ID, FSSPEC_SFTP_PASSWORD) or in the settings of fsspec."
    )


def refuse_credentials(url: str) -> None:
    """Raise BadInput if the URL of a run holds credentials."""
    if message := credentials_in(url):
        raise BadInput(message)
