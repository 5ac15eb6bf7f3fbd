"""Runs in Glance's environment: ``inside_glance.py CONFIG-FILE SCRIPT [ARG …]``.

Loads the configuration and the stores as the API does, then runs the script.
"""

import sys

import glance_store
from glance import context as glance_context
from glance import gateway
from glance.common import config, wsgi_app
from glance.db.sqlalchemy import api as db
from oslo_config import cfg

CONF = cfg.CONF


def load(configuration: str) -> None:
    config.set_config_defaults()
    CONF([], project="glance", default_config_files=[configuration])
    if CONF.enabled_backends:
        glance_store.register_store_opts(CONF, reserved_stores=wsgi_app.RESERVED_STORES)
        glance_store.create_multi_stores(CONF, reserved_stores=wsgi_app.RESERVED_STORES)
    else:
        glance_store.register_opts(CONF)
        glance_store.create_stores(CONF)


def main() -> None:
    configuration, script, *args = sys.argv[1:]
    load(configuration)
    context = glance_context.get_admin_context()
    names = {
        "CONF": CONF,
        "args": args,
        "context": context,
        "db": db,
        "images": gateway.Gateway(db_api=db).get_repo(context),
    }
    exec(compile(script, "script", "exec"), names)


if __name__ == "__main__":
    main()
