"""Stacks become a flame graph without losing a sample."""

from bench.flame import boxes, busiest, folded, tree

RAW = [
    "main (scrubber/cli.py:10);run (scrubber/run.py:20) 60",
    "main (scrubber/cli.py:11);run (scrubber/run.py:25);read (scrubber/sql.py:5) 38",
    "main (scrubber/cli.py:11);rare (scrubber/names.py:5);rarer (scrubber/names.py:7) 2",
]


def test_lines_of_a_function_are_one() -> None:
    stacks = folded(RAW[:2])
    assert stacks == {
        ("main (scrubber/cli.py)", "run (scrubber/run.py)"): 60,
        ("main (scrubber/cli.py)", "run (scrubber/run.py)", "read (scrubber/sql.py)"): 38,
    }


def test_what_is_rare_is_counted_where_it_was_called() -> None:
    stacks = folded(RAW, least=0.05)
    assert sum(stacks.values()) == 100
    assert stacks[("main (scrubber/cli.py)",)] == 2


def test_threads_that_wait_and_the_machinery_of_imports_are_left_out() -> None:
    stacks = folded(
        [
            "tworker (eventlet/tpool.py:1);Condition.wait (threading.py:295) 500",
            "main (scrubber/cli.py:1);load (<frozen importlib._bootstrap>:1);<module> (x.py:1) 3",
        ]
    )
    assert stacks == {("main (scrubber/cli.py)", "<module> (x.py)"): 3}


def test_boxes_lie_above_who_called_them_and_side_by_side() -> None:
    drawn = {box.name: box for box in boxes(tree(folded(RAW)), 100)}
    assert drawn["all"].width == 1
    run, rare = drawn["run (scrubber/run.py)"], drawn["rare (scrubber/names.py)"]
    assert (run.depth, rare.depth) == (2, 2)
    assert {run.width, rare.width} == {0.98, 0.02}
    assert run.left + run.width <= rare.left or rare.left + rare.width <= run.left


def test_shares_are_of_all_samples() -> None:
    lines = list(busiest(folded(RAW)))
    assert "  98.0%   60.0%  run (scrubber/run.py)" in lines
