"""Serves live pages over HTTP on loopback, to whoever has the token, and reads what they ask for in threads.

Three answers to each query: the shell, a page that stays open; the page that it shows; and the state, which it asks
for every two seconds. Knows nothing of what a page shows.
"""

import secrets
import socket
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict

import uvicorn
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from orchestrator.errors import BadInput
from orchestrator.report.page import resource
from orchestrator.watching.live_page import LivePage
from orchestrator.watching.views import View

ADDRESS = "127.0.0.1"
HOSTS = (ADDRESS, "localhost")
"""Names by which a browser may ask: a page of another site, whose name leads here, is refused."""
MOST_PAGES = 8
"""Pages that are kept in RAM, with what was read for them."""
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
}
SHELL_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
    "connect-src 'self'; frame-src 'self'"
)
TROUBLE_PAGE = (
    "<!doctype html><meta name=color-scheme content='light dark'><title>capsweep watch</title>"
    "<body style='font: 16px/1.5 system-ui, sans-serif; margin: 2rem'><h1>Nothing to show yet</h1><p>{trouble}</p>"
)


class NoSuchViewError(Exception):
    """The query names something that is not there."""


class Pages:
    """The live pages by the names of the runs that they show; no name is the page that the server opens with."""

    def __init__(self, view_of: Callable[[tuple[str, ...]], View], *, is_list: bool) -> None:
        """`view_of` raises NoSuchViewError."""
        self.is_list = is_list
        """Whether the page without a name is a list of runs, to which the others lead back."""
        self._view_of = view_of
        self._pages: OrderedDict[tuple[str, ...], LivePage] = OrderedDict()
        self._lock = threading.Lock()

    def page(self, names: tuple[str, ...]) -> LivePage:
        """The page of these runs; of many, those that were asked for last are kept."""
        with self._lock:
            known = self._pages.get(names)
        # Outside of the lock: to find out whether there are such runs may take long.
        page = known or LivePage(self._view_of(names))
        with self._lock:
            page = self._pages.setdefault(names, page)
            self._pages.move_to_end(names)
            while len(self._pages) > MOST_PAGES:
                self._pages.popitem(last=False)
        return page


def make_app(pages: Pages, token: str) -> Starlette:
    """The application: only GET, only by one of HOSTS, only below `/TOKEN/`."""
    answers: dict[str, Callable[[Pages, Request], Response]] = {"": _shell, "page": _page, "state": _state}

    async def answer(request: Request) -> Response:
        given = request.path_params["token"].encode()
        if not secrets.compare_digest(given, token.encode()):
            return _refused(403, "Wanted the whole address that `capsweep watch` printed, with its token.")
        what = request.path_params.get("what")
        if what is None:
            return RedirectResponse(f"/{token}/", headers=HEADERS)
        if what not in answers:
            return _refused(404, "There is no such page.")
        try:
            return await run_in_threadpool(answers[what], pages, request)
        except NoSuchViewError as error:
            return _refused(404, str(error))
        except OSError as error:
            return _refused(503, f"The storage does not answer: {error}")

    routes = [Route("/{token}/{what:path}", answer), Route("/{token:path}", answer)]
    return Starlette(routes=routes, middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[*HOSTS])])


def _names(request: Request) -> tuple[str, ...]:
    return tuple(dict.fromkeys(request.query_params.getlist("run")))


def _shell(pages: Pages, request: Request) -> Response:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    html = environment.from_string(resource("shell.html.j2", "orchestrator.watching")).render(
        style=Markup(resource("page.css") + resource("shell.css", "orchestrator.watching")),
        script=Markup(resource("shell.js", "orchestrator.watching")),
        query=f"?{request.url.query}",
        to_list=pages.is_list and bool(_names(request)),
    )
    return HTMLResponse(html, headers={**HEADERS, "Content-Security-Policy": SHELL_POLICY})


def _state(pages: Pages, request: Request) -> Response:
    return JSONResponse(asdict(pages.page(_names(request)).refresh()), headers=HEADERS)


def _page(pages: Pages, request: Request) -> Response:
    page = pages.page(_names(request))
    state = page.refresh() if page.html() is None else None
    html = page.html()
    if html is None:
        html = TROUBLE_PAGE.format(trouble=escape(state.trouble if state else ""))
    # Names of folders may hold what is no letter.
    return Response(html.encode(errors="replace"), media_type="text/html; charset=utf-8", headers=HEADERS)


def _refused(status: int, why: str) -> Response:
    return PlainTextResponse(why, status_code=status, headers=HEADERS)


def listen(port: int) -> socket.socket:
    """A socket on loopback.

    Args:
        port: 0 for any that is free.

    Raises:
        BadInput: when the port is taken.
    """
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((ADDRESS, port))
        listening.listen()
    except (OSError, OverflowError) as error:
        listening.close()
        raise BadInput(f"--port {port}: cannot be listened at ({error}). Choose another, or leave it out.") from error
    return listening


def serving(app: Starlette, listening: socket.socket) -> tuple[uvicorn.Server, threading.Thread]:
    """A server that answers on this socket, and its thread.

    In the main thread, uvicorn would wait for every answer after Ctrl-C, and with it for a slow store.
    """
    config = uvicorn.Config(app, log_level="critical", access_log=False, server_header=False, lifespan="off", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listening],), name="live page", daemon=True)
    thread.start()
    return server, thread
