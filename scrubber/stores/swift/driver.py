"""The store itself: its options, which objects are its own, and that it is there."""

import datetime
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from oslo_config import cfg

from scrubber import errors
from scrubber.model import Answer, Answers, Deleted, Found, Look, Looks, Target
from scrubber.stores import base
from scrubber.stores.swift import addresses, session
from scrubber.stores.swift import references as configured
from scrubber.stores.swift.deletion import Call, Deletion, Object, number
from scrubber.stores.swift.web import Web

_OPTS = [
    *configured.OPTS,
    cfg.StrOpt(
        "swift_store_container",
        default="glance",
        help="Container of the images, or the beginning of the names of several.",
    ),
    cfg.IntOpt(
        "swift_store_multiple_containers_seed",
        default=0,
        min=0,
        max=32,
        help="So many characters of an image's id end the name of its container; 0: only one "
        "container.",
    ),
    cfg.BoolOpt(
        "swift_store_multi_tenant",
        default=False,
        help="Images lie in their owners' accounts. scrubber cannot delete there.",
    ),
    cfg.StrOpt(
        "swift_store_endpoint",
        help="Storage URL in place of the one that the authentication gives.",
    ),
    cfg.StrOpt(
        "swift_store_endpoint_type",
        default="publicURL",
        choices=("publicURL", "adminURL", "internalURL"),
        help="Which endpoint of Keystone's catalogue.",
    ),
    cfg.StrOpt(
        "swift_store_service_type",
        default="object-store",
        help="Which service of Keystone's catalogue.",
    ),
    cfg.StrOpt(
        "swift_store_region",
        help="Which region of Keystone's catalogue.",
    ),
    cfg.BoolOpt(
        "swift_store_auth_insecure",
        default=False,
        help="Take any certificate.",
    ),
    cfg.StrOpt(
        "swift_store_cacert",
        help="File with the certificates to trust.",
    ),
    cfg.BoolOpt(
        "swift_store_ssl_compression",
        default=True,
        help="Accepted and not used: TLS compresses no more.",
    ),
    base.ALSO_IN,
]


#: Of a container, one for each way in which Swift keeps old versions.
_VERSIONS = frozenset({"x-versions-enabled", "x-history-location"})

#: Likewise, and a delete does not end an object there.
_STACK = "x-versions-location"


