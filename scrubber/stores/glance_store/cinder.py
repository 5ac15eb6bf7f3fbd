"""The cinder store: each image is a volume."""

import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from typing import Any
from urllib.parse import unquote

from keystoneauth1.session import TCPKeepAliveAdapter

from scrubber import errors, pool
from scrubber.model import Answer, Answers, Deleted, Found, Target
from scrubber.stores import base
from scrubber.stores.glance_store.library import CONNECT_SECONDS, GlanceStoreDriver
from scrubber.stores.glance_store.meanings import is_of_all, is_throttling, seconds_of

#: Seconds that a batch waits for Cinder to carry out what it accepted, and between two looks.
_PATIENCE = 10.0
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 1.0


class CinderDriver(GlanceStoreDriver):
    """One store of type ``cinder``: each image is a volume of Glance's own project.

    Cinder accepts a delete at once and carries it out later, or not: a volume with clones
    comes back as available.  So an accepted delete counts only when the volume is gone.
    """

    # The volumes of a batch go at the same time, so that it waits no longer than one would.
    abilities = base.Abilities(
        schemes=frozenset({"cinder"}), blocks=False, batch=8, seconds=_PATIENCE
    )
    kind = "cinder"
    # One of them missing makes glance_store do without all three; no delete calls os-brick.
    libraries = (
        "cinderclient.v3.client",
        "os_brick.initiator.connector",
        "oslo_privsep.priv_context",
    )

    def __init__(self, section: base.Section) -> None:
        super().__init__(section)
        self._holds_something = False
        self._not_found: Any = import_module("cinderclient.exceptions").NotFound
        self._check_credentials()
        self._client = self._own_client()
        self._glance_store.get_cinderclient = lambda *_args, **_kwargs: self._client

    def _check_credentials(self) -> None:
        if self._glance_store.is_user_overriden():
            return
        for option in ("auth_address", "user_name", "password", "project_name"):
            if not self._glance_store.store_conf.get(f"cinder_store_{option}"):
                raise self.section.wrong(
                    f"cinder_store_{option}",
                    "is not set: volumes can only be deleted with credentials of Glance's own, "
                    "since scrubber has no user's token",
                )

    def _own_client(self) -> Any:
        """A client with a session of its own.

        glance_store keeps one session, that of the first store, for all stores of the process:
        another store's volumes would be looked for with the wrong credentials.  And it never
        gives up waiting.
        """
        module: Any = sys.modules[type(self._glance_store).__module__]
        module.CINDER_SESSION = None
        client = self._glance_store.get_cinderclient()
        module.CINDER_SESSION = None
        adapter = _Adapter(self)
        for scheme in ("http://", "https://"):
            client.client.session.session.mount(scheme, adapter)
        return client

    @property
    def family(self) -> str:
        return "cinder"

    def probe(self) -> None:
        try:
            with self._translated():
                volumes = self._client.volumes.list(detailed=False, limit=1)
        except errors.Unavailable:
            raise
        except errors.StoreError as error:
            # Whatever it says to that concerns the store.
            raise errors.Unavailable(str(error)) from None
        self._holds_something = bool(volumes)

    def holds_something(self, root: str) -> bool:  # noqa: ARG002 - there is one
        return self._holds_something

    def identify(self, url: str) -> str:
        return f"cinder:{_volume_id(url)}"

    def _readings(self, url: str) -> set[str]:
        found = _ANY_UUID.findall(f"{url} {unquote(url)}")
        return {f"cinder:{_dashed(volume_id)}" for volume_id in found}

    def _look(self, url: str) -> Found:
        volume_id = _volume_id(url)
        volume = self._volume(volume_id)
        if volume.status == "deleting":
            raise errors.Gone("Cinder is deleting the volume")
        if volume.status == "error_deleting":
            raise _obstacle(volume.status)
        # Its size is that of the volume, in GiB.
        return Found(None, volume.created_at, fingerprint=volume_id)

    def delete(self, targets: Sequence[Target], proceed: Callable[[], bool]) -> Answers:
        answers = list(super().delete(targets, proceed))
        until = time.monotonic() + min(_PATIENCE, self.section.call_timeout() / 2)
        for number, target in enumerate(targets):
            if isinstance(answers[number], Deleted):
                # A Cinder that is silent may not cost each of them its whole patience.
                stop = next(filter(is_of_all, answers), None)
                answers[number] = stop or self._end(target, until)
        return answers

    def _delete(self, target: Target) -> Answer:
        """See that Cinder has accepted to delete the volume, now or before."""
        volume_id = _volume_id(target.url)
        try:
            return super()._delete(target)
        except errors.InUse:
            pass
        except errors.Gone:
            # Anything on the way may say 404: only Cinder itself names the volume.
            self._volume(volume_id)
            raise errors.Failed("Cinder finds the volume, but not to delete it") from None
        status = self._volume(volume_id).status
        if status != "deleting":
            raise _obstacle(status)
        return Deleted(target.size or 0)

    def _end(self, target: Target, until: float) -> Answer:
        """What became of a volume that Cinder has accepted to delete."""
        volume_id = _volume_id(target.url)
        pause = _FIRST_PAUSE
        while True:
            try:
                status = self._volume(volume_id).status
            except errors.Gone:
                return Deleted(target.size or 0)
            except errors.StoreError as error:
                return error
            if status != "deleting":
                return _obstacle(status)
            if time.monotonic() > until:
                return errors.InUse("Cinder is still deleting the volume")
            pool.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _volume(self, volume_id: str) -> "_Volume":
        """Ask Cinder for the volume.

        :raises Gone: Cinder, and not something on the way, says that it has no such volume.
        """
        with self._translated():
            try:
                volume = self._client.volumes.get(volume_id)
            except self._not_found as not_found:
                if volume_id in str(not_found.message):
                    raise base.Gone from None
                raise errors.Unavailable(
                    "Cinder's address is not that of a Cinder: check the service catalog"
                ) from None
            if volume.id != volume_id:
                raise ValueError("another volume")
            return _Volume(str(volume.status), _moment(volume.created_at))

    def close(self) -> None:
        self._client.client.session.session.close()


