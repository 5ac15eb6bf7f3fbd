"""Section [glance]: how Glance is reached, and which of its images are to go."""

from dataclasses import dataclass
from typing import Any

import keystoneauth1.exceptions
import requests
import yaml
from glanceclient.v2.client import Client
from keystoneauth1 import loading, noauth
from keystoneauth1 import session as keystone
from oslo_config import cfg

from scrubber import errors
from scrubber.config import check_section
from scrubber.glance.client import Glance, plain
from scrubber.options import GLANCE_SECTION, PROJECT
from scrubber.planning.retirement import Query
from scrubber.units import Written

#: Where the cloud of option cloud is looked for.
_CLOUDS_FILES = (
    "clouds.yaml in the working directory, ~/.config/openstack or /etc/openstack, or the file that "
    "OS_CLIENT_CONFIG_FILE names"
)

#: So many connections are kept, if so many calls were made at once.
_KEPT = 4096


class _Query(Written):
    def __init__(self) -> None:
        super().__init__("name=value&name=value")

    def __call__(self, value: Any) -> Query:
        return value if isinstance(value, Query) else Query.parse(str(value).strip())


OPTS = [
    cfg.StrOpt(
        "retire_tag",
        default="pending_delete",
        mutable=True,
        help="With source = glance_api: images that carry this tag are deleted, scrub_time after "
        "they were last changed. Whoever may tag an image decides that it goes.",
    ),
    cfg.Opt(
        "retire_query",
        type=_Query(),
        default="",
        mutable=True,
        help="With source = glance_api: only images that match all of this are deleted: "
        "name=value&name=value of owner, visibility, name, size_min, size_max, created_before and "
        "properties. Empty: all that carry the tag.",
    ),
    cfg.StrOpt(
        "cloud",
        help="The cloud in clouds.yaml that says where Glance is and how to log in; in the place "
        "of auth_type. Needs scrubber[clouds].",
    ),
]

_SESSION_OPTS = ("cafile", "certfile", "keyfile", "insecure", "timeout")
_ENDPOINT_OPTS = (
    "service-type",
    "service-name",
    "valid-interfaces",
    "region-name",
    "endpoint-override",
)


def register(conf: cfg.ConfigOpts) -> None:
    """All options of the section, save those of the auth plugin that it names."""
    conf.register_opts(_options(), group=GLANCE_SECTION)


def _options() -> list[cfg.Opt]:
    session = [at for at in loading.get_session_conf_options() if at.name in _SESSION_OPTS]
    endpoint = loading.get_adapter_conf_options(include_deprecated=False)
    return [
        *OPTS,
        *loading.get_auth_common_conf_options(),
        *session,
        *(at for at in endpoint if at.name in _ENDPOINT_OPTS),
    ]


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """For oslo-config-generator; of the auth plugins the most usual one."""
    return [(GLANCE_SECTION, [*_options(), *loading.get_auth_plugin_conf_options("v3password")])]


def check(conf: cfg.ConfigOpts) -> None:
    """:raises ConfigError: an option of the section cannot be used."""
    register(conf)
    check_section(conf, GLANCE_SECTION)


def is_set(conf: cfg.ConfigOpts) -> bool:
    """Whether the section says how Glance is reached."""
    register(conf)
    ours = conf[GLANCE_SECTION]
    return bool(ours.auth_type or ours.auth_section or ours.cloud or ours.endpoint_override)


def connect(conf: cfg.ConfigOpts, endpoint: str | None = None) -> Glance:
    """A Glance as section [glance] says; nothing is sent yet.

    :param endpoint: the URL of one API node, instead of what the section says.
    :raises ConfigError: the section cannot be used.
    """
    check(conf)
    ours = conf[GLANCE_SECTION]
    login = _of_cloud(ours.cloud) if ours.cloud else _of_section(conf)
    session = _Session(
        auth=login.auth,
        session=(web := _pooled()),
        verify=login.verify,
        cert=login.cert,
        timeout=ours.timeout or conf[PROJECT].call_timeout,
    )
    where = login.endpoint | ({"endpoint_override": endpoint} if endpoint else {})
    return Glance(Client("2", session=session, **where), web)


class _Session(keystone.Session):
    def invalidate(self, auth: Any = None) -> bool:
        """Whether to log in anew after a 401, and try again once: always.

        The library says no while another green thread is just doing so.
        """
        super().invalidate(auth)
        return True


@dataclass(frozen=True, slots=True)
class _Login:
    """How to log in, whom to trust, and how Glance is found in the catalogue."""

    auth: Any
    verify: bool | str
    cert: Any
    endpoint: dict[str, Any]


def _of_section(conf: cfg.ConfigOpts) -> _Login:
    ours = conf[GLANCE_SECTION]
    try:
        auth = loading.load_auth_from_conf_options(conf, GLANCE_SECTION)
    except (keystoneauth1.exceptions.AuthPluginException, cfg.Error, ValueError) as wrong:
        raise errors.ConfigError(
            f"section [glance] does not say how to log in: {plain(str(wrong))}"
        ) from None
    if auth is None:
        if not ours.endpoint_override:
            raise errors.ConfigError(
                "section [glance] names no Glance: set auth_type and what it needs, or cloud, "
                "or endpoint_override of a Glance without Keystone"
            )
        auth = noauth.NoAuth(endpoint=ours.endpoint_override)
    return _Login(
        auth,
        verify=False if ours.insecure else ours.cafile or True,
        cert=(ours.certfile, ours.keyfile) if ours.keyfile else ours.certfile,
        endpoint=_endpoint(
            service_type=ours.service_type,
            service_name=ours.service_name,
            interface=ours.valid_interfaces,
            region_name=ours.region_name,
            endpoint_override=ours.endpoint_override,
        ),
    )


def _of_cloud(name: str) -> _Login:
    try:
        import openstack.config
        import openstack.exceptions
    except ImportError:
        raise errors.ConfigError(
            "option cloud in section [glance] needs openstacksdk: install scrubber[clouds]"
        ) from None
    try:
        region = openstack.config.OpenStackConfig().get_one(cloud=name)
        auth = region.get_auth()
    except (openstack.exceptions.SDKException, keystoneauth1.exceptions.ClientException) as wrong:
        raise errors.ConfigError(
            f"option cloud in section [glance]: {plain(str(wrong))} ({_CLOUDS_FILES})"
        ) from None
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError):
        raise errors.ConfigError(
            f"option cloud in section [glance]: clouds.yaml cannot be understood ({_CLOUDS_FILES})"
        ) from None
    verify, cert = region.get_requests_verify_args()
    return _Login(
        auth,
        verify,
        cert,
        endpoint=_endpoint(
            interface=region.get_interface("image"),
            region_name=region.get_region_name("image"),
            endpoint_override=region.get_endpoint("image"),
        ),
    )


def _endpoint(**arguments: Any) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value}


def _pooled() -> requests.Session:
    """As many connections as calls; by default there would be a new one for most calls."""
    web = requests.Session()
    web.trust_env = False  # neither proxies nor .netrc, which would be looked for at each call
    for scheme in ("http://", "https://"):
        web.mount(scheme, keystone.TCPKeepAliveAdapter(pool_maxsize=_KEPT))
    return web
