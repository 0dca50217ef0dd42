"""Variables that Ray reads when it is imported, and so have to be set before. Imports nothing of it."""

import os


def set_variables(address: str | None) -> None:
    """Set what the user has not: no statistics sent, Ctrl-C is ours, and a Ray that is started here is shut to others.

    Args:
        address: The cluster to join; None if one will be started here. That listens on loopback only and wants a token.
    """
    defaults = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AIR_NEW_OUTPUT": "0",
        # Five files instead of a thousand.
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        # Nobody reads Tune's own state, and writing it whole every ten seconds grows with the run.
        "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    }
    if address is None:
        defaults["RAY_AUTH_MODE"] = "token"
        # Not only there: it makes Ray take 127.0.0.1 for its own address, and listen nowhere else.
        defaults["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
