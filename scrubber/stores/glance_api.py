"""Deletes through Glance's API: copy by copy, and the image with its last one.

Right before each step the image is looked at: is it still marked, and does nothing stand
against it?  Glance has no conditional delete, so some milliseconds lie between the two; only
what Glance itself guards (protection) holds in that gap, too.
"""

import datetime
from collections.abc import Callable, Iterable, Sequence

from oslo_config import cfg

from scrubber import errors
from scrubber.glance import section
from scrubber.glance.client import ONLY_STORE, Copy, Glance
from scrubber.model import Answer, Answers, Deleted, Found, Location, Look, Looks, Requested, Target
from scrubber.options import GLANCE_API, GLANCE_SECTION
from scrubber.planning.due import HALF_DELETED_AGE
from scrubber.planning.retirement import ApiImage, obstacle
from scrubber.stores import base, registry

_QUICKER = "somebody else was quicker"

#: Glance's dates are whole seconds, and so is its clock.
_ROUNDING = datetime.timedelta(seconds=2)

#: So many images are remembered as begun; the others wait for scrub_time once more.
_MOST_BEGUN = 10_000


class Begun:
    """When this process last deleted a copy of an image: that counts as a change of the image."""

    def __init__(self) -> None:
        self._when: dict[str, datetime.datetime] = {}

    def note(self, image_id: str, now: datetime.datetime) -> None:
        self.forget(image_id)
        self._when[image_id] = now
        if len(self._when) > _MOST_BEGUN:
            self.forget(next(iter(self._when)))

    def forget(self, image_id: str) -> None:
        self._when.pop(image_id, None)

    def explains(self, image: ApiImage) -> bool:
        """Whether nobody else has changed it since."""
        when = self._when.get(image.id)
        return when is not None and image.updated_at <= when + _ROUNDING


class GlanceApiDriver(base.Driver):
    """The copies in one of Glance's stores.

    :param glance: shared by the drivers of all stores, and so is ``begun``.
    """

    abilities = base.Abilities(schemes=frozenset({Copy.SCHEME}), blocks=False, batch=1)

    def __init__(self, of_store: base.Section, glance: Glance, begun: Begun) -> None:
        super().__init__(of_store)
        self._glance = glance
        self._begun = begun

    @classmethod
    def options(cls) -> list[cfg.Opt]:
        return []

    def probe(self) -> None:
        """Glance answers; what is behind it shows only when something is deleted."""
        try:
            self._glance.page({}, 1)
        except errors.StoreError as error:
            raise errors.Unavailable(str(error)) from None

    def identify(self, url: str) -> str:
        return Copy.of(url).url

    def mentions(self, urls: Sequence[str]) -> list[Iterable[str]]:
        return [[self.identify(url)] for url in urls]

    def look(self, targets: Sequence[Target]) -> Looks:
        return [self._look(Copy.of(target.url)) for target in targets]

    def _look(self, copy: Copy) -> Look:
        try:
            image = self._examined(copy)
        except errors.StoreError as error:
            return error
        return Found(image.size, modified_at=None, fingerprint=copy.url)

    def delete(self, targets: Sequence[Target], proceed: Callable[[], bool]) -> Answers:
        return [self._delete(Copy.of(target.url), proceed) for target in targets]

    def _delete(self, copy: Copy, proceed: Callable[[], bool]) -> Answer:
        not_sent = errors.NotSent("not sent")
        try:
            if not proceed():
                return not_sent
            image = self._examined(copy)
            if not proceed():
                return not_sent
            copies = self._take_out(copy, image)
        except errors.Gone:
            return errors.Changed(_QUICKER)
        except (errors.Failed, errors.InUse) as error:
            return errors.Changed(_QUICKER) if self._is_gone(copy) else error
        except errors.StoreError as error:
            return error
        return self._done(image, copies)

    def _take_out(self, copy: Copy, image: ApiImage) -> int:
        """How many copies went: this one, or all of them where the image went as a whole."""
        if set(image.steps) > {copy.store}:
            try:
                self._glance.delete_copy(copy)
            except errors.Gone:
                image = self._examined(copy)  # it is there: this Glance has no such call
            else:
                self._begun.note(copy.image, self._glance.now())
                return 1
        self._glance.delete(copy.image)
        self._begun.forget(copy.image)
        return max(1, len(image.stores))

    def _is_gone(self, copy: Copy) -> bool:
        """Two deletes at once disturb each other, and one without an answer may have worked."""
        try:
            image = self._glance.image(copy.image)
        except errors.StoreError as error:
            return isinstance(error, errors.Gone)
        return image.status == "deleted" or (bool(image.stores) and copy.store not in image.stores)

    def _done(self, image: ApiImage, copies: int) -> Answer:
        """A half-deleted image's copies are no longer Glance's to delete."""
        if self._frees_at_once and not image.is_half_deleted:
            return Deleted(copies * (image.size or 0))
        return Requested()

    def rehearsed(self, target: Target, found: Found) -> Answer:
        return super().rehearsed(target, found) if self._frees_at_once else Requested()

    @property
    def _frees_at_once(self) -> bool:
        """Only if the configuration says so itself: Glance tells nobody."""
        conf = self.section.conf
        where = conf.get_location("delayed_delete")
        said = where is not None and where.location.is_user_controlled
        return said and not conf.delayed_delete

    def _examined(self, copy: Copy) -> ApiImage:
        """The image as it is now, if that copy may be deleted.

        :raises Changed: it is not marked any more, or there is no such copy.
        :raises StoreError: something stands against it.
        """
        ours = self.section.conf[GLANCE_SECTION]
        try:
            image = self._glance.image(copy.image)
        except errors.Gone:
            raise errors.Changed(_QUICKER) from None
        if self._is_being_deleted(image):
            raise errors.Changed(_QUICKER)
        if not (image.is_marked(ours.retire_tag) and ours.retire_query.matches(image)):
            raise errors.Changed("the image is not marked for deletion any more")
        if image.stores and copy.store not in image.stores:
            raise errors.Changed("there is no copy in that store any more")
        if self._was_marked_anew(image):
            raise errors.Changed("the image was changed, and waits for scrub_time once more")
        if stands := obstacle(image):
            kind = errors.Refused if stands.outcome.name == "REFUSED" else errors.InUse
            raise kind(stands.reason)
        if image.visibility == "shared" and not image.is_half_deleted:
            self._see_unshared(copy.image)
        return image

    def _is_being_deleted(self, image: ApiImage) -> bool:
        """It is half-deleted, and not for so long that whoever did it must have died."""
        since = (self._glance.now() - image.updated_at).total_seconds()
        return image.status == "deleted" or (image.is_half_deleted and since < HALF_DELETED_AGE)

    def _was_marked_anew(self, image: ApiImage) -> bool:
        """A tag has no date of its own: the last change of the image stands for it."""
        since = self._glance.now() - image.updated_at + _ROUNDING
        too_young = since.total_seconds() < self.section.conf.scrub_time
        return too_young and not image.is_half_deleted and not self._begun.explains(image)

    def _see_unshared(self, image_id: str) -> None:
        if members := self._glance.accepted_members(image_id):
            raise errors.Refused(
                f"the image is shared with {len(members)} projects that have accepted it, "
                f"{members[0]} among them"
            )


