"""Every spelling of the command line that glance-scrubber and operators know."""

import itertools
from pathlib import Path

import pytest

from scrubber import config

DAEMON = [
    # the words; whether that is a daemon
    ([], False),
    (["--daemon"], True),
    (["-D"], True),
    (["--nodaemon"], False),
    # A value as a word of its own.
    (["--daemon", "true"], True),
    (["--daemon", "True"], True),
    (["--daemon", "yes"], True),
    (["--daemon", "on"], True),
    (["--daemon", "1"], True),
    (["--daemon", "false"], False),
    (["--daemon", "False"], False),
    (["--daemon", "no"], False),
    (["--daemon", "off"], False),
    (["--daemon", "0"], False),
    (["-D", "true"], True),
    (["-D", "false"], False),
    # A value behind an equals sign.
    (["--daemon=true"], True),
    (["--daemon=FALSE"], False),
    (["--daemon=0"], False),
    (["-D=true"], True),
    (["-D=false"], False),
    # The last one wins.
    (["--daemon", "--nodaemon"], False),
    (["--nodaemon", "--daemon"], True),
    (["--daemon", "false", "-D"], True),
    (["-D", "--daemon=no"], False),
    # What follows may be another option.
    (["--daemon", "--wait", "0"], True),
    (["-D", "--image", "false"], True),
    (["--image", "true", "--daemon"], True),
]


@pytest.mark.parametrize(("words", "daemon"), DAEMON, ids=str)
def test_every_spelling_of_daemon(words: list[str], daemon: bool) -> None:
    assert config.load(words).daemon is daemon


WRONG = [
    ["--daemon", "maybe"],
    ["--daemon=maybe"],
    ["--daemon="],
    ["-D", "maybe"],
    ["--daemon", "true", "false"],
    ["--no-such-option"],
    ["--wait", "soon"],
    ["--wait", "-1"],
    ["--format", "xml"],
    ["positional"],
    ["--restore"],
    # What follows two dashes is no option, and scrubber takes nothing else.
    ["--", "--daemon"],
    ["--", "--config-file", "x"],
]


@pytest.mark.parametrize("words", WRONG, ids=" ".join)
def test_a_wrong_command_line_ends_with_2_and_says_why(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        config.load(words)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "error:" in said or "argument " in said


@pytest.mark.parametrize("word", ["--help", "--version", "-h"])
def test_help_and_version_end_with_0(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        config.load([word])
    assert not ended.value.code
    assert capsys.readouterr().out


FLAG_AND_FILE = [
    # what the file says, what the flag says; what counts
    ("true", [], True),
    ("false", [], False),
    ("true", ["--nodaemon"], False),
    ("true", ["--daemon", "false"], False),
    ("false", ["--daemon"], True),
    ("false", ["-D"], True),
]


@pytest.mark.parametrize(("in_file", "flag", "daemon"), FLAG_AND_FILE)
@pytest.mark.parametrize("joined", [True, False])
def test_a_flag_beats_the_file_whichever_comes_first(
    tmp_path: Path, in_file: str, flag: list[str], daemon: bool, joined: bool
) -> None:
    path = tmp_path / "scrubber.conf"
    path.write_text(f"[DEFAULT]\ndaemon = {in_file}\n")
    file = [f"--config-file={path}"] if joined else ["--config-file", str(path)]
    for words in itertools.permutations([flag, file]):
        assert config.load(list(itertools.chain(*words))).daemon is daemon


def test_of_several_files_the_last_one_counts(tmp_path: Path) -> None:
    words = ["--daemon"]
    for seconds in (1, 2):
        path = tmp_path / f"{seconds}.conf"
        path.write_text(f"[DEFAULT]\nscrub_time = {seconds}\n")
        words += ["--config-file", str(path)]
    assert config.load(words).scrub_time == 2


def test_a_directory_of_files_is_read_wherever_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.conf").write_text("[DEFAULT]\nscrub_time = 5\ndaemon = true\n")
    conf = config.load(["--nodaemon", "--config-dir", str(tmp_path)])
    assert conf.scrub_time == 5
    assert conf.daemon is False


def test_a_file_option_without_a_file_is_a_wrong_command_line() -> None:
    with pytest.raises(SystemExit) as ended:
        config.load(["--config-file"])
    assert ended.value.code == 2


REPEATED = [
    ("image", "cli_images"),
    ("store", "cli_stores"),
    ("owner", "cli_owners"),
    ("accept-missing", "cli_accept_missing"),
]


@pytest.mark.parametrize(("flag", "name"), REPEATED)
def test_options_that_narrow_a_run_may_be_repeated(flag: str, name: str) -> None:
    conf = config.load([f"--{flag}", "a", f"--{flag}=b"])
    assert conf[name] == ["a", "b"]
    assert config.load([])[name] == []


@pytest.mark.parametrize(
    ("words", "in_file", "expected"),
    [(["--daemon"], "", True), ([], "daemon = true", False), ([], "", False)],
)
def test_it_is_known_what_stands_on_the_command_line(
    tmp_path: Path, words: list[str], in_file: str, expected: bool
) -> None:
    path = tmp_path / "scrubber.conf"
    path.write_text(f"[DEFAULT]\n{in_file}\n")
    conf = config.load([*words, "--config-file", str(path)])
    assert config.on_command_line(conf, "daemon") is expected
