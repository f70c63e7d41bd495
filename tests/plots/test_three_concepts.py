"""Fig. 15: its lines are the dataset's numbers, its boxes the signals', its marks what was learned."""

import numpy as np
import pytest
import synthetic

from cspace_jax.analysis import curves, unseen_classes
from cspace_jax.analysis.learning import trajectory
from cspace_jax.analysis.levels import levels
from cspace_jax.plots import three_concepts


@pytest.fixture(scope="module")
def ds():
    return synthetic.dataset(levels=(0.2, 0.8), seeds=(0, 100), active=("color", "size", "bg_color"))


@pytest.fixture(scope="module")
def panels(ds):
    return three_concepts.fig15(ds).axes


def test_boxes_are_those_of_the_weakest_and_the_strongest_level(ds, panels):
    assert [ax.get_title() for ax in panels] == ["sep_col=0.2", "sep_col=0.8", "unseen classes; open = never"]
    for ax, level in zip(panels, levels(ds), strict=False):
        edges = np.maximum(np.array(level.normalised), 0.15)
        drawn = np.array(ax.get_box_aspect() if ax.get_box_aspect() is not None else ax._box_aspect)
        np.testing.assert_allclose(drawn / drawn[0], edges / edges[0], rtol=1e-6)


def test_paths_are_the_smoothed_means_over_seeds_with_their_shadows_on_the_walls(ds, panels):
    level = levels(ds)[1]
    paths = [np.stack(line.get_data_3d(), -1) for line in panels[1].lines if len(line.get_data_3d()[0]) > 2]
    for klass in range(8):
        mean = trajectory(ds, level.runs, klass, "naive").mean(axis=0)
        path = curves.smooth(mean, 1.0 if ds.sizes["concept"] > 2 else 2.0)
        assert any(one.shape == path.shape and np.allclose(one, path) for one in paths), klass
    unseen = int((~ds["trained"].values).sum())
    flat = [one for one in paths if np.isclose(one, one[0]).all(axis=0).any()]
    assert len(flat) >= 3 * unseen  # three walls each


def test_marks_are_learned_steps_against_distances_and_open_where_never(ds, panels):
    expected = []
    steps = ds["step"].values
    for level in levels(ds):
        for klass in np.flatnonzero(~ds["trained"].values):
            for run in level.runs:
                at = unseen_classes.converged_step(ds, run, "naive")
                if np.isfinite(at):
                    far = unseen_classes.distances(ds, run, int(klass), "naive")[np.argmax(steps >= at)]
                    expected.append((far, unseen_classes.learned_step(ds, run, int(klass), "naive")))
    assert len(expected) > 4 and np.isfinite([step for _, step in expected]).any()
    marks = [line for line in panels[2].lines if len(line.get_xdata()) == 1]
    drawn = [
        (line.get_xdata()[0], np.inf if line.get_markerfacecolor() == "none" else line.get_ydata()[0]) for line in marks
    ]
    np.testing.assert_allclose(sorted(drawn), sorted(expected))


def test_one_level_is_one_box_and_no_convergence_is_said():
    one = synthetic.dataset(levels=(0.8,), seeds=(0,), active=("color", "size", "bg_color"))
    one["prob"] = one["prob"].clip(0.2, 0.8)
    one["accuracy"] = one["accuracy"].clip(0.1, 0.9)
    axes = three_concepts.fig15(one).axes
    assert len(axes) == 2 and "training classes" in axes[1].texts[0].get_text()
