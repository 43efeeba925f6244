"""A figure knows whether it still draws the book's data."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.patches import Rectangle

from reference.book.manifest import Planned, read_manifest
from reference.plotting import _figures, show_figure
from reference.plotting._drawn import SAME, compare_drawn, drawn_data
from reference.plotting.ch00 import draw_map
from reference.plotting.ch10 import label_ends


@pytest.fixture
def shown(monkeypatch, tmp_path):
    """Draw y as a line, bars and an image; return what the figure says of itself."""
    monkeypatch.setattr(_figures, "FIGURES", tmp_path)
    said = []
    monkeypatch.setattr(_figures, "display", lambda bundle, raw, metadata: said.append(bundle | {"size": metadata}))

    def draw(y, *, write=False, label="time (steps)", **keywords):
        monkeypatch.setenv("BOOK_WRITE", "1" if write else "0")
        fig, axes = plt.subplots(1, 3, figsize=(6.4, 4.8))
        axes[0].plot(y)
        axes[1].bar(np.arange(len(y)), y)
        axes[2].imshow(np.outer(y, y))
        axes[0].set(xlabel=label)
        show_figure(fig, "99_test", alt='A "rising" line & bars.', **keywords)
        return said[-1]

    return draw


def test_the_same_data_are_recognised_and_the_files_written(shown, tmp_path):
    shown(np.arange(1.0, 5.0), write=True)
    assert (tmp_path / "99_test.svg").exists()
    assert json.loads((tmp_path / "data" / "99_test.json").read_text())["axes 0 line 0"]["size"] == 4
    assert shown(np.arange(1.0, 5.0) * (1 + 1e-6))["text/plain"].startswith(
        "Figure 99_test: the same data as in the book\n"
    )


@pytest.mark.parametrize("change", [lambda y: y * 1.01, lambda y: y[:-1], lambda y: np.r_[y[:2], 9.0, y[3:]]])
def test_changed_data_are_noticed_and_not_written(shown, change, tmp_path):
    shown(np.arange(1.0, 5.0), write=True)
    before = (tmp_path / "data" / "99_test.json").read_text()
    assert "same data" not in shown(change(np.arange(1.0, 5.0)))["text/plain"]
    assert (tmp_path / "data" / "99_test.json").read_text() == before


def test_a_looser_tolerance_is_stated_with_the_verdict(shown):
    shown(np.arange(1.0, 5.0), write=True)
    said = shown(np.array([1.0, 2.0, 3.0, 4.1]), tolerance=0.1)["text/plain"]
    assert said.startswith("Figure 99_test: the same data as in the book (within 10 % of their range)\n")
    assert "same data" not in shown(np.array([1.0, 2.0, 3.0, 4.4]), tolerance=0.1)["text/plain"]


def test_a_changed_label_is_noticed(shown):
    shown(np.arange(1.0, 5.0), write=True)
    said = shown(np.arange(1.0, 5.0), label="other")["text/plain"]
    assert "differs from the book's: axes 0 has the x label 'other', not 'time (steps)'" in said


def test_timings_are_not_compared_but_their_number_is(shown):
    shown(np.arange(1.0, 5.0), write=True, timing=True)
    assert "same data" in shown(np.arange(1.0, 5.0) * 7, timing=True)["text/plain"]
    assert "same data" not in shown(np.arange(1.0, 9.0), timing=True)["text/plain"]


def test_nan_or_infinite_data_are_not_equal_to_finite_ones(shown):
    shown(np.arange(1.0, 5.0), write=True)
    assert "same data" not in shown(np.array([1.0, np.nan, 3.0, 4.0]))["text/plain"]


def test_the_picture_carries_its_alternative_text(shown, tmp_path):
    bundle = shown(np.arange(1.0, 5.0), write=True)
    assert bundle["text/plain"].endswith('\nA "rising" line & bars.')
    assert 'aria-label="A &quot;rising&quot; line &amp; bars."' in (tmp_path / "99_test.svg").read_text()


def test_the_picture_is_shown_in_a_form_that_jupyter_shows_in_notebooks_it_did_not_run(shown):
    assert shown(np.arange(1.0, 5.0)).keys() == {"image/png", "text/plain", "size"}


def test_the_size_in_the_notebook_is_whole_numbers_as_editors_save_it(shown):
    size = shown(np.arange(1.0, 5.0))["size"]["image/png"]
    assert size == {"width": 640, "height": 480} and {type(n) for n in size.values()} == {int}


def test_a_figure_without_alternative_text_is_refused():
    with pytest.raises(ValueError, match="alt"):
        show_figure(plt.figure(), "99_test", alt=" ")


def draw(plot) -> dict:
    """What a figure of one panel draws after plot(its axes)."""
    fig, ax = plt.subplots()
    plot(ax)
    drawn = drawn_data(fig)
    plt.close(fig)
    return json.loads(json.dumps(drawn))


def said_of(plot, book) -> str:
    return compare_drawn(draw(plot), draw(book), 1e-3)


STEPS, LOSS = np.array([8.0, 64.0, 512.0]), np.array([0.9, 0.8, 0.7])


def test_y_is_judged_by_its_own_range_where_x_is_large():
    said = said_of(lambda ax: ax.plot(STEPS, LOSS + 0.01), lambda ax: ax.plot(STEPS, LOSS))
    assert said == "differs from the book's: y of axes 0 line 0 is off by 5 % of its range"


def test_a_low_value_counts_on_a_log_axis():
    book, new = np.array([1e-6, 1e-3, 1.0]), np.array([2e-6, 1e-3, 1.0])
    assert said_of(lambda ax: ax.plot(STEPS, new), lambda ax: ax.plot(STEPS, book)) == SAME
    assert "y of axes 0 line 0 is off by 5 %" in said_of(
        lambda ax: ax.semilogy(STEPS, new), lambda ax: ax.semilogy(STEPS, book)
    )


@pytest.mark.parametrize("book", [[0.5, 0.5, 0.5], [0.0, 0.0, 0.0], [0.5], [1e3, 1e3, 1e3]])
def test_a_flat_line_is_judged_by_its_panel(book):
    book = np.array(book)

    def beside_another(y):
        return lambda ax: (ax.plot(y), ax.plot(book[0] + np.linspace(-1, 1, 3)))

    assert said_of(beside_another(book + 1e-12), beside_another(book)) == SAME
    assert "y of axes 0 line 0" in said_of(beside_another(book - 0.01), beside_another(book))


def test_rounding_noise_in_place_of_zeros_is_the_same():
    noise = np.random.default_rng(0).normal(size=(2, 40)) * 1e-16
    assert said_of(lambda ax: ax.plot(noise[0]), lambda ax: ax.plot(noise[1])) == SAME


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_where_it_is(odd):
    one, other = np.array([0.0, odd, 1.0, 2.0]), np.array([0.0, 1.0, odd, 2.0])
    assert said_of(lambda ax: ax.plot(one), lambda ax: ax.plot(one)) == SAME
    assert "y of axes 0 line 0 is not finite" in said_of(lambda ax: ax.plot(one), lambda ax: ax.plot(other))


def test_above_all_is_not_below_all():
    high, low = [0.0, np.inf, 1.0], [0.0, -np.inf, 1.0]
    assert "y of axes 0 line 0 is not finite" in said_of(lambda ax: ax.plot(high), lambda ax: ax.plot(low))


def test_a_hidden_point_is_not_the_value_behind_it():
    hidden = np.ma.masked_greater(LOSS, 0.85)
    assert "y of axes 0 line 0 is not finite" in said_of(
        lambda ax: ax.plot(STEPS, hidden), lambda ax: ax.plot(STEPS, LOSS)
    )


def test_one_changed_value_among_thousands_is_noticed():
    book = np.sin(np.arange(5000) / 300)
    new = book.copy()
    new[2718] += 1
    assert "y of axes 0 line 0" in said_of(lambda ax: ax.plot(new), lambda ax: ax.plot(book))


CHANGES = {
    "a bar's height": (
        lambda ax: ax.bar([0, 1, 2], [9.0, 9.1, 9.2]),
        lambda ax: ax.bar([0, 1, 2], [9.0, 9.1, 9.1]),
        "top",
    ),
    "a bar's width": (lambda ax: ax.barh([0, 1], [1, 2]), lambda ax: ax.barh([0, 1], [1, 2], left=[0, 0.1]), "left"),
    "a bar's name": (lambda ax: ax.bar(["a", "b"], [1, 2]), lambda ax: ax.bar(["a", "c"], [1, 2]), "x ticks"),
    "an error bar": (
        lambda ax: ax.errorbar(STEPS, LOSS, 0.1),
        lambda ax: ax.errorbar(STEPS, LOSS, 0.11),
        "collection 0",
    ),
    "a band": (
        lambda ax: ax.fill_between(STEPS, LOSS, 1),
        lambda ax: ax.fill_between(STEPS, LOSS, [1, 1, 1.01]),
        "y of axes 0 collection 0",
    ),
    "steps": (lambda ax: ax.step(STEPS, LOSS), lambda ax: ax.plot(STEPS, LOSS), "look"),
    "points' colors": (
        lambda ax: ax.scatter(STEPS, LOSS, c=[0, 1, 2]),
        lambda ax: ax.scatter(STEPS, LOSS, c=[0, 1.1, 2]),
        "color of axes 0 collection 0",
    ),
    "points": (
        lambda ax: ax.scatter(STEPS, LOSS),
        lambda ax: ax.scatter(STEPS, LOSS + np.array([0, 0.01, 0])),
        "y of axes 0 collection 0",
    ),
    "a pixel": (
        lambda ax: ax.imshow(np.eye(3)),
        lambda ax: ax.imshow(np.eye(3) + 0.01 * np.eye(3)[::-1], vmin=0, vmax=1),
        "color of axes 0 image 0",
    ),
    "a hidden pixel": (
        lambda ax: ax.imshow(np.ma.masked_equal(np.eye(3), 1), vmin=0, vmax=1),
        lambda ax: ax.imshow(np.eye(3), vmin=0, vmax=1),
        "color of axes 0 image 0",
    ),
    "a hidden point": (
        lambda ax: ax.scatter(STEPS, np.ma.masked_less(LOSS, 0.75)),
        lambda ax: ax.scatter(STEPS, LOSS),
        "y of axes 0 collection 0",
    ),
    "the color map's ends": (
        lambda ax: ax.imshow(np.eye(3), vmax=1),
        lambda ax: ax.imshow(np.eye(3), vmax=2),
        "color limits of axes 0 image 0",
    ),
    "a line's color": (lambda ax: ax.plot(LOSS, "r"), lambda ax: ax.plot(LOSS, "g"), "look '#ff0000ff"),
    "a legend": (
        lambda ax: (ax.plot(LOSS), ax.plot(LOSS + 1), ax.legend(["a", "b"])),
        lambda ax: (ax.plot(LOSS), ax.plot(LOSS + 1), ax.legend(["b", "a"])),
        "'a', not 'b'",
    ),
    "limits": (lambda ax: ax.set(xlim=(0, 1)), lambda ax: ax.set(xlim=(1, 0)), "x of axes 0"),
    "a scale": (lambda ax: ax.loglog(STEPS, LOSS), lambda ax: ax.semilogx(STEPS, LOSS), "scales 'log log'"),
    "a place": (
        lambda ax: ax.annotate("here", (0.5, 0.5), xytext=(3, 3), textcoords="offset points"),
        lambda ax: ax.annotate("here", (0.5, 0.6), xytext=(3, 3), textcoords="offset points"),
        "y of axes 0 texts",
    ),
    "a limit line": (lambda ax: ax.axhline(0.5), lambda ax: ax.axhline(0.52), "y of axes 0 line 0"),
    "a tile": (
        lambda ax: ax.add_patch(Rectangle((0, 0), 1, 1)),
        lambda ax: ax.add_patch(Rectangle((0, 0), 1, 0.9)),
        "top of axes 0 boxes",
    ),
    "a panel": (lambda ax: ax.figure.add_axes((0, 0, 1, 1)), lambda ax: None, "with axes 1"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_named_whatever_draws_it(what):
    new, book, named = CHANGES[what]
    assert said_of(book, book) == SAME and said_of(new, new) == SAME
    assert named in said_of(new, book)


def test_names_at_the_ends_of_lines_keep_their_distance_and_order():
    fig, ax = plt.subplots()
    ends = {"low": 0.02, "top": 1.0, "also top": 0.99, "third": 0.98, "middle": 0.5}
    for name, y in ends.items():
        ax.plot([0, 1], [0.5, y], label=name)
    ax.plot([0, 1], [0.3, 0.3])
    ax.set(ylim=(0, 1))
    label_ends(ax, {"low": "the lowest"}, apart=0.1)
    places = {text.get_text(): text.get_position()[1] for text in ax.texts}
    plt.close(fig)
    assert set(places) == set(ends) - {"low"} | {"the lowest"}
    heights = sorted(places.values())
    assert min(np.diff(heights)) > 0.0999 and heights[-1] <= 1.02
    assert places["the lowest"] == pytest.approx(0.02) and places["middle"] == pytest.approx(0.5)
    assert places["third"] < places["also top"] < places["top"]


@pytest.mark.parametrize("more", [0, 1, 2])
def test_every_box_of_the_map_lies_within_it(more):
    book = read_manifest()
    planned = [Planned(90 + n, "To come", "Which?") for n in range(more)]
    fig = draw_map(book._replace(planned=planned))
    [ax] = fig.axes
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    boxes = [patch.get_extents().transformed(ax.transData.inverted()) for patch in ax.patches]
    boxes = boxes[: len(book.chapters) + more]
    assert len(boxes) == len(book.chapters) + more
    assert all(left <= box.x0 and box.x1 <= right and low <= box.y0 and box.y1 <= high for box in boxes)
    plt.close(fig)