_VOLUME = re.compile(
    r"cinder://(?:[^/?#@\\%\s]+/)?([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"
)
_ANY_UUID = re.compile(r"(?:[0-9a-f]-?){31}[0-9a-f]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Volume:
    """What Cinder says of a volume."""

    status: str
    created_at: datetime | None


def _volume_id(url: str) -> str:
    match = _VOLUME.fullmatch(url)
    if match is None:
        raise errors.Refused("not the URL of a Cinder volume as Glance writes it")
    return match[1]


def _dashed(digits: str) -> str:
    digits = digits.replace("-", "").lower()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _moment(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _obstacle(status: str) -> errors.StoreError:
    """Why Cinder does not delete a volume in this state."""
    if status == "error_deleting":
        return errors.Failed(
            "Cinder tried to delete the volume and failed (error_deleting): see the log of "
            "cinder-volume, then reset the volume's state"
        )
    if status == "available" or status.startswith("error"):
        return errors.InUse(
            "Cinder does not delete the volume: it has snapshots or clones, belongs to a group or "
            "awaits a transfer"
        )
    state = status if re.fullmatch(r"[a-z][a-z_-]{0,30}", status) else "unknown"
    return errors.InUse(f"Cinder does not delete the volume in its state ({state})")


class _Adapter(TCPKeepAliveAdapter):
    """Sends each request to Keystone and Cinder, with patience that ends.

    Throttling is seen here, since the client forgets how long it was asked to wait.
    """

    def __init__(self, driver: GlanceStoreDriver) -> None:
        self._driver = driver
        super().__init__(pool_maxsize=driver.connections)

    def send(self, request: Any, **options: Any) -> Any:  # type: ignore[override]
        seconds = self._driver.section.call_timeout()
        options["timeout"] = (min(CONNECT_SECONDS, seconds), seconds)
        response = super().send(request, **options)
        wait = response.headers.get("Retry-After")
        if is_throttling(response.status_code, wait):
            response.close()
            raise errors.Throttled("the service asks for patience", seconds_of(wait))
        return response
