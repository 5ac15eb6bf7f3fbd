"""The accounts of a store: references in a file of their own, or one in the section itself.

Follows glance_store's ``swift`` driver: its options, its file, its defaults.  One thing is
wider: ``auth_version = 1`` still means auth v1, which Glance itself has given up.
"""

import configparser
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from oslo_config import cfg

from scrubber.stores import base

OPTS = [
    cfg.StrOpt(
        "swift_store_config_file",
        help="File with the accounts, as in glance-api.conf.",
    ),
    cfg.StrOpt(
        "default_swift_reference",
        default="ref1",
        help="The account in that file to which Glance writes.",
    ),
    cfg.StrOpt(
        "swift_store_auth_version",
        default="3",
        help="Version of the authentication: 3, or 1 for a Swift without Keystone.",
    ),
    cfg.StrOpt(
        "swift_store_auth_address",
        help="Where to authenticate, unless the file says it.",
    ),
    cfg.StrOpt(
        "swift_store_user",
        secret=True,
        help="project:user, unless the file says it.",
    ),
    cfg.StrOpt(
        "swift_store_key",
        secret=True,
        help="Password of the user, unless the file says it.",
    ),
    cfg.StrOpt(
        "swift_store_application_credential_id",
        secret=True,
        help="Application credential in place of user and password, unless the file says it.",
    ),
    cfg.StrOpt(
        "swift_store_application_credential_secret",
        secret=True,
        help="Its secret.",
    ),
]

_V1 = frozenset({"1", "1.0"})


@dataclass(frozen=True, slots=True)
class Domains:
    """In which Keystone domains user and project are looked for, by id or by name."""

    user_domain_id: str | None = "default"
    user_domain_name: str | None = None
    project_domain_id: str | None = "default"
    project_domain_name: str | None = None


@dataclass(frozen=True, slots=True)
class Reference:
    """How to log in to one account.

    :param auth_address: a URL, ``https`` where none was given.
    :param user: ``project:user``; empty with an application credential.
    """

    name: str
    auth_address: str
    is_v1: bool
    user: str = ""
    key: str = field(default="", repr=False)
    credential_id: str = field(default="", repr=False)
    credential_secret: str = field(default="", repr=False)
    domains: Domains = Domains()

    @property
    def project(self) -> str:
        return self.user.partition(":")[0]


def references(section: base.Section) -> dict[str, Reference]:
    """By name; that of ``default_swift_reference`` is among them.

    :raises ConfigError: it is not, or the file cannot be read.
    """
    options = section.options
    default = str(options.default_swift_reference)
    if options.swift_store_config_file:
        found = {reference.name: reference for reference in _of_file(section)}
        option = "swift_store_config_file"
        hint = f"has no complete section [{default}], which default_swift_reference names"
    else:
        inline = _reference(default, _inline(options), options.swift_store_auth_version)
        found = {default: inline} if inline else {}
        option = "swift_store_auth_address"
        hint = "needs swift_store_user and swift_store_key, or set swift_store_config_file"
    if default not in found:
        raise section.wrong(option, hint)
    for reference in found.values():
        _check(section, reference)
    # glance_store takes the default's domains for all of them.
    domains = found[default].domains
    return {name: replace(reference, domains=domains) for name, reference in found.items()}


def _check(section: base.Section, reference: Reference) -> None:
    try:
        urlsplit(reference.auth_address)
    except ValueError:
        raise section.wrong("swift_store_auth_address", "is no address") from None
    if not reference.credential_id and reference.user.count(":") != 1:
        raise section.wrong(
            "default_swift_reference"
            if not section.options.swift_store_config_file
            else "swift_store_config_file",
            f"leads to reference {reference.name}, whose user is not of the form project:user",
        )


def _inline(options: Any) -> dict[str, str | None]:
    return {
        "auth_address": options.swift_store_auth_address,
        "user": options.swift_store_user,
        "key": options.swift_store_key,
        "application_credential_id": options.swift_store_application_credential_id,
        "application_credential_secret": options.swift_store_application_credential_secret,
    }


def _of_file(section: base.Section) -> Iterator[Reference]:
    file = configparser.ConfigParser()
    name = section.options.swift_store_config_file
    try:
        file.read_string(Path(section.conf.find_file(name) or name).read_text())
    except OSError as error:
        raise section.wrong(
            "swift_store_config_file", f"names a file that cannot be read: {error.strerror}"
        ) from None
    except (configparser.Error, UnicodeDecodeError):
        # Their texts quote the line.
        raise section.wrong(
            "swift_store_config_file", "names a file that is not made of sections and options"
        ) from None
    for name in file.sections():
        try:
            values = {option: _unquoted(value) for option, value in file.items(name)}
            urlsplit(values.get("auth_address", ""))
        except (configparser.Error, ValueError):
            continue  # as glance_store does; the default reference is looked for later
        version = values.get("auth_version") or section.options.swift_store_auth_version
        if reference := _reference(name, values, version):
            yield reference


def _reference(
    name: str, values: Mapping[str, str | None], version: str | None
) -> Reference | None:
    """None if something is missing."""
    address = values.get("auth_address")
    credential = values.get("application_credential_id")
    secret = values.get("application_credential_secret")
    user, key = values.get("user"), values.get("key")
    if not address or not ((credential and secret) or (user and key)):
        return None
    if credential and secret:
        user = key = None
    return Reference(
        name,
        auth_address=address if "://" in address else f"https://{address}",
        is_v1=str(version) in _V1,
        user=user or "",
        key=key or "",
        credential_id=credential or "",
        credential_secret=secret or "",
        domains=_domains(values),
    )


def _domains(values: Mapping[str, str | None]) -> Domains:
    def of(what: str) -> tuple[str | None, str | None]:
        by_id, by_name = values.get(f"{what}_domain_id"), values.get(f"{what}_domain_name")
        return (by_id, by_name) if by_id or by_name else ("default", None)

    return Domains(*of("user"), *of("project"))


def _unquoted(value: str) -> str:
    """glance_store takes away a pair of quotes, and refuses a single one."""
    if value[:1] in ("'", '"'):
        if len(value) == 1 or value[-1] != value[0]:
            raise ValueError("a quote is not closed")
        return value[1:-1]
    return value
