"""Which request does what: the resources of the admin API, as a WSGI application.

``openapi.yaml`` describes it for clients; a test compares the two.
"""

import json
import logging
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from importlib import resources
from typing import Any

import falcon
import yaml
from falcon.media import Handlers, JSONHandler
from prometheus_client import CONTENT_TYPE_LATEST

from scrubber import errors
from scrubber.admin.authorisation import Gate, Needs, TokenFile
from scrubber.admin.control import Control, Document
from scrubber.orders import ALL
from scrubber.reporting import metrics

LOG = logging.getLogger(__name__)

#: Bytes of a body: what can be asked for is small, and no nesting is too deep in so few.
LONGEST_BODY = 512

#: What a list holds unless its ``limit`` says otherwise, and at most.
LIST, LONGEST_LIST = 20, 100

#: The id of a run.
_RUN = re.compile(r"[0-9a-f]{1,36}")

#: Locations a second that an order may name; more is no limit.
_LEAST_RATE, _MOST_RATE = 0.01, 1e6

App = Callable[[dict[str, Any], Callable[..., Any]], Any]


def create_app(control: Control, token: TokenFile | None) -> App:
    """The application.

    :param token: what clients that change something over TCP must know; None: nobody may.
    """
    app = falcon.App(middleware=[Gate(token)])
    handlers = Handlers({"application/json": JSONHandler()})
    app.req_options.media_handlers = handlers
    app.resp_options.media_handlers = handlers
    app.set_error_serializer(_problem)
    app.add_error_handler(errors.StateUnavailable, _state_unavailable)
    app.add_error_handler(Exception, _defect)
    for path, resource in routes(control):
        app.add_route(path, resource)
    application: App = app
    return application


def routes(control: Control) -> list[tuple[str, object]]:
    """All resources, by path."""
    return [
        ("/livez", Live(control)),
        ("/readyz", Ready(control)),
        ("/metrics", Metrics(control)),
        ("/v1/openapi.json", Description()),
        ("/v1/status", Status(control)),
        ("/v1/runs", Runs(control)),
        ("/v1/runs/{run}", Run(control)),
        ("/v1/stores", Stores(control)),
        ("/v1/stores/{store}", Store(control)),
        ("/v1/parked", Parked(control)),
        ("/v1/threads", Threads(control)),
    ]


@cache
def description() -> Document:
    """openapi.yaml."""
    text = resources.files("scrubber.admin").joinpath("openapi.yaml").read_text()
    # The one in C, where it is there: the other takes so long that all green threads wait.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    document: Document = yaml.load(text, loader)  # noqa: S506 - both are safe
    return document


# Errors -------------------------------------------------------------------------------------


def _problem(_request: falcon.Request, response: falcon.Response, error: falcon.HTTPError) -> None:
    """Every error as a problem document (RFC 9457)."""
    problem = {"status": error.status_code, "title": error.title}
    if error.description:
        problem["detail"] = error.description
    response.content_type = "application/problem+json"
    response.data = json.dumps(problem).encode()


def _state_unavailable(
    _request: falcon.Request, _response: falcon.Response, error: Exception, _params: Any
) -> None:
    raise falcon.HTTPServiceUnavailable(description=f"The state database cannot be used: {error}")


def _defect(
    request: falcon.Request, _response: falcon.Response, error: Exception, _params: Any
) -> None:
    if isinstance(error, falcon.HTTPError | falcon.HTTPStatus):
        raise error
    LOG.error("A defect in scrubber: %s %s failed", request.method, request.path, exc_info=error)
    raise falcon.HTTPInternalServerError(description="A defect in scrubber; the log has more.")


def _no_such(what: str) -> falcon.HTTPNotFound:
    return falcon.HTTPNotFound(description=f"There is no such {what}.")


# What clients send --------------------------------------------------------------------------


def _body(request: falcon.Request, allowed: frozenset[str]) -> Document:
    """The JSON object that was sent, with some of these keys and no others."""
    if request.content_length is None or request.content_length == 0:
        raise falcon.HTTPBadRequest(description="Send a JSON object, with its Content-Length.")
    if request.content_length > LONGEST_BODY:
        raise falcon.HTTPContentTooLarge(description=f"{LONGEST_BODY} bytes at most.")
    body = request.get_media()
    if not isinstance(body, dict) or not body or not allowed.issuperset(body):
        keys = ", ".join(sorted(allowed))
        raise falcon.HTTPBadRequest(description=f"Send a JSON object with {keys} and nothing else.")
    return body


def _limit(request: falcon.Request) -> int:
    limit = request.get_param_as_int("limit", min_value=1, max_value=LONGEST_LIST)
    return LIST if limit is None else limit


def _wanted(request: falcon.Request) -> Document:
    """What the client wants to be different in a :class:`scrubber.orders.StoreOrder`."""
    wanted = _body(request, frozenset({"paused", "max_rate"}))
    if "paused" in wanted and not isinstance(wanted["paused"], bool):
        raise falcon.HTTPBadRequest(description="paused is true or false.")
    if "max_rate" in wanted:
        wanted["max_rate"] = _rate(wanted["max_rate"])
    return wanted