class SwiftDriver(base.Driver):
    """One store of type ``swift``."""

    abilities = base.Abilities(
        schemes=addresses.SCHEMES,
        blocks=False,
        batch=64,
        seconds=0.25,
        at_least=8,
    )

    def __init__(self, section: base.Section) -> None:
        super().__init__(section)
        options = section.options
        if options.swift_store_multi_tenant:
            raise section.wrong(
                "swift_store_multi_tenant",
                "is true: images in their owners' accounts cannot be deleted by scrubber",
            )
        self._references = configured.references(section)
        self._default = str(options.default_swift_reference)
        self._book = addresses.AddressBook(self.store, self._references)
        self._containers = addresses.Containers(
            section.required("swift_store_container").strip("/"),
            options.swift_store_multiple_containers_seed > 0,
            frozenset(options.scrub_also_in),
        )
        verify = not options.swift_store_auth_insecure and (options.swift_store_cacert or True)
        self._web = Web(verify, section.call_timeout)
        endpoint = session.Endpoint(
            options.swift_store_endpoint,
            options.swift_store_service_type,
            options.swift_store_endpoint_type,
            options.swift_store_region,
        )
        self._accounts = {
            name: session.Account(
                f"section [{section.name}], reference {name}", reference, self._web, endpoint
            )
            for name, reference in self._references.items()
        }
        self._names = {name: _as_configured(one) for name, one in self._references.items()}
        self._asked = False
        self._unresolved: errors.Unavailable | None = None
        self._filled: set[str] = set()
        #: Containers that keep what is deleted in them.
        self._keeping: set[str] = set()

    @classmethod
    def options(cls) -> list[cfg.Opt]:
        return _OPTS

    def close(self) -> None:
        self._web.close()

    # Which object ---------------------------------------------------------------------

    def resolve(self) -> None:
        """See which accounts the references lead to: two may lead to one."""
        self._asked = True
        self._names = {name: _as_configured(one) for name, one in self._references.items()}
        # Stays so if nobody waits for the end of this.
        self._unresolved = errors.Unavailable("its accounts were not known when this run began")
        try:
            self._names = {name: at.resolve() for name, at in self._accounts.items()}
        except errors.Unavailable as unavailable:
            # With the names of some references only, two could be one object and not look it.
            self._unresolved = unavailable
            raise
        self._unresolved = None

    def probe(self) -> None:
        if not self._asked:
            self.resolve()
        if self._unresolved is not None:
            raise self._unresolved
        self._filled = set()
        self._keeping = set()
        with _of_the_store():
            for name, account in self._distinct_accounts().items():
                self._probe(name, account)

    def _distinct_accounts(self) -> dict[str, session.Account]:
        """One of each; the default reference's is the last to be found, so it stands for its."""
        order = sorted(self._accounts, key=lambda reference: reference == self._default)
        return {self._names[reference]: self._accounts[reference] for reference in order}

    def _probe(self, name: str, account: session.Account) -> None:
        for container in self._containers.named:
            try:
                headers = account.request("HEAD", container).headers
            except errors.Gone:
                # Those of other accounts, and where Glance makes them on demand, need not be.
                if self._needs(account, container):
                    raise errors.Unavailable(
                        f"{account.where}: there is no container {container}"
                    ) from None
                continue
            if number(headers.get("x-container-object-count")):
                self._filled.add(f"{name}/{container}")
            if _STACK in headers:
                raise errors.Unavailable(
                    f"{account.where}: container {container} has {_STACK}: a delete there brings "
                    "an older version back"
                )
            if not _VERSIONS.isdisjoint(headers):
                self._keeping.add(f"{name}/{container}")
        prefix = self._containers.prefix
        if self._containers.several and account.lists_something(prefix):
            self._filled.add(f"{name}/{prefix}*")
        account.learn_limits()

    def _needs(self, account: session.Account, container: str) -> bool:
        on_demand = self._containers.several and container == self._containers.main
        return account is self._accounts[self._default] and not on_demand

    def root(self, url: str) -> str:
        at = self._find(url)
        family = self._containers.family(at.container, at.name)
        return f"{self._names[at.reference]}/{family}"

    def holds_something(self, root: str) -> bool:
        return root in self._filled

    def identify(self, url: str) -> str:
        return self._identity(self._find(url))

    def _identity(self, at: Object) -> str:
        return f"swift:{self._names[at.reference]}/{at.path}"

    def _find(self, url: str) -> Object:
        """:raises Refused: nothing is deleted by that URL."""
        address = addresses.parse(url)
        if not address.is_plain:
            raise errors.Refused("not a URL as Glance writes them")
        found = self._book.find(address)
        if len({self._names[reference] for reference in found}) > 1:
            raise errors.Refused("several references of the store have that user")
        self._containers.family(address.container, address.name)
        return Object(found[0], address.container, address.name)

    def mentions(self, urls: Sequence[str]) -> list[Iterable[str]]:
        return [self._readings(url) for url in urls]

    def is_plain(self, url: str) -> bool:
        try:
            return addresses.parse(url).is_plain
        except errors.Refused:
            return False

    def _readings(self, url: str) -> Iterable[str]:
        try:
            address = addresses.parse(url)
        except errors.Refused:
            return ()  # Glance cannot read by it either
        try:
            found = self._book.find(address)
        except errors.Refused:
            found = list(self._references)  # any of ours may be the account that it reaches
        return {
            self._identity(Object(reference, address.container, address.name))
            for reference in found
        }

    # What is there, and its end --------------------------------------------------------

    def look(self, targets: Sequence[Target]) -> Looks:
        call = self._call()
        return [self._look(call, target) for target in targets]

    def _look(self, call: Call, target: Target) -> Look:
        try:
            at = self._find(target.url)
            headers = call.head(at)
        except errors.Unavailable:
            raise
        except errors.StoreError as error:
            return error
        stamp = headers.get("x-timestamp", "")
        return Found(
            # Swift does not say how large a large object of very many segments is.
            size=number(headers["content-length"]) if "content-length" in headers else None,
            modified_at=_moment(stamp),
            # Without the account, which another endpoint may give another name.
            fingerprint=f"{at.path}:{headers.get('etag', '')}:{stamp}",
        )

    def delete(self, targets: Sequence[Target], proceed: Callable[[], bool]) -> Answers:
        patience = self.section.call_timeout()
        answers = Deletion(self._call(), self._find, proceed, patience).answers(targets)
        return [self._honest(*entry) for entry in zip(targets, answers, strict=True)]

    def _honest(self, target: Target, answer: Answer) -> Answer:
        """What is deleted where old versions are kept has freed nothing."""
        if isinstance(answer, Deleted) and answer.bytes_freed and self._keeping:
            at = self._find(target.url)
            if f"{self._names[at.reference]}/{at.container}" in self._keeping:
                return Deleted(0)
        return answer

    def _call(self) -> Call:
        return Call(self._accounts, frozenset(self._containers.named))


@contextmanager
def _of_the_store() -> Iterator[None]:
    """Whatever goes wrong concerns the store as a whole."""
    try:
        yield
    except errors.Unavailable:
        raise
    except errors.StoreError as error:
        raise errors.Unavailable(str(error)) from None


def _as_configured(reference: configured.Reference) -> str:
    """A name for its account while nobody can say what that is really called."""
    where = addresses.normal(reference.auth_address).partition("://")[2]
    return f"{reference.user or reference.name}@{where}"


def _moment(stamp: str) -> datetime.datetime | None:
    """Of seconds since 1970, as Swift writes them."""
    try:
        moment = datetime.datetime.fromtimestamp(float(stamp), datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return moment.replace(tzinfo=None)
