"""``scrubber-manage check``: prints what the checks find.

Exit status, as of oslo.upgradecheck: 0 all is well, 1 warnings, 2 failures.
"""

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from scrubber import config, errors
from scrubber.checks.finding import Finding, Severity, failure
from scrubber.reporting import text


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command to those of a program.

    :param commands: what ``add_subparsers`` returned.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        "check",
        help="look whether all is ready to go live",
        description="Looks at the configuration, the databases and every store, and says what to "
        "do; changes nothing. Exit status: 0 all is well, 1 warnings, 2 failures.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--format", choices=("text", "json"), default="text", help="how to print (text)"
    )
    return parser


def run(files: Sequence[str], options: argparse.Namespace) -> int:
    """Check what these files configure; returns the exit status.

    :param files: ``--config-file`` and ``--config-dir``, as on the command line.
    """
    findings = _findings(files)
    worst = _print_json(findings) if options.format == "json" else _print_lines(findings)
    return int(worst)


def _findings(files: Sequence[str]) -> Iterator[Finding]:
    # Not for every other command: it loads what the stores need.
    from scrubber.checks.checklist import run_checks

    try:
        conf = config.load(files)
    except errors.ConfigError as wrong:
        yield failure("configuration", str(wrong), "nothing else can be looked at before that")
        return
    yield from run_checks(conf)


def _print_lines(findings: Iterable[Finding]) -> Severity:
    """Each as soon as it is known."""
    seen = []
    for finding in findings:
        seen.append(finding.severity)
        message = text.printable(f"{finding.check}: {finding.message}")
        print(f"{finding.severity.word:<8} {message}", flush=True)
        if finding.advice:
            print(f"{'':<8} -> {text.printable(finding.advice)}", flush=True)
    failures, warnings = seen.count(Severity.FAILURE), seen.count(Severity.WARNING)
    print(f"{text.counted(failures, 'failure')}, {text.counted(warnings, 'warning')}.")
    return max(seen)


def _print_json(findings: Iterable[Finding]) -> Severity:
    found = list(findings)
    worst = max(finding.severity for finding in found)
    document = {"status": worst.word, "findings": [_document(finding) for finding in found]}
    print(json.dumps(document, indent=2))
    return worst


def _document(finding: Finding) -> dict[str, str]:
    return {
        "check": finding.check,
        "severity": finding.severity.word,
        "message": finding.message,
        "advice": finding.advice,
    }
