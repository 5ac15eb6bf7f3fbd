"""What a check says."""

import enum
from dataclasses import dataclass


class Severity(enum.IntEnum):
    """What a finding means for going live; the values are oslo.upgradecheck's exit statuses."""

    OK = 0
    WARNING = 1
    FAILURE = 2

    @property
    def word(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Finding:
    """One line for an operator.

    :param check: what was looked at.
    :param advice: what to do; empty if nothing is.
    """

    check: str
    severity: Severity
    message: str
    advice: str = ""


def ok(check: str, message: str) -> Finding:
    """All is well."""
    return Finding(check, Severity.OK, message)


def warning(check: str, message: str, advice: str) -> Finding:
    """scrubber runs, and not as it might be wanted."""
    return Finding(check, Severity.WARNING, message, advice)


def failure(check: str, message: str, advice: str) -> Finding:
    """scrubber would not run, or would leave something behind."""
    return Finding(check, Severity.FAILURE, message, advice)
