"""Through Glance's API with a real Keystone: logging in, tokens that run out, roles, catalogue."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from glanceclient.v2.client import Client

from conftest import needed_programs
from functional import program
from functional.program import Result
from lab.databases import Servers
from lab.glance import PASTE, Glance, Options, merge, render
from lab.glance_proxy import GlanceProxy
from lab.keystone import PASSWORD, REGION, Keystone

TAG = "pending_delete"

WITH_KEYSTONE = PASTE.replace(" context rootapp", " authtoken context rootapp") + (
    "\n[filter:authtoken]\npaste.filter_factory = keystonemiddleware.auth_token:filter_factory\n"
)


class Cloud:
    """A Glance that believes nobody but Keystone; the catalogue leads to ``proxy``."""

    def __init__(self, directory: Path, keystone: Keystone, glance: Glance, proxy: GlanceProxy):
        self.keystone = keystone
        self.glance = glance
        self.proxy = proxy
        self._directory = directory
        self.admin = Client("2", session=keystone.session(), endpoint_override=glance.url)

    def tagged(self, **properties: object) -> str:
        image = self.glance.upload(self.admin, b"bytes", tags=[TAG], **properties)
        return str(image)

    def shown(self) -> set[str]:
        return {image.id for image in self.admin.images.list(filters={"visibility": "all"})}

    def scrub(self, options: Options | None = None) -> Result:
        login: Options = {
            "glance": {"auth_type": "password", **self.admins_login, "region_name": REGION}
        }
        return self._run(merge(login, options or {}))

    def scrub_by_cloud(self, name: str) -> Result:
        """Log in as clouds.yaml says."""
        return self._run({"glance": {"cloud": name}})

    @property
    def admins_login(self) -> dict[str, str]:
        """As sections and clouds.yaml call it."""
        return {
            "auth_url": self.keystone.url,
            "username": "admin",
            "password": PASSWORD,
            "user_domain_id": "default",
            "project_name": "admin",
            "project_domain_id": "default",
        }

    def _run(self, options: Options) -> Result:
        ours: Options = {
            "DEFAULT": {"delayed_delete": False},
            "scrubber": {"source": "glance_api"},
            "state": {"connection": ""},
        }
        file = self._directory / "scrubber.conf"
        file.write_text(render(merge(ours, options)))
        result = program.run(file)
        for secret in (PASSWORD, "s3cret"):
            assert secret not in result.stdout + result.stderr
        return result


@pytest.fixture(scope="module")
def cloud(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    directory = tmp_path_factory.mktemp("keystone")
    with needed_programs():
        keystone = Keystone(directory / "keystone")
        database = servers.get("mariadb").create_database("glance_keystone")
    paste = directory / "paste.ini"
    paste.write_text(WITH_KEYSTONE)
    authtoken = {
        "auth_type": "password",
        "www_authenticate_uri": keystone.url,
        "auth_url": keystone.url,
        "username": "admin",
        "password": PASSWORD,
        "user_domain_id": "default",
        "project_name": "admin",
        "project_domain_id": "default",
        "region_name": REGION,
        "interface": "public",
        # Each request's token is shown to Keystone.
        "token_cache_time": -1,
    }
    glance = Glance(
        directory / "glance",
        database,
        directory / "images",
        delayed_delete=False,
        options={"paste_deploy": {"config_file": paste}, "keystone_authtoken": authtoken},
    )
    with keystone, glance, GlanceProxy(glance.url, identity={}) as proxy:
        keystone.add_service("image", proxy.url)
        keystone.add_user("somebody", "s3cret", role="member")
        yield Cloud(directory, keystone, glance, proxy)


def test_a_token_that_runs_out_in_mid_run_is_replaced(cloud: Cloud) -> None:
    ids = {cloud.tagged() for _ in range(4)}
    cloud.proxy.on("DELETE", "", lambda: cloud.keystone.revoke(cloud.proxy.token), times=1)
    result = cloud.scrub()
    assert (result.exit_status, result.outcomes) == (0, {"deleted": 4}), result
    assert not ids & cloud.shown()


def test_who_is_no_administrator_deletes_nothing_of_others(cloud: Cloud) -> None:
    image = cloud.tagged(visibility="public")
    member = {"username": "somebody", "password": "s3cret", "project_name": "somebody"}
    result = cloud.scrub({"glance": member})
    assert (result.exit_status, result.outcomes) == (3, {"refused": 1}), result
    assert image in cloud.shown()


WRONG = [
    # what is different in the section; what is said
    ({"password": "wrong"}, "Keystone refuses to log in (401)"),
    ({"project_name": "nobody"}, "Keystone refuses to log in (401)"),
    ({"region_name": "Elsewhere"}, "no way to Glance"),
    ({"service_type": "painting"}, "no way to Glance"),
    ({"auth_url": "http://127.0.0.1:9/v3"}, "no way to Glance"),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_what_does_not_lead_to_glance_is_said_at_once(
    cloud: Cloud, options: dict[str, str], message: str
) -> None:
    result = cloud.scrub({"glance": options})
    assert result.exit_status == 1
    assert message in result.stderr


# By the name of a cloud in clouds.yaml --------------------------------------------------------


@pytest.fixture
def clouds_file(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three clouds: the administrator's, one of a region that is not there, a wrong password."""
    here = {"auth": cloud.admins_login, "region_name": REGION, "interface": "public"}
    clouds = {
        "here": here,
        "elsewhere": {**here, "region_name": "Elsewhere"},
        "locked": {**here, "auth": {**cloud.admins_login, "password": "s3cret-and-wrong"}},
    }
    file = tmp_path / "clouds.yaml"
    file.write_text(yaml.safe_dump({"clouds": clouds}))
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(file))
    return file


def test_a_cloud_is_all_that_has_to_be_named(cloud: Cloud, clouds_file: Path) -> None:
    ids = {cloud.tagged(), cloud.tagged()}
    result = cloud.scrub_by_cloud("here")
    assert (result.exit_status, result.outcomes.keys()) == (0, {"deleted"}), result
    assert not ids & cloud.shown()


CLOUDS = [
    # the name; what is said
    ("unknown", "option cloud in section [glance]: Cloud unknown was not found"),
    ("elsewhere", "no way to Glance"),
    ("locked", "Keystone refuses to log in (401)"),
]


@pytest.mark.parametrize(("name", "message"), CLOUDS)
def test_a_cloud_that_leads_nowhere_is_said_in_one_line(
    cloud: Cloud, clouds_file: Path, name: str, message: str
) -> None:
    result = cloud.scrub_by_cloud(name)
    assert result.exit_status == 1
    assert [message in line for line in result.stderr.splitlines()] == [True], result


def test_without_openstacksdk_it_is_said_what_to_install(
    cloud: Cloud, clouds_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "openstack.py").write_text("raise ImportError('as if it were not installed')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    result = cloud.scrub_by_cloud("here")
    assert result.exit_status == 1
    [line] = result.stderr.splitlines()
    assert "needs openstacksdk: install scrubber[clouds]" in line
