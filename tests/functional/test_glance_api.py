"""Through Glance's own API, on a real Glance: marked images go, everything else stays."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from functional import program
from functional.conftest import NewCloud, with_live_images
from functional.glance_api import TAG, ApiOnly
from lab.glance_proxy import MEMBER, GlanceProxy, Reply
from lab.processes import LOCALHOST, free_port, wait_until

#: Which node's cache it is.
CACHE = {"worker_self_reference_url": "http://node"}


@pytest.fixture
def new_api(clouds: NewCloud) -> Iterator[Callable[..., ApiOnly]]:
    """Makes one of a kind of Glance, with a live image in each of its stores."""
    proxies: list[GlanceProxy] = []

    def new(**options: object) -> ApiOnly:
        # Under SQLite Glance answers several deletes at once with 500.
        cloud = with_live_images(clouds("mariadb", **options))
        proxies.append(GlanceProxy(cloud.glance.url).__enter__())
        return ApiOnly(cloud, proxies[-1])

    yield new
    for proxy in proxies:
        proxy.stop()


@pytest.fixture(scope="session")
def image_cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("image-cache"))


@pytest.fixture
def api(new_api: Callable[..., ApiOnly], image_cache: str) -> ApiOnly:
    """A Glance with the stores ``fast`` and ``slow`` that deletes at once, and has a cache."""
    cache = {**CACHE, "image_cache_dir": image_cache}
    return new_api(delayed_delete=False, options={"DEFAULT": cache})


# What goes --------------------------------------------------------------------------------


def test_marked_images_go_with_their_bytes_and_no_others(api: ApiOnly) -> None:
    gone = {api.tagged("fast"), api.tagged("slow", visibility="community")}
    gone.add(api.tagged("fast", os_hidden=True))
    before = api.shown() - gone
    result = api.program()
    assert result.exit_status == 0, result
    assert result.outcomes == {"deleted": 3}
    assert result.images_scrubbed == 3
    assert result.document["bytes_freed"] == 600
    assert api.shown() == before
    for store in ("fast", "slow"):
        assert not gone & api.cloud.files(store)


def test_an_image_goes_copy_by_copy_and_as_a_whole_with_the_last(api: ApiOnly) -> None:
    image = api.tagged("fast")
    api.cloud.glance.copy_to(image, "slow")
    result = api.scrub()
    assert result.outcomes_by_store == {"fast": {"deleted": 1}, "slow": {"deleted": 1}}
    assert result.images_scrubbed == 1
    deletes = [path for method, path in api.proxy.requests if method == "DELETE"]
    assert deletes == [f"/v2/stores/fast/{image}", f"/v2/images/{image}"]
    assert image not in api.shown()


def test_its_copies_go_together_though_each_delete_changes_the_image(api: ApiOnly) -> None:
    image = api.tagged("fast")
    api.cloud.glance.copy_to(image, "slow")
    api.cloud.age(image, 3601)
    result = api.scrub(options={"DEFAULT": {"scrub_time": 3600}})
    assert (result.exit_status, result.outcomes) == (0, {"deleted": 2}), result
    assert image not in api.shown()


def test_a_copy_that_fails_keeps_the_image_and_is_tried_again(api: ApiOnly) -> None:
    image = api.tagged("fast")
    api.cloud.glance.copy_to(image, "slow")
    api.proxy.on("DELETE", "/v2/stores/fast/", Reply(500), times=1)
    first = api.scrub()
    assert first.exit_status == 3
    assert first.outcomes_by_store == {"fast": {"failed": 1}, "slow": {"deleted": 1}}
    assert api.admin.images.get(image).stores == "fast"
    second = api.scrub()
    assert second.exit_status == 0, second
    assert image not in api.shown()


def test_a_deactivated_image_goes_as_a_whole(api: ApiOnly) -> None:
    image = api.tagged("fast")
    api.cloud.glance.copy_to(image, "slow")
    api.admin.images.deactivate(image)
    result = api.scrub()
    assert (result.exit_status, result.images_scrubbed) == (0, 1), result
    assert result.document["bytes_freed"] == 400
    assert not api.cloud.file(image, "fast").exists()
    assert not api.cloud.file(image, "slow").exists()


def test_a_run_can_be_narrowed(api: ApiOnly) -> None:
    mine, other = api.tagged("fast", owner="a"), api.tagged("slow", owner="b")
    assert api.scrub("--store", "slow", "--owner", "a").images_scrubbed == 0
    assert api.scrub("--image", mine, "--owner", "a").images_scrubbed == 1
    assert mine not in api.shown()
    assert other in api.shown()
    unknown = api.program("--store", "fsat")
    assert unknown.exit_status == 1
    assert "fsat: no such store; configured are fast, slow" in unknown.stderr


def test_retire_query_says_which_marked_images_go(api: ApiOnly) -> None:
    image = api.tagged("fast", owner="a", name="old", os_distro="debian")
    others = {
        api.tagged("fast", owner="b", name="old", os_distro="debian"),
        api.tagged("fast", owner="a", name="new", os_distro="debian"),
        api.tagged("fast", owner="a", name="old", os_distro="cirros"),
    }
    query = "owner=a&name=old&os_distro=debian&size_max=1000&created_before=2099-01-01"
    result = api.scrub(options={"glance": {"retire_query": query}})
    assert result.images_scrubbed == 1
    assert image not in api.shown()
    assert others <= api.shown()


def test_an_image_waits_for_scrub_time_after_it_was_marked(api: ApiOnly) -> None:
    image = api.cloud.upload("fast")
    api.cloud.age(image, 7200)
    api.tag(image)
    options = {"DEFAULT": {"scrub_time": 3600}}
    result = api.scrub(options=options)
    assert (result.exit_status, result.outcomes) == (0, {})
    assert result.document["not_due"]["images"] == 1
    api.cloud.age(image, 3601)
    assert api.scrub(options=options).images_scrubbed == 1


# What stays -------------------------------------------------------------------------------


def test_what_may_not_be_deleted_is_left_and_reported(api: ApiOnly) -> None:
    protected = api.tagged("fast", protected=True)
    shared = api.tagged("fast")
    api.admin.image_members.create(shared, "friend")
    offered = api.tagged("fast")
    api.admin.image_members.create(offered, "friend")
    friend = api.cloud.glance.client(project="friend")
    friend.image_members.update(shared, "friend", "accepted")
    importing = api.tagged("fast")
    api.cloud.staging.begin_import(image_id=importing)
    for flags in (("--dry-run",), ()):
        result = api.scrub(*flags)
        reasons = {
            example["image"]: left["reason"]
            for left in result.document["left"]
            for example in left["examples"]
        }
        assert result.exit_status == 3
        assert reasons.keys() == {protected, shared, importing}
        assert "protected" in reasons[protected]
        assert "friend" in reasons[shared]
        assert "importing" in reasons[importing]
    assert {protected, shared, importing} <= api.shown()
    assert offered not in api.shown()


CHANGES: dict[str, Callable[[ApiOnly, str], object]] = {
    "untagged": lambda api, image: api.admin.image_tags.delete(image, TAG),
    "deleted": lambda api, image: api.admin.images.delete(image),
    "out of the query": lambda api, image: api.admin.images.update(image, name="keep"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_changes_after_it_was_listed_is_not_deleted(
    api: ApiOnly, change: Callable[[ApiOnly, str], object]
) -> None:
    image = api.tagged("fast", name="old")
    api.proxy.on("GET", f"/v2/images/{image}$", lambda: change(api, image) and None, times=1)
    result = api.scrub(options={"glance": {"retire_query": "name=old"}})
    assert (result.exit_status, result.outcomes) == (0, {}), result
    assert result.document["claimed_elsewhere"]["images"] == 1
    assert not api.proxy.count("DELETE", image)


def test_what_is_tagged_anew_after_it_was_listed_waits_once_more(api: ApiOnly) -> None:
    image = api.tagged("fast")
    api.cloud.age(image, 3601)

    def change_ones_mind() -> None:
        api.admin.image_tags.delete(image, TAG)
        api.tag(image)

    api.proxy.on("GET", f"/v2/images/{image}$", change_ones_mind, times=1)
    result = api.scrub(options={"DEFAULT": {"scrub_time": 3600}})
    assert (result.exit_status, result.outcomes) == (0, {}), result
    assert not api.proxy.count("DELETE", image)
    assert image in api.shown()


def test_protection_holds_up_to_the_delete_itself(api: ApiOnly) -> None:
    image = api.tagged("fast")

    def protect() -> None:
        api.admin.images.update(image, protected=True)

    api.proxy.on("DELETE", f"/v2/images/{image}", protect, times=1)
    result = api.scrub()
    assert (result.exit_status, result.outcomes) == (3, {"refused": 1}), result
    assert image in api.shown()
    api.admin.images.update(image, protected=False)


def test_a_dry_run_deletes_nothing_and_says_what_a_run_would(api: ApiOnly) -> None:
    image = api.tagged("fast")
    api.cloud.glance.copy_to(image, "slow")
    result = api.program("--dry-run")
    assert result.exit_status == 0, result
    assert result.outcomes == {"deleted": 2}
    assert result.document["bytes_freed"] == 400
    assert not api.proxy.count("DELETE", "")
    assert api.admin.images.get(image).stores == "fast,slow"


def test_restore_takes_the_tag_away(api: ApiOnly) -> None:
    image = api.tagged("fast")
    result = api.program("--restore", image)
    assert result.exit_status == 0, result
    assert api.program().outcomes == {}
    assert image in api.shown()


# Delayed delete ---------------------------------------------------------------------------


def test_what_glance_deletes_later_is_requested_and_frees_nothing(
    new_api: Callable[..., ApiOnly],
) -> None:
    api = new_api()
    image = api.tagged("fast")
    for flags in (("--dry-run",), ()):
        result = api.program(*flags)
        assert (result.exit_status, result.outcomes) == (0, {"requested": 1}), result
        assert result.document["bytes_freed"] == 0
    assert image not in api.shown()
    assert api.cloud.file(image).exists()
    later = api.cloud.scrub()
    assert later.outcomes == {"deleted": 1}
    assert not api.cloud.file(image).exists()


def test_bytes_count_as_freed_only_where_the_configuration_says_so(api: ApiOnly) -> None:
    api.tagged("fast")
    file = api.configuration()
    file.write_text(file.read_text().replace("delayed_delete", "# delayed_delete"))
    result = program.run(file)
    assert (result.outcomes, result.document["bytes_freed"]) == ({"requested": 1}, 0)


def test_a_half_deleted_image_is_deleted_to_its_end(new_api: Callable[..., ApiOnly]) -> None:
    api = new_api()
    image = api.cloud.upload("fast")
    api.cloud.staging.crash_before_destroy(image_id=image)
    assert api.scrub().outcomes == {}, "it may still be at work"
    api.cloud.age(image, 3601)
    result = api.scrub()
    assert (result.exit_status, result.outcomes) == (0, {"requested": 1}), result
    assert image not in api.shown()
    assert api.cloud.scrub().outcomes == {"deleted": 1}
    assert not api.cloud.file(image).exists()


# Other Glances and callers ----------------------------------------------------------------


def test_a_glance_with_one_store_needs_only_the_image_delete(
    new_api: Callable[..., ApiOnly],
) -> None:
    api = new_api(single_store=True, delayed_delete=False)
    image = api.tagged()
    result = api.scrub()
    assert result.exit_status == 0, result
    assert result.outcomes_by_store == {"glance": {"deleted": 1}}
    assert not api.cloud.glance.file(image).exists()
    assert not api.proxy.count("DELETE", "/v2/stores/")


def says_versions(*ids: str) -> Reply:
    document = {"versions": [{"id": at, "status": "SUPPORTED"} for at in ids]}
    return Reply(200, {"Content-Type": "application/json"}, json.dumps(document).encode())


def test_where_glance_cannot_delete_single_copies_the_image_goes_as_a_whole(api: ApiOnly) -> None:
    """As before version 2.10 of its API."""
    image = api.tagged("fast")
    api.cloud.glance.copy_to(image, "slow")
    api.proxy.on("DELETE", "/v2/stores/", Reply(404))
    api.proxy.on("GET", "/versions", says_versions("v2.9", "v2.8", "v2.0"))
    assert "v2.9; before v2.10 it deletes no single copy" in api.checked(api.configuration())
    result = api.scrub()
    assert (result.exit_status, result.document["bytes_freed"]) == (0, 400), result
    assert image not in api.shown()
    for store in ("fast", "slow"):
        assert image not in api.cloud.files(store)


def test_a_glance_that_knows_of_no_stores_needs_only_the_image_delete(
    new_api: Callable[..., ApiOnly],
) -> None:
    """One before version 2.8, and one that has a single store, name none."""
    api = new_api(single_store=True, delayed_delete=False)
    api.proxy.on("GET", "/versions", says_versions("v2.7", "v2.0"))
    api.proxy.on("GET", "/v2/(info|cache)", Reply(404))
    image = api.tagged()
    assert api.checked(api.configuration()) == "its API is v2.7"
    result = api.scrub("--store", "glance")
    assert (result.exit_status, result.outcomes) == (0, {"deleted": 1}), result
    assert image not in api.shown()


def test_whoever_is_no_administrator_deletes_nothing_of_others(api: ApiOnly) -> None:
    image = api.tagged("fast", owner="somebody", visibility="public")
    api.proxy.identity = MEMBER
    result = api.program()
    assert (result.exit_status, result.outcomes) == (3, {"refused": 1}), result
    assert image in api.shown()


def test_two_scrubbers_share_the_work(api: ApiOnly) -> None:
    ids = {api.tagged("fast") for _ in range(30)}
    with api.running("first") as first, api.running("second") as second:
        results = [first.result(), second.result()]
    for result in results:
        assert result.exit_status == 0, result.document["left"]
    # What both delete in the same moment Glance may grant to both, or to neither.
    assert sum(result.outcomes.get("deleted", 0) for result in results) >= 15
    assert not ids & api.shown()


# Troubles ---------------------------------------------------------------------------------


def test_a_proxy_that_asks_for_patience_gets_it(api: ApiOnly) -> None:
    ids = {api.tagged("fast") for _ in range(5)}
    api.proxy.on("DELETE", "/v2/images/", Reply(429, {"Retry-After": "1"}), times=2)
    api.proxy.on("GET", r"/v2/images\?.*tag=", Reply(429, {"Retry-After": "1"}), times=1)
    result = api.program()
    assert (result.exit_status, result.outcomes) == (0, {"deleted": 5}), result
    assert not ids & api.shown()


def test_a_delete_without_an_answer_is_tried_again(api: ApiOnly) -> None:
    image = api.tagged("fast")
    patience = threading.Event()
    api.proxy.on("DELETE", f"/v2/images/{image}", lambda: patience.wait(3) and None, times=1)
    first = api.program(options={"glance": {"timeout": 1}})
    assert (first.exit_status, first.outcomes) == (3, {"failed": 1}), first
    assert "does not answer in time" in str(first.document["left"])
    patience.set()


def test_a_glance_that_goes_in_mid_run_leaves_the_rest_to_the_next(api: ApiOnly) -> None:
    def gone() -> Reply:
        raise ConnectionResetError

    ids = {api.tagged("fast") for _ in range(5)}
    api.proxy.on("DELETE", "", lambda: None, times=2)
    api.proxy.on("DELETE", "", gone, times=1)
    first = api.scrub()
    assert (first.exit_status, first.outcomes) == (3, {"deleted": 2, "waiting": 3}), first
    assert "no connection to Glance" in first.document["stopped_stores"]["fast"]
    assert api.scrub().images_scrubbed == 3
    assert not ids & api.shown()


def test_a_glance_that_is_down_is_said_at_once(api: ApiOnly) -> None:
    api.proxy.stop()
    result = api.program()
    assert result.exit_status == 1
    assert "no connection to Glance" in result.stderr


def test_paging_bears_that_its_marker_goes(api: ApiOnly) -> None:
    ids = {api.tagged("fast") for _ in range(11)}
    api.proxy.on("GET", "marker=", Reply(400), times=2)
    result = api.scrub(options={"scrubber": {"page_size": 3}})
    assert (result.exit_status, result.images_scrubbed) == (0, 11), result
    assert not ids & api.shown()


def test_what_failed_is_remembered_and_forgotten_once_it_is_gone(
    api: ApiOnly, tmp_path: Path
) -> None:
    image = api.tagged("fast")
    options = {
        "state": {"connection": f"sqlite:///{tmp_path}/state.sqlite"},
        "scrubber": {"retry_base": 3600, "retry_attempts": 1},
    }
    api.proxy.on("DELETE", image, Reply(500, {}, b"cannot reach rbd://secret@pool"), times=1)
    assert api.scrub(options=options).outcomes == {"failed": 1}
    parked = api.scrub(options=options)
    assert parked.outcomes == {"waiting": 1}
    [left] = parked.document["left"]
    assert left["reason"].startswith("parked, it failed 1 times")
    assert "secret" not in left["reason"]
    api.admin.images.delete(image)
    assert api.scrub(options=options).exit_status == 0
    assert api.remembered(options) == []


# Beside the database source -----------------------------------------------------------------


def test_a_check_compares_the_stores_with_those_that_glance_names(api: ApiOnly) -> None:
    file = api.cloud.configuration({"glance": {"endpoint_override": api.proxy.url}})
    assert "has the same 2 stores" in api.checked(file)
    text = file.read_text().replace(str(api.cloud.data_directories["slow"]), "/elsewhere")
    file.write_text(text)
    assert "filesystem_store_datadir in section [slow] is /elsewhere" in api.checked(file)


def test_a_check_says_what_an_older_glance_does_not_tell(api: ApiOnly) -> None:
    api.proxy.on("GET", "/versions", says_versions("v2.13", "v2.8"))
    api.proxy.on("GET", "/v2/info/stores/detail", Reply(404))
    file = api.cloud.configuration({"glance": {"endpoint_override": api.proxy.url}})
    said = api.checked(file)
    assert "v2.13; before v2.15 it does not say where its stores are" in said
    assert "has the same 2 stores" in said, "their names are compared all the same"


def test_a_check_names_what_the_caches_hold_in_vain(
    new_api: Callable[..., ApiOnly], tmp_path: Path
) -> None:
    api = new_api(options={"DEFAULT": {**CACHE, "image_cache_dir": str(tmp_path)}})
    live, pending, scrubbed = api.cloud.keep("fast"), api.tagged("fast"), api.tagged("fast")
    for image in (live, pending, scrubbed):
        api.admin.cache.queue(image)
    wait_until(lambda: {live, pending, scrubbed} <= api.cached(), what="all three cached")
    options = {"endpoint_override": api.proxy.url}
    file = api.cloud.configuration({"glance": options})
    assert "of what the cache of Glance holds, nothing is scrubbed or pending" in api.checked(file)
    api.admin.images.delete(scrubbed)
    assert api.cloud.scrub().images_scrubbed == 1
    api.admin.images.delete(pending)
    found = api.findings(file)[-1]
    assert "the cache of Glance holds 2 images scrubbed or pending: " in found.message
    assert {scrubbed, pending} == set(found.message.partition("pending: ")[2].split(", "))
    assert "set purge_cache and cache_endpoints" in found.advice


def test_a_check_asks_every_node_for_its_cache(api: ApiOnly) -> None:
    nobody = f"http://{LOCALHOST}:{free_port()}"
    with GlanceProxy(api.cloud.glance.url) as without:
        without.on("GET", "/versions", says_versions("v2.17", "v2.15", "v2.0"))
        options = {
            "endpoint_override": api.proxy.url,
            "purge_cache": True,
            "cache_endpoints": f"{api.proxy.url},{without.url},{nobody}",
        }
        said = api.checked(api.cloud.configuration({"glance": options}))
    assert "of what the cache of API node 1 of cache_endpoints holds, nothing" in said
    assert "API node 2 of cache_endpoints has no image cache" in said
    assert "the image cache of API node 3 of cache_endpoints cannot be looked at" in said
    assert nobody not in said


def test_what_is_scrubbed_goes_from_the_cache_of_the_api(api: ApiOnly) -> None:
    live, scrubbed = api.cloud.keep("fast"), api.tagged("fast")
    for image in (live, scrubbed):
        api.admin.cache.queue(image)
    wait_until(lambda: {live, scrubbed} <= api.cached(), what="both images cached")
    options = {"glance": {"purge_cache": True, "cache_endpoints": api.proxy.url}}
    assert api.scrub("--dry-run", options=options).images_scrubbed == 1
    assert scrubbed in api.cached()
    assert api.scrub(options=options).images_scrubbed == 1
    assert scrubbed not in api.cached()
    assert live in api.cached()
