"""The connection to a Ray cluster: joins one, or starts one on this machine and stops it again."""

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray._common.utils import env_bool
from ray._private import ray_constants
from ray._raylet import Config  # pyright: ignore[reportAttributeAccessIssue] - compiled
from ray.exceptions import AuthenticationError

from orchestrator.cluster.private import keep_token_private
from orchestrator.cluster.starting import cannot_start, prepare_to_start
from orchestrator.errors import BadInput


def wants_token(address: str | None) -> BadInput:
    """The error for a cluster that refuses calls without its token."""
    return BadInput(
        f"--address {address}: that cluster requires its token. Set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or "
        "RAY_AUTH_TOKEN_PATH) here as on the cluster; docs/operations.md explains how."
    )


@contextmanager
def cluster(namespace: str, address: str | None, on_message: Callable[[str], None]) -> Iterator[None]:
    """Join a cluster or start one on this machine; stop it only if it was started here.

    Args:
        namespace: Namespace of the actors.
        address: A cluster to join; None starts one.
        on_message: Called with the address of the dashboard.

    Raises:
        BadInput: when no cluster answers there, it requires a token, others may have its token, or none can start.
    """
    # Tune prints a traceback for each trial that the machine fails; the searcher receives and reports those faults.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    # Prints the dashboard's log when Ray cannot start; our error names the folder.
    logging.getLogger("ray._private.services").setLevel(logging.CRITICAL)
    was_running = ray.is_initialized()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    if not was_running:
        heed_variables()
        try:
            dashboard = _start_or_join(namespace, address).dashboard_url
        except ConnectionError as error:
            why = str(error).strip().splitlines()[0]
            raise BadInput(f"--address {address}: no Ray cluster answers there ({why}).") from error
        except AuthenticationError as error:
            raise wants_token(address) from error
        if dashboard:
            on_message(f"dashboard: http://{dashboard} (it asks for the token that `ray get-auth-token` prints)")
    # Ray replaces our signal handlers with its own, which would end the process silently.
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():
            signal.signal(number, handler)
    try:
        yield
    finally:
        if not was_running:
            ray.shutdown()


def heed_variables() -> None:
    """Let Ray read its variables again: in a notebook, it may have been imported before they were set."""
    Config.initialize("")
    variable, default = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = env_bool(variable, default)


def _start_or_join(namespace: str, address: str | None) -> Any:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    if address is not None:
        keep_token_private(make=False)
        return ray.init(address=address, namespace=namespace, **quiet)
    temp_dir = str(prepare_to_start())
    # `local`: a cluster of our own, even if another one runs on this machine.
    own: dict[str, Any] = {"address": "local", "include_dashboard": True, "dashboard_host": "127.0.0.1"}
    try:
        return ray.init(namespace=namespace, _temp_dir=temp_dir, **own, **quiet)
    except Exception as error:
        # Ray raises exceptions of any kind, and the first line says what it waited for.
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise cannot_start(f"{why.rstrip('.')}; its logs are in {temp_dir}/session_latest/logs") from error
