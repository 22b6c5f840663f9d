"""Progress where nobody watches: lines, not bars."""

import io

from rich.console import Console

from commands import terminal
from commands.terminal import Lines, progress_bars


class Clock:
    """Seconds, as they are set."""

    now = 100.0

    def __call__(self):
        return self.now


def told(steps, interval=10.0):
    """Lines of steps: (seconds that passed, stage, done, total)."""
    lines, clock = [], Clock()
    progress = Lines(lines.append, interval, clock)
    for seconds, *step in steps:
        clock.now += seconds
        progress(*step)
    return lines


def test_a_line_at_most_every_interval_says_how_long_the_rest_takes():
    assert told([(2, "attribution", done, 40) for done in range(1, 16)]) == [
        "attribution: 5/40 after 10 s, about 70 s left",
        "attribution: 10/40 after 20 s, about 60 s left",
        "attribution: 15/40 after 30 s, about 50 s left",
    ]


def test_what_is_over_sooner_is_not_worth_a_line():
    assert told([(1, "responses", done, 5) for done in range(1, 6)]) == []


def test_a_stage_that_took_longer_has_a_line_at_its_end():
    assert told([(11, "a", 1, 2), (3, "a", 2, 2)]) == ["a: 1/2 after 11 s, about 11 s left", "a: 2/2 after 14 s"]


def test_time_is_that_of_the_stage_alone():
    """Also of a stage that comes again: the second round's attribution is not that of the first."""
    steps = [(6, "a", 1, 2), (6, "a", 2, 2), (8, "b", 1, 10), (12, "b", 2, 10), (20, "b", 1, 3)]
    assert told(steps) == [
        "a: 2/2 after 12 s",
        "b: 2/10 after 20 s, about 96 s left",
        "b: 1/3 after 20 s, about 40 s left",
    ]


def test_long_times_are_in_minutes():
    assert told([(150, "a", 1, 3)]) == ["a: 1/3 after 2 min 30 s, about 5 min 00 s left"]
    assert told([(119.6, "a", 1, 1)]) == ["a: 1/1 after 2 min 00 s"]


def test_a_file_gets_lines_and_no_control_characters(monkeypatch):
    file = io.StringIO()
    monkeypatch.setattr(terminal, "err", Console(file=file, highlight=False, markup=False, width=20))
    with progress_bars() as progress:
        assert isinstance(progress, Lines)
        progress._interval = 0.0
        progress("a stage with a long name", 1, 2)
    assert file.getvalue().startswith("a stage with a long name: 1/2 after 0 s, about 0 s left\n")
    assert "\x1b" not in file.getvalue()


def test_nothing_is_shown_to_processes_but_the_first(monkeypatch):
    file = io.StringIO()
    monkeypatch.setattr(terminal, "err", Console(file=file))
    with progress_bars(shown=False) as progress:
        progress("a", 1, 1)
    assert file.getvalue() == ""


def test_an_alarm_is_red_where_there_are_colours(monkeypatch):
    for forced in (True, False):
        file = io.StringIO()
        console = Console(file=file, force_terminal=forced, color_system="standard" if forced else "auto")
        monkeypatch.setattr(terminal, "err", console)
        terminal.print_error("harm")
        assert file.getvalue() == ("\x1b[1;31mharm\x1b[0m\n" if forced else "harm\n")
