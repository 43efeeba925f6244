"""A figure knows whether it still draws the book's data."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pytest

from reference.plotting import _figures, show_figure


@pytest.fixture
def shown(monkeypatch, tmp_path):
    """Draw y as a line, bars and an image; return what the figure says of itself."""
    monkeypatch.setattr(_figures, "FIGURES", tmp_path)
    said = []
    monkeypatch.setattr(_figures, "display", lambda bundle, raw, metadata: said.append(bundle))

    def draw(y, *, write=False, label="time (steps)", **keywords):
        monkeypatch.setenv("BOOK_WRITE", "1" if write else "0")
        fig, axes = plt.subplots(1, 3)
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
    assert json.loads((tmp_path / "data" / "99_test.json").read_text())["axes 0 line 0"]["size"] == 8
    assert shown(np.arange(1.0, 5.0) * (1 + 1e-6))["text/plain"].startswith(
        "Figure 99_test: the same data as in the book\n"
    )


@pytest.mark.parametrize("change", [lambda y: y * 1.01, lambda y: y[:-1], lambda y: np.r_[y[:2], 9.0, y[3:]]])
def test_changed_data_are_noticed_and_not_written(shown, change, tmp_path):
    shown(np.arange(1.0, 5.0), write=True)
    before = (tmp_path / "data" / "99_test.json").read_text()
    assert "same data" not in shown(change(np.arange(1.0, 5.0)))["text/plain"]
    assert (tmp_path / "data" / "99_test.json").read_text() == before


def test_a_changed_label_is_noticed(shown):
    shown(np.arange(1.0, 5.0), write=True)
    assert "words differs" in shown(np.arange(1.0, 5.0), label="other")["text/plain"]


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
    assert shown(np.arange(1.0, 5.0)).keys() == {"image/png", "text/plain"}


def test_a_figure_without_alternative_text_is_refused():
    with pytest.raises(ValueError, match="alt"):
        show_figure(plt.figure(), "99_test", alt=" ")
