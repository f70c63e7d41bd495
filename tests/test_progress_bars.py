"""Progress in a log file: plain lines, rarely; in a terminal the bar of tqdm."""

import io
import sys

import pytest
from tqdm import std, tqdm

from cspace_jax import progress_bars


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that tests move; a list of one number of seconds."""
    now = [1000.0]
    monkeypatch.setattr(std, "time", lambda: now[0])
    return now


def shown(monkeypatch, stream, clock, seconds, steps=1200, **options):
    """What is written while every step takes some seconds; the loss is the number of the step."""
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_bars.bar(steps, "train", "step", **options) as bar:
        for step in range(steps):
            clock[0] += seconds
            bar.update()
            bar.set_postfix_str(f"loss {step + 1}", refresh=False)
    return stream.getvalue()


def test_a_log_file_gets_a_line_after_some_seconds_then_one_a_minute_and_the_last(monkeypatch, clock):
    text = shown(monkeypatch, io.StringIO(), clock, seconds=0.5)
    assert "\r" not in text and text.endswith("\n")
    lines = text.splitlines()
    done = [int(line.partition("/")[0].split()[-1]) for line in lines]
    assert done == [10, *range(130, 1200, 120), 1200]  # 5 s, then every 60 s
    assert lines[1].startswith("train:  11% 130/1200 [01:05<08:5") and "2.00step/s, loss 129]" in lines[1]
    assert lines[-1] == "train: 100% 1200/1200 [10:00<00:00,  2.00step/s, loss 1200]"


def test_what_is_quickly_done_gives_one_line(monkeypatch, clock):
    text = shown(monkeypatch, io.StringIO(), clock, seconds=0.03125, steps=96)
    assert text == "train: 100% 96/96 [00:03<00:00, 32.00step/s, loss 96]\n"


def test_what_is_interrupted_says_how_far_it_came(monkeypatch, clock):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with pytest.raises(KeyboardInterrupt), progress_bars.bar(10, "train", "step", initial=4) as bar:
        clock[0] += 2
        bar.update(2)
        raise KeyboardInterrupt
    assert sys.stderr.getvalue() == "train:  60% 6/10 [00:02<00:04,  1.00step/s]\n"


def test_other_words_on_the_way_leave_no_carriage_return(monkeypatch, clock):
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    monkeypatch.setattr(sys, "stdout", out)
    with progress_bars.bar(10, "train", "step") as bar:
        bar.write("run 3 diverged")
        bar.update(10)
    lines = out.getvalue().splitlines()
    assert "\r" not in out.getvalue() and "run 3 diverged" in lines and lines[-1].startswith("train: 100% 10/10")


def test_a_terminal_gets_the_bar_of_tqdm(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_bars.bar(3, "train", "step") as bar:
        assert type(bar) is tqdm
        bar.update(3)
    assert "\r" in stream.getvalue()


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_silent_progress_writes_nothing(stream, monkeypatch, clock):
    assert shown(monkeypatch, stream(), clock, seconds=10, steps=30, silent=True) == ""
