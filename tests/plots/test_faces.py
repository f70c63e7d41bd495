"""Fig. 14: paths of faces, their turn, and the samples of one run."""

import numpy as np
import synthetic

from cspace_jax.analysis import curves
from cspace_jax.analysis.learning import trajectory
from cspace_jax.plots import faces


def test_fig14_draws_paths_their_turn_and_the_samples_of_one_run():
    ds = synthetic.dataset(levels=(0.2,), seeds=(0, 100))
    samples = synthetic.sample_images(ds, every=2)
    fig = faces.fig14(ds, samples, run=1)
    left, right = fig.axes[:2]
    mean = trajectory(ds, (0, 1), 3, "naive").mean(axis=0)
    path = curves.smooth(mean, 1.0)
    assert any(len(line.get_xdata()) == len(path) and np.allclose(line.get_xydata(), path) for line in right.lines)
    turn = curves.find_turn(ds["step"].values, path)
    stars = [line.get_xydata()[0] for line in right.lines if line.get_marker() == "*"]
    at = path[int(np.flatnonzero(ds["step"].values == turn.step)[0])]
    np.testing.assert_allclose(stars, [at])
    assert not [line for line in left.lines if line.get_marker() == "*"]
    shown = [ax.images[0].get_array() for ax in fig.axes if ax.images]
    last = samples[max(samples)][1, 3, 0].swapaxes(0, 1) / 255  # axis h of a sample is x
    assert len(shown) == 2 * min(10, len(samples)) and any(np.allclose(one, last) for one in shown)
