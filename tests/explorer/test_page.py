"""What a page holds, read without a browser."""

import re

import numpy as np
import synthetic
from pages import data_of, rendered, summarised

from cspace_jax.explorer import overview, page, space


def test_levels_that_three_digits_do_not_tell_apart_keep_their_own_signal():
    made = synthetic.dataset(levels=(0.2001, 0.2002, 0.8), seeds=(0, 1))
    found = page.CHARTS["speeds"].draw(made, summarised(made))
    labels = ["sep_col=0.2001", "sep_col=0.2002", "sep_col=0.8"]
    of_color = found.numbers[found.numbers["concept"] == "color"].drop_duplicates("level")
    assert of_color["level"].tolist() == labels
    np.testing.assert_allclose(of_color["signal"], np.array([0.2001, 0.2002, 0.8]) ** 2 / 8)
    assert [one["label"] for one in space.payload(made)["levels"]] == labels
    assert [row["level"] for row in overview.learning_times(made, summarised(made))["rows"]][::2] == labels


def test_the_page_asks_no_server_and_no_name_ends_its_script(ds):
    evil = "</script><script>alert(1)</script>"
    text = rendered(ds, question=evil, config={"study": evil}, env={"command_line": evil})
    own = text.replace(page.plotly.offline.get_plotlyjs(), "")
    assert evil not in own and "alert(1)" in own
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", own) and "@import" not in own
    assert "default-src 'none'" in own
    named = rendered(ds.assign_attrs(study=evil)).replace(page.plotly.offline.get_plotlyjs(), "")
    assert evil not in named and data_of(named)["study"] == evil


def test_all_runs_diverged_is_a_page_without_charts():
    text = rendered(synthetic.dataset(levels=(0.2,), seeds=(0, 1), diverged=(0, 1)))
    assert "every run diverged" in text and data_of(text)["charts"] == {}
