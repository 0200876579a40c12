import pytest

from genre_spark.cli.strips import clock, mean_probabilities, stretches, strip
from genre_spark.models.timeline import Moment


def moments(*shares_of_a: float, length_s: float = 10, hop_s: float = 10) -> list[Moment]:
    return [
        Moment(number * hop_s, number * hop_s + length_s, {"A": share, "B": 1 - share})
        for number, share in enumerate(shares_of_a)
    ]


def test_neighbours_with_the_same_genre_are_one_stretch() -> None:
    first, second, third = stretches(moments(0.9, 0.7, 0.2, 0.6))
    assert (first.start_s, first.end_s, first.genre) == (0, 20, "A")
    assert first.probabilities == pytest.approx({"A": 0.8, "B": 0.2})
    assert (second.start_s, second.end_s, second.genre) == (20, 30, "B")
    assert (third.start_s, third.end_s, third.genre) == (30, 40, "A")


def test_where_windows_overlap_each_has_its_half() -> None:
    first, second = stretches(moments(0.9, 0.1, 0.2, length_s=30))
    assert (first.start_s, first.end_s, second.start_s, second.end_s) == (0, 20, 20, 50)


def test_where_no_genre_is_sure_a_stretch_has_none() -> None:
    assert [each.genre for each in stretches(moments(0.9, 0.6, 0.45, 0.1), sure_from=0.8)] == ["A", None, "B"]


def test_a_restless_song_is_told_in_as_many_lines_as_are_wanted() -> None:
    restless = moments(*[0.9, 0.2] * 50, *[0.1, 0.4] * 50)
    calm = stretches(restless, most=20)
    assert [(each.start_s, each.end_s, each.genre) for each in calm] == [(0, 1000, "A"), (1000, 2000, "B")]
    assert calm[0].probabilities["A"] == pytest.approx(0.55)
    # Moments that are sure of different genres don't make one that isn't sure.
    assert [each.genre for each in stretches(restless, most=20, sure_from=0.8)] == ["A", "B"]
    # Two moments in five are a minority.
    assert {each.genre for each in stretches(moments(*[0.9, 0.4, 0.45, 0.9, 0.4] * 9), most=9)} == {"B"}
    assert len(stretches(restless, most=1_000)) == 100


def test_the_mean_is_one_of_all_moments() -> None:
    assert mean_probabilities(moments(0.9, 0.3)) == pytest.approx({"A": 0.6, "B": 0.4})


def test_a_strip_is_as_high_as_the_probability_and_as_long_as_the_line() -> None:
    assert strip(moments(0, 0.25, 0.5, 1), "A", 4) == " ▂▄█"
    assert strip(moments(0, 0.25, 0.5, 1), "A", 8) == "  ▂▂▄▄██"
    # More moments than characters: means of neighbours.
    assert strip(moments(*[0.0] * 10, *[0.5, 1] * 5), "A", 2) == " ▆"
    # The edge between windows that overlap lies in the middle: 20 s of 50.
    assert strip(moments(1, 0, 0, length_s=30), "A", 5) == "██   "
    assert strip(moments(1), "A", 3) == "███"


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (187, "3:07"), (3_779, "1:02:59")])
def test_times_are_written_as_a_player_does(seconds: float, text: str) -> None:
    assert clock(seconds) == text