class GlanceApiStores(registry.Stores):
    """Every store that Glance names, from the first time that an image is in it.

    :param new: makes the driver of a store.
    """

    def __init__(self, glance: Glance, new: Callable[[str], base.Driver]) -> None:
        super().__init__([], {})
        self._glance = glance
        self._new = new

    def holder(self, location: Location) -> base.Driver:
        return self._driver(location.store or ONLY_STORE)

    def _driver(self, store: str) -> base.Driver:
        if store not in self.drivers:
            self.drivers[store] = self._new(store)
        return self.drivers[store]

    def knows(self, name: str) -> bool:
        """:raises SourceUnavailable: Glance does not say."""
        if name not in self.drivers:
            try:
                stores = self._glance.stores() or [ONLY_STORE]
            except errors.StoreError as error:
                raise errors.SourceUnavailable(str(error)) from None
            for store in stores:
                self._driver(store)
        return name in self.drivers

    def replaced_by(self, twin: Callable[[base.Driver], base.Driver]) -> "GlanceApiStores":
        return GlanceApiStores(self._glance, lambda store: twin(self._new(store)))

    def close(self) -> None:
        super().close()
        self._glance.close()


def check(conf: cfg.ConfigOpts) -> None:
    """:raises ConfigError: an option of section [glance] cannot be used."""
    section.check(conf)


def build(conf: cfg.ConfigOpts) -> GlanceApiStores:
    """The stores behind the Glance of section [glance]; nothing is sent yet.

    :raises ConfigError: the section cannot be used.
    """
    glance = section.connect(conf)
    return GlanceApiStores(glance, new_driver(conf, glance))


def new_driver(conf: cfg.ConfigOpts, glance: Glance) -> Callable[[str], base.Driver]:
    """What makes the driver of a store; [its own section] may hold limits."""
    conf.register_opts(base.COMMON_OPTS, group=registry.DEFAULTS_SECTION)
    begun = Begun()

    def new(store: str) -> base.Driver:
        conf.register_opts(base.COMMON_OPTS, group=store)
        of_store = registry.section_of(conf, store, GLANCE_API, store)
        return GlanceApiDriver(of_store, glance, begun)

    return new
