"""Definition 2: whether a model, asked for the neighbour of a seen class in one concept, draws it."""

import json

import numpy as np
import pytest
import synthetic

from cspace_jax.analysis import curves, definition2, report
from cspace_jax.analysis.summary import summarise
from cspace_jax.data import concepts

NAMES = ("joint_accuracy", "accuracy")


@pytest.mark.parametrize("active", [("color", "size"), ("color", "size", "bg_color")])
def test_every_seen_class_has_the_neighbour_that_differs_in_one_bit(active):
    classes = concepts.classes(active)
    bits, trained = np.asarray(classes.bits), np.asarray(classes.trained)
    for concept in range(len(active)):
        pairs = definition2.neighbours(bits, trained, concept)
        assert [seen for seen, _ in pairs] == np.flatnonzero(trained).tolist()
        for seen, asked in pairs:
            assert np.flatnonzero(bits[seen] != bits[asked]).tolist() == [concept]


def test_the_pairs_of_the_paper_and_a_class_without_neighbour():
    bits = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    trained = np.array([True, True, True, False])
    assert definition2.neighbours(bits, trained, 0) == [(0, 2), (1, 3), (2, 0)]
    assert definition2.neighbours(bits, trained, 1) == [(0, 1), (1, 0), (2, 3)]
    assert definition2.neighbours(bits[:3], trained[:3], 0) == [(0, 2), (2, 0)]


def test_numbers_of_naive_prompting_against_loops():
    ds = synthetic.dataset(diverged=(4,))
    found = definition2.summarise(ds)
    steps = ds["step"].values
    assert found["steps"] == steps.tolist() and len(found["levels"]) == 4
    asked_for = {"color": ["10", "11", "00"], "size": ["01", "00", "11"]}
    for number, level in enumerate(found["levels"]):
        runs = [run for run in range(3 * number, 3 * number + 3) if run != 4]
        for concept, classes in asked_for.items():
            block = level["concepts"][concept]
            assert [(pair["asked"], pair["held_out"]) for pair in block["pairs"]] == [(k, k == "11") for k in classes]
            assert block["protocols"] == {}
            for name, variable in zip(("class", "concept"), NAMES, strict=True):
                times, curves_ = [], []
                for run in runs:
                    one = ds[variable].sel(protocol="naive", klass=classes).isel(run=run)
                    one = one if name == "class" else one.sel(concept=concept)
                    values = one.transpose("klass", "step").values
                    weak = [min(values[:, t]) for t in range(len(steps))]  # the weakest seen class decides
                    times.append(curves.crossing_time(steps, np.array(weak), 0.8))
                    curves_.append(weak)
                np.testing.assert_allclose(block["naive"][name]["emergence"]["per_seed"], times)
                np.testing.assert_allclose(block["naive"][name]["mean"], np.mean(curves_, axis=0), atol=1e-6)
    weak, strong = (found["levels"][i]["concepts"]["color"]["naive"]["class"]["emergence"] for i in (0, 3))
    assert weak["fraction"] == 0 and strong["fraction"] == 1


def test_altering_one_concept_asks_less_than_drawing_the_class():
    """Size is altered from the start; colour of the neighbour never comes out right in the weakest level."""
    level = definition2.summarise(synthetic.dataset())["levels"][0]["concepts"]["size"]["naive"]
    assert level["concept"]["emergence"]["learned"] == 3 and level["class"]["emergence"]["learned"] == 0


@pytest.fixture(scope="module")
def asked():
    """Overprompting draws class 11 from the fifth save on; of the colour alone the second; naive prompting never."""
    ds = synthetic.dataset(levels=(0.2,), seeds=(0, 1))
    ds = ds.reindex(protocol=["naive", "overprompt"])
    shape = tuple(ds.sizes[name] for name in ("run", "step", "protocol", "klass", "concept"))
    split, single = np.full(shape[:-1], np.nan), np.full(shape, np.nan)
    split[:, :, :, 3], single[:, :, :, 3] = 0.1, 0.2
    split[:, 4:, 1, 3], single[:, 1:, 1, 3, 0] = 1.0, 1.0
    dims = ("run", "step", "protocol", "klass", "concept")
    return ds.assign(capability_split=(dims[:-1], split), capability_concept=(dims, single))


def test_protocols_are_compared_where_the_neighbour_is_held_out(asked):
    steps = asked["step"].values
    level = definition2.summarise(asked)["levels"][0]["concepts"]
    over = level["color"]["protocols"]["overprompt"]
    assert list(level["color"]["protocols"]) == ["naive", "overprompt"]
    expected = curves.crossing_time(steps, np.where(steps >= steps[4], 1, 0.1))
    assert over["class"]["emergence"]["per_seed"] == [expected] * 2
    assert steps[0] < over["concept"]["emergence"]["median"] <= steps[1]
    assert over["concept"]["mean"] == pytest.approx([0.2] + [1.0] * (len(steps) - 1))
    assert level["size"]["protocols"]["overprompt"]["concept"]["emergence"]["learned"] == 0
    assert level["color"]["protocols"]["naive"]["class"]["emergence"]["learned"] == 0
    assert np.isfinite(level["color"]["naive"]["class"]["mean"]).all()  # of all classes, also those asked naively alone


def test_a_broken_query_leaves_its_seed_out(asked):
    broken = asked.copy(deep=True)
    broken["capability_split"].values[0, 7, 1, 3] = np.nan
    over = definition2.summarise(broken)["levels"][0]["concepts"]["color"]["protocols"]["overprompt"]
    assert (over["class"]["emergence"]["seeds"], over["class"]["emergence"]["learned"]) == (1, 1)
    assert np.isfinite(over["class"]["mean"]).all() and over["concept"]["emergence"]["seeds"] == 2


def test_it_stands_in_the_summary(asked):
    block = json.loads(json.dumps(report.to_json(summarise(synthetic.dataset()))))["capability_of_concept"]
    assert list(block["levels"][0]["concepts"]) == ["color", "size"] and block["levels"][0]["label"] == "sep_col=0.1"