def _told(wanted: Document) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(wanted.items()))


def _rate(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise falcon.HTTPBadRequest(description="max_rate is a number, or null for no limit.")
    if not _LEAST_RATE <= value <= _MOST_RATE:  # nor is that what is no number
        raise falcon.HTTPBadRequest(
            description=f"max_rate is from {_LEAST_RATE:g} to {_MOST_RATE:g} locations a second; "
            "to stop a store, set paused."
        )
    return float(value)


def _log_change(request: falcon.Request, message: str, *words: object) -> None:
    LOG.info(f"{message} (admin API, %s)", *words, request.env["REMOTE_ADDR"])


# Resources ----------------------------------------------------------------------------------


class Resource:
    """What a path stands for; ``reading`` says what its GET needs."""

    reading = Needs.TO_BE_LOCAL

    def __init__(self, control: Control) -> None:
        self._control = control


class Live(Resource):
    """Whether the process should be left alone (200) or started anew (503)."""

    reading = Needs.NOTHING

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        if not self._control.live():
            raise falcon.HTTPServiceUnavailable(description="No progress for too long.")
        response.media = {"status": "live"}


class Ready(Resource):
    """Whether it can scrub (200), or why not (503)."""

    reading = Needs.NOTHING

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        if reasons := self._control.unready():
            raise falcon.HTTPServiceUnavailable(description="; ".join(reasons))
        response.media = {"status": "ready"}


class Metrics(Resource):
    """What Prometheus scrapes."""

    reading = Needs.NOTHING

    def __init__(self, control: Control) -> None:
        super().__init__(control)
        self._registry = metrics.registry(control.reading)

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        response.data = metrics.exposition(self._registry)
        response.content_type = CONTENT_TYPE_LATEST


class Description:
    """This API, for clients."""

    reading = Needs.NOTHING

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        response.media = description()


class Status(Resource):
    """What the process is at."""

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        response.media = self._control.status()


class Runs(Resource):
    """The last runs, and a new one."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        response.media = {"runs": self._control.runs(_limit(request))}

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        _log_change(request, "A run is asked for")
        self._control.run_now()
        response.status = falcon.HTTP_202
        response.media = self._control.status()


class Run(Resource):
    """One run, and its end."""

    def on_get(self, _request: falcon.Request, response: falcon.Response, run: str) -> None:
        response.media = self._find(run)

    def on_patch(self, request: falcon.Request, response: falcon.Response, run: str) -> None:
        if _body(request, frozenset({"status"})) != {"status": "cancelled"}:
            raise falcon.HTTPBadRequest(description="The only status that can be set is cancelled.")
        self._find(run)
        if not self._control.cancel(run):
            raise falcon.HTTPConflict(description="This run is over.")
        _log_change(request, "Run %s is to end", run)
        response.status = falcon.HTTP_202
        response.media = self._find(run)

    def _find(self, run: str) -> Document:
        found = self._control.run(run) if _RUN.fullmatch(run) else None
        if found is None:
            raise _no_such("run")
        return found


class Stores(Resource):
    """All stores, and what is ordered of all of them."""

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        response.media = self._document()

    def on_patch(self, request: falcon.Request, response: falcon.Response) -> None:
        wanted = _wanted(request)
        # Said before it is done: it holds for this process even if it cannot be written down.
        _log_change(request, "Order for all stores: %s", _told(wanted))
        self._control.change(ALL, lambda order: replace(order, **wanted))
        response.media = self._document()

    def _document(self) -> Document:
        order = self._control.ordered(ALL)
        return {
            "paused": order.paused,
            "max_rate": order.max_rate,
            "stores": self._control.stores(),
        }


class Store(Resource):
    """One store, and what is ordered of it."""

    def on_get(self, _request: falcon.Request, response: falcon.Response, store: str) -> None:
        response.media = self._find(store)

    def on_patch(self, request: falcon.Request, response: falcon.Response, store: str) -> None:
        self._find(store)
        wanted = _wanted(request)
        _log_change(request, "Order for store %s: %s", store, _told(wanted))
        self._control.change(store, lambda order: replace(order, **wanted))
        response.media = self._find(store)

    def _find(self, store: str) -> Document:
        return _find_store(self._control, store)


def _find_store(control: Control, store: str) -> Document:
    """Of the configured ones, which need no database.

    :raises falcon.HTTPNotFound: there is no such store.
    """
    for document in control.stores():
        if document["store"] == store:
            return document
    raise _no_such("store")


class Parked(Resource):
    """What cannot be deleted."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        store, limit = request.get_param("store"), _limit(request)
        if store is not None:
            _find_store(self._control, store)
        response.media = {"locations": self._control.parked(store, limit)}


class Threads(Resource):
    """What every green thread does, for whoever looks into a hang."""

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        response.text = self._control.threads()
        response.content_type = falcon.MEDIA_TEXT
