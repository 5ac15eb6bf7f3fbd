"""A Glance without its database: what an operator has who may only ask its API."""

import json
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

from functional import program
from functional.cloud import Cloud
from functional.program import Result, Running
from lab.glance import Options, merge, render
from lab.glance_proxy import GlanceProxy
from scrubber import config
from scrubber.checks import glance
from scrubber.checks.finding import Finding
from scrubber.checks.site import Site
from scrubber.process import Process

TAG = "pending_delete"

_EXIT_STATUS = {"succeeded": 0, "partial": 3, "failed": 1}


class ApiOnly:
    """Scrubs with ``source = glance_api`` through the proxy.

    ``program`` runs the program, as an operator would; ``scrub`` does the same in this process,
    which is quicker: nothing is green there, so one request follows the other.
    """

    def __init__(self, cloud: Cloud, proxy: GlanceProxy) -> None:
        self.cloud = cloud
        self.proxy = proxy
        self.admin = cloud.glance.admin
        self._runs = 0

    def tagged(self, store: str | None = None, **properties: object) -> str:
        """An active image that carries the tag."""
        image_id = self.cloud.upload(store, **properties)
        self.tag(image_id)
        return image_id

    def tag(self, image_id: str) -> None:
        self.admin.image_tags.update(image_id, TAG)

    def program(self, *flags: str, options: Options | None = None) -> Result:
        result = program.run(self.configuration(options), *flags)
        self.cloud.check_kept()
        return result

    def running(self, name: str) -> Running:
        """The program in the background."""
        return Running(self.configuration(), self.cloud.glance.directory, name)

    def scrub(self, *flags: str, options: Options | None = None) -> Result:
        """One run; the images that are kept are whole after it."""
        argv = ["--config-file", str(self.configuration(options)), *flags]
        with closing(Process(config.load(argv), argv)) as process:
            process.open()
            report = process.execute(process.new_run("once"))
        self.cloud.check_kept()
        return Result(_EXIT_STATUS[report.status], json.dumps(report.as_dict()), "")

    def configuration(self, options: Options | None = None):
        self._runs += 1
        file = self.cloud.glance.directory / f"glance-api-{self._runs}.conf"
        ours: Options = {
            "DEFAULT": {"delayed_delete": self.cloud.glance.delayed_delete},
            "scrubber": {"source": "glance_api"},
            "glance": {"endpoint_override": self.proxy.url},
            "state": {"connection": ""},
        }
        file.write_text(render(merge(ours, options or {})))
        return file

    def cached(self) -> set[str]:
        """The images in the cache of Glance's API."""
        return {at["image_id"] for at in self.admin.cache.list()["cached_images"]}

    def findings(self, file: Path) -> list[Finding]:
        """What ``scrubber-manage check`` says of Glance."""
        conf = config.load(["--config-file", str(file)])
        with closing(Site(conf)) as site:
            return list(glance.look(site))

    def checked(self, file: Path) -> str:
        """The messages of that, on one line."""
        return "; ".join(found.message for found in self.findings(file))

    def remembered(self, options: Options) -> list[Any]:
        """What is in the retry ledger of this configuration."""
        manage = program.PROGRAM.with_name("scrubber-manage")
        file = self.configuration(options)
        done = subprocess.run(
            [manage, "--config-file", file, "parked", "--format", "json"],
            capture_output=True,
            text=True,
            check=True,
        )
        return list(json.loads(done.stdout)["locations"])

    def shown(self) -> set[str]:
        """The ids of all images that the API shows."""
        return {image.id for image in self.admin.images.list(filters={"visibility": "all"})}
