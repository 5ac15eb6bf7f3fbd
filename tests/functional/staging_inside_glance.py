"""Runs in Glance's environment: ``staging_inside_glance.py INSIDE-GLANCE CONFIG-FILE``.

Reads one call per line, ``{"call": name, "args": {…}}``, and answers each with one line.
Everything is done by Glance's own code, the code that its API runs; it only stops where a
crash or another request would come in between.
"""

import json
import os
import runpy
import sys
import traceback
import uuid

from glance import context as glance_context
from glance import gateway
from glance.common import crypt
from glance.db.sqlalchemy import api as db
from oslo_config import cfg

CONF = cfg.CONF
CONTEXT = glance_context.get_admin_context()


def repository():
    return gateway.Gateway(db_api=db).get_repo(CONTEXT)


def written(url):
    """The URL as Glance writes it into a row."""
    key = CONF.metadata_encryption_key
    return crypt.urlsafe_encrypt(key, url) if key else url


def location(url, store):
    return {
        "url": written(url),
        "metadata": {} if store is None else {"store": store},
        "status": "active",
    }


def encrypt(key, url):
    return crypt.urlsafe_encrypt(key, url)


def create(count, directory, store, owner, size, delete):
    """Images as an upload leaves them, deleted at once if asked to be."""
    return [_create(directory, store, owner, size, delete) for _ in range(count)]


def _create(directory, store, owner, size, delete):
    image_id = str(uuid.uuid4())
    path = os.path.join(directory, image_id)
    with open(path, "wb") as file:
        file.write(os.urandom(size))
    values = {
        "id": image_id,
        "name": "created",
        "owner": owner,
        "status": "active",
        "size": size,
        "disk_format": "raw",
        "container_format": "bare",
        "visibility": "shared",
        "properties": {},
        "locations": [location("file://" + path, store)],
    }
    rows = db.image_create(CONTEXT, values)["locations"]
    if delete:
        # What delete_image comes to in the database.
        for row in rows:
            db.image_location_delete(CONTEXT, image_id, row["id"], "pending_delete")
        db.image_update(CONTEXT, image_id, {"status": "pending_delete"}, purge_props=True)
        db.image_destroy(CONTEXT, image_id)
    return image_id


def delete_image(image_id):
    images = repository()
    image = images.get(image_id)
    image.delete()
    images.remove(image)


def add_location(image_id, url, store):
    db.image_location_add(CONTEXT, image_id, location(url, store))


def crash_in_delete(image_id):
    """The API process dies after it has marked the locations."""
    repository().get(image_id).delete()


def crash_before_destroy(image_id):
    """The API process dies after it has marked locations and image."""
    image = repository().get(image_id)
    image.delete()
    db.image_update(CONTEXT, image_id, {"status": image.status}, purge_props=True)


def delete_during_copy(image_id, url, store):
    """A copy ends, and saves its location, just before the image is destroyed."""
    crash_before_destroy(image_id)
    add_location(image_id, url, store)
    db.image_destroy(CONTEXT, image_id)


def crash_after_scrub(image_id):
    """The image is deleted; a scrubber dies after it has finished the locations."""
    delete_image(image_id)
    context = glance_context.get_admin_context(show_deleted=True)
    rows = db.image_get(context, image_id, force_show_deleted=True)["locations"]
    for row in rows:
        db.image_location_delete(context, image_id, row["id"], "deleted")


def remove_location(image_id, store):
    """What PATCH and DELETE do alike."""
    images = repository()
    image = images.get(image_id)
    image.locations.pop([at["metadata"].get("store") for at in image.locations].index(store))
    images.save(image)


def remove_location_and_save_stale(image_id, store):
    """An import saves the image that it had loaded before the location was removed."""
    images = repository()
    loaded_before = images.get(image_id)
    list(loaded_before.locations)
    remove_location(image_id, store)
    images.save(loaded_before)


#: Images as somebody has loaded them.
LOADED = {}


def load(image_id):
    """Somebody, an import for example, loads the image and keeps it for a while."""
    LOADED[image_id] = repository().get(image_id)
    list(LOADED[image_id].locations)


def save_loaded(image_id):
    """And saves it as it was, whatever has become of it meanwhile."""
    repository().save(LOADED.pop(image_id))


def begin_import(image_id):
    images = repository()
    images.set_property_atomic(images.get(image_id), "os_glance_import_task", str(uuid.uuid4()))


def end_import(image_id):
    images = repository()
    image = images.get(image_id)
    mark = image.extra_properties["os_glance_import_task"]
    images.delete_property_atomic(image, "os_glance_import_task", mark)


CALLS = {
    function.__name__: function
    for function in (
        encrypt,
        create,
        delete_image,
        add_location,
        crash_in_delete,
        crash_before_destroy,
        delete_during_copy,
        crash_after_scrub,
        remove_location,
        remove_location_and_save_stale,
        load,
        save_loaded,
        begin_import,
        end_import,
    )
}


def main():
    inside_glance, configuration = sys.argv[1:]
    runpy.run_path(inside_glance, run_name="inside_glance")["load"](configuration)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = {"result": CALLS[asked["call"]](**asked["args"])}
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
