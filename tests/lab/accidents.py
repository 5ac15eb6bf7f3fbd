"""What goes wrong in Glance itself, staged by its own code: rows that no API call leaves behind.

Each takes several images, since starting Python with Glance takes longer than the rest.
"""

from lab.glance import Glance

# How the API deletes, up to a call of the database API at which the process dies.
CRASHED_DELETE = """
class Killed(BaseException):
    pass

def kill(*args, **kwargs):
    raise Killed

setattr(db, args[0], kill)
for image_id in args[1:]:
    image = images.get(image_id)
    try:
        image.delete()
        images.remove(image)
    except Killed:
        continue
    raise AssertionError(f"deleted {image_id} without {args[0]}")
"""

# An import has stored its copy and adds the location, when the image is about to be destroyed.
LATE_COPY = """
from glance.common import crypt
store, directory, *image_ids = args
destroy = db.image_destroy

def add_and_destroy(context, image_id):
    url = f"file://{directory}/{image_id}"
    if CONF.metadata_encryption_key:
        url = crypt.urlsafe_encrypt(CONF.metadata_encryption_key, url)
    location = {"url": url, "metadata": {"store": store}, "status": "active"}
    db.image_location_add(context, image_id, location)
    return destroy(context, image_id)

db.image_destroy = add_and_destroy
for image_id in image_ids:
    image = images.get(image_id)
    image.delete()
    images.remove(image)
"""

# An import keeps the image that it has loaded, and saves it when its upload has ended.
STALE_SAVE = """
from glance.common import store_utils
store, *image_ids = args
for image_id in image_ids:
    loaded_before = images.get(image_id)
    list(loaded_before.locations)
    image = images.get(image_id)
    position = [location["metadata"]["store"] for location in image.locations].index(store)
    image.locations.pop(position)
    images.save(image)
    images.save(loaded_before)
"""

# glance-scrubber has recorded its locations as deleted and dies before it records the image.
STUCK = """
for image_id in args:
    image = db.image_get(context, image_id, force_show_deleted=True)
    for location in image["locations"]:
        db.image_location_delete(context, image_id, location["id"], "deleted")
"""


def crash_delete(glance: Glance, *image_ids: str) -> None:
    """The API dies with all locations pending; the image is still active (a wreck)."""
    glance.python(CRASHED_DELETE, "image_update", *image_ids)


def half_delete(glance: Glance, *image_ids: str) -> None:
    """The API dies before image_destroy: image and locations pending, the image not deleted."""
    glance.python(CRASHED_DELETE, "image_destroy", *image_ids)


def delete_with_late_copy(glance: Glance, store: str, *image_ids: str) -> None:
    """Delete images while a copy to ``store`` ends: its location is 'deleted', its bytes stay."""
    directory = glance.data_directory(store)
    for image_id in image_ids:
        location = glance.locations(image_id)[0]
        (directory / image_id).write_bytes(
            glance.file(image_id, location["metadata"]["store"]).read_bytes()
        )
    glance.python(LATE_COPY, store, str(directory), *image_ids)


def remove_location_and_save_stale(glance: Glance, store: str, *image_ids: str) -> None:
    """Remove the copy in ``store``; a save of an image loaded before turns it active again."""
    glance.python(STALE_SAVE, store, *image_ids)


def stick(glance: Glance, *image_ids: str) -> None:
    """Of images that are pending, record the locations as deleted and the images not."""
    glance.python(STUCK, *image_ids)
