"""Environment variables that Ray reads when it is imported. This module does not import Ray."""

import os


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
