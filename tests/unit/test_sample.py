"""etc/scrubber.conf.sample says what the program says."""

from pathlib import Path

import pytest
from oslo_config import cfg, generator

SAMPLE = Path(__file__).parents[2] / "etc" / "scrubber.conf.sample"

# Those of oslo.db and oslo.log change with their releases; ours only with us.
NAMESPACES = ("scrubber", "scrubber.glance", "scrubber.stores")


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_the_sample_holds_every_option_with_its_current_help(namespace, tmp_path):
    conf = cfg.ConfigOpts()
    generator.register_cli_opts(conf)
    current = tmp_path / "current"
    conf(["--namespace", namespace, "--output-file", str(current), "--wrap-width", "99"])
    generator.generate(conf)
    written = SAMPLE.read_text()
    options = [block for block in current.read_text().split("\n\n") if "\n#" in block]
    assert len(options) > 1
    stale = [block for block in options if block.strip() not in written]
    assert not stale, f"run make sample; stale: {stale[0]}"
