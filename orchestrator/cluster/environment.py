"""Environment variables: those that Ray reads when it is imported, and those that a user lets engines have.

This module does not import Ray.
"""

import os
from collections.abc import Sequence

from orchestrator.errors import BadInput


def carried(names: Sequence[str]) -> dict[str, str]:
    """The variables of these names, whose values other machines get; nothing writes or shows them.

    Raises:
        BadInput: when one is not set here, or a value is given with its name.
    """
    problems: list[str] = []
    for name in dict.fromkeys(names):
        if "=" in name:  # not repeated in the message: what follows may be a secret
            problems.append("--env: found NAME=VALUE; wanted the name alone, because others see command lines.")
        elif name not in os.environ:
            problems.append(f"--env {name}: this variable is not set here. Set it (export {name}=..), or leave it out.")
    if problems:
        raise BadInput(*problems)
    return {name: os.environ[name] for name in names}


def set_variables(address: str | None) -> None:
    """Set the variables that the user has not: Ray sends no statistics, leaves Ctrl-C to us, and is closed to others.

    Args:
        address: The cluster to join; None if one is started here, which listens on loopback only and requires a token.
    """
    defaults = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AIR_NEW_OUTPUT": "0",
        # Tune writes five files instead of a thousand.
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        # Nobody reads Tune's own state, and it is rewritten whole every ten seconds, at a cost that grows with the run.
        "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    }
    if address is None:
        defaults["RAY_AUTH_MODE"] = "token"
        # On every system, this makes Ray use 127.0.0.1 as its own address and listen nowhere else.
        defaults["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
