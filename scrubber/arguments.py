"""The command line as operators write it, in the form that oslo.config reads."""

from collections.abc import Sequence

_TRUE = frozenset({"true", "1", "on", "yes"})
_FALSE = frozenset({"false", "0", "off", "no"})


def files_and_flags(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The command line in two parts, each as oslo.config wants it.

    Files come first, since a file named after a flag would override that flag; and
    ``--daemon true|false``, ``--daemon=…``, ``-D …`` become ``--daemon`` or ``--nodaemon``.
    """
    files: list[str] = []
    rest: list[str] = []
    words = list(argv)
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        if word == "--":
            rest += [word, *words]
            break
        if name in ("--config-file", "--config-dir"):
            files.append(word)
            if not equals and words:
                files.append(words.pop(0))
        elif name in ("--daemon", "-D"):
            if not equals and words and words[0].lower() in _TRUE | _FALSE:
                value = words.pop(0)
            rest.append(_daemon_flag(word, value if value or equals else "true"))
        else:
            rest.append(word)
    return files, rest


def _daemon_flag(word: str, value: str) -> str:
    if value.lower() in _TRUE:
        return "--daemon"
    if value.lower() in _FALSE:
        return "--nodaemon"
    return word  # oslo.config says what is wrong with it, exit 2
