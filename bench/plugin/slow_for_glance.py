"""The same store for Glance's own scrubber: a driver of the library glance_store."""

import time

from glance_store._drivers import filesystem
from oslo_config import cfg

# Looked up beside the class.
StoreLocation = filesystem.StoreLocation

SECONDS = cfg.FloatOpt("seconds", default=0.0)


class Store(filesystem.Store):
    """Waits in one of glance-scrubber's threads."""

    OPTIONS = [*filesystem.Store.OPTIONS, SECONDS]

    def get_schemes(self):
        # The library looks a store up by its type among them.
        return (*super().get_schemes(), "slow")

    def delete(self, location, context=None):
        time.sleep(self.store_conf.seconds)
        super().delete(location, context)
