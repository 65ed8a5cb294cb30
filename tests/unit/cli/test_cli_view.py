import io

from rich.console import Console

from cli.reading import Picture, StageProgress
from cli.run.view import Bars, Lines, size


def picture(done: int, *, failed: int = 0, note: str = "") -> Picture:
    stages = {"download": StageProgress(done=done, total=12, failed=failed, final=True)}
    return Picture(stages=stages, bytes_per_second=1_000_000.0, note=note)


def test_plain_lines_say_what_changed_and_not_more_often_than_useful() -> None:
    output, now = io.StringIO(), [0.0]
    with Lines(Console(file=output, width=200), clock=lambda: now[0]) as view:
        view.show(picture(1))
        view.show(picture(2))
        view.show(picture(3))
        now[0] = 5.0
        view.show(picture(12, failed=1))
        view.show(picture(12, failed=1))
    assert output.getvalue().splitlines() == [
        "download songs 1/12",
        "download songs 12/12 (1 failed)",
    ]


def test_the_last_state_is_said_even_when_it_came_fast() -> None:
    output = io.StringIO()
    with Lines(Console(file=output, width=200), clock=lambda: 0.0) as view:
        view.show(picture(1))
        view.show(picture(12))
    assert output.getvalue().splitlines()[-1].startswith("download songs 12/12")


def test_names_from_outside_cannot_style_the_display() -> None:
    output = io.StringIO()
    console = Console(file=output, width=200, force_terminal=True, color_system=None)
    with Bars(console) as view:
        view.show(picture(3, note="resolving [bold]x[/bold]"))
        view.say("[red]not red[/red]")
    assert "[red]not red[/red]" in output.getvalue()
    assert "[bold]x[/bold]" in output.getvalue()


def test_sizes_in_words() -> None:
    assert [size(number) for number in (0, 999, 1_500, 123_000_000, 2.5e12)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "123 MB",
        "2.5 TB",
    ]
