"""Stores' sections as an operator writes them."""

from collections.abc import Callable
from typing import Any

from oslo_config import cfg

from scrubber.stores import base


def section(
    driver: type[base.Driver],
    *,
    store: str = "fast",
    kind: str = "",
    call_timeout: float | Callable[[], float] = 30,
    pool_size: int = 16,
    **options: Any,
) -> base.Section:
    """The section ``[STORE]`` with these options, what is not given at its default.

    :param call_timeout: a function where it is to change while the driver is in use.
    """
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[], default_config_dirs=[])
    conf.register_opts([*driver.options(), *base.COMMON_OPTS], group=store)
    for name, value in options.items():
        conf.set_override(name, value, group=store)
    return base.Section(
        store,
        kind or driver.__name__.removesuffix("Driver").lower(),
        store,
        conf[store],
        call_timeout=call_timeout if callable(call_timeout) else lambda: call_timeout,
        pool_size=lambda: pool_size,
        conf=conf,
    )
