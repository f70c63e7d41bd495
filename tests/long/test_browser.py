"""The page in a real browser: it opens from disk without a request, and its controls show the dataset's numbers."""

import csv
import io
import re

import numpy as np
import pytest
import synthetic
import xarray as xr
from PIL import Image

from cspace_jax.analysis import summary
from cspace_jax.analysis.report import to_json
from cspace_jax.explorer import page, sprites

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.system


def rendered(ds, samples=None):
    found = to_json(summary.summarise(ds))
    return page.render(page.Inputs(ds, found, "When?", {"a": 1}, {}, {}, samples or {}))


@pytest.fixture(scope="module")
def ds():
    return synthetic.dataset(levels=(0.2, 0.8), seeds=(0, 100), steps=(500, 2000, 5000, 9000))


@pytest.fixture(scope="module")
def samples(ds):
    return synthetic.sample_images(ds, every=1)


@pytest.fixture(scope="module")
def text(ds, samples):
    return rendered(ds, samples)


def drawn(tab, place="space"):
    """Return what Plotly has drawn: a list of traces with their points."""
    return tab.evaluate(
        """id => document.getElementById(id).data.map(one => ({
        meta: one.meta, x: Array.from(one.x), y: Array.from(one.y), z: one.z ? Array.from(one.z) : null,
        at: one.customdata, type: one.type}))""",
        place,
    )


# The pixels that the browser takes from the sheet for the first sample of the fourth class.
PAINTED = """async () => {
    const style = getComputedStyle(document.querySelectorAll('#run-table .samples')[3].children[0]);
    const sheet = new Image();
    sheet.src = style.backgroundImage.slice(5, -2);
    await sheet.decode();
    const [wide, tall] = style.backgroundSize.split(' ').map(parseFloat);
    const [left, top] = style.backgroundPosition.split(' ').map(one => -parseFloat(one));
    const draw = new OffscreenCanvas(sheet.width, sheet.height).getContext('2d');
    draw.drawImage(sheet, 0, 0);
    const [across, down] = [sheet.width / wide, sheet.height / tall];
    const side = Math.round((parseFloat(style.width) - 2) * across);
    return Array.from(draw.getImageData(Math.round(left * across), Math.round(top * down), side, side).data);
}"""


def set_step(tab, position):
    tab.locator("#step").evaluate(
        "(slider, at) => { slider.value = at; slider.dispatchEvent(new Event('input')) }", position
    )


def test_the_slider_moves_every_run_to_the_values_of_the_dataset(opened, text, ds):
    tab = opened(text)
    prob = ds["prob"].sel(protocol="naive").transpose("run", "step", "klass", "concept").values
    for position in (0, 2):
        set_step(tab, position)
        now = [trace for trace in drawn(tab) if trace["meta"]["now"]]
        assert [trace["meta"]["level"] for trace in now] == [0, 1]  # the unseen class alone, a trace a level
        for trace in now:
            for x, y, (run, step, klass) in zip(trace["x"], trace["y"], trace["at"], strict=True):
                assert (step, klass) == (position, 3)
                np.testing.assert_allclose([x, y], prob[run, position, 3], atol=1e-6)
        assert tab.locator("#step-words").inner_text() == f"{ds['step'].values[position]:,} of 9,000"
    assert (
        "2,000" not in tab.locator("#space-words").inner_text() and "5,000" in tab.locator("#space-words").inner_text()
    )


def test_play_goes_to_the_last_save(opened, text):
    tab = opened(text)
    set_step(tab, 0)
    tab.locator("#play").click()
    sync_api.expect(tab.locator("#step-words")).to_have_text("9,000 of 9,000", timeout=20_000)
    assert tab.locator("#play").inner_text() == "play"


def test_the_legend_filters_levels_seeds_and_classes(opened, text):
    tab = opened(text)
    tab.locator("#levels button").first.click()
    assert {trace["meta"]["level"] for trace in drawn(tab)} == {1}
    tab.locator("#seeds button").nth(1).press("Enter")  # by keyboard
    assert {at[0] for trace in drawn(tab) for at in trace["at"] if at} == {2}
    tab.locator("#classes button").first.click()
    assert {trace["meta"]["klass"] for trace in drawn(tab)} == {0, 3}
    assert "1 of 4 runs shown" in tab.locator("#space-words").inner_text()
    tab.locator("#levels button").first.click()
    assert {at[0] for trace in drawn(tab) for at in trace["at"] if at} == {0, 2}


def test_a_click_shows_the_samples_of_that_run_and_step(opened, text, samples):
    tab = opened(text)
    set_step(tab, 3)
    target = next(trace for trace in drawn(tab) if trace["meta"]["now"] and trace["meta"]["level"] == 1)
    run = target["at"][1][0]
    place = tab.evaluate(
        """([x, y]) => { const g = document.getElementById('space'), a = g._fullLayout, box = g.getBoundingClientRect();
        return [box.left + a.xaxis._offset + a.xaxis.d2p(x), box.top + a.yaxis._offset + a.yaxis.d2p(y)] }""",
        [target["x"][1], target["y"][1]],
    )
    tab.mouse.move(place[0], place[1])
    tab.wait_for_timeout(200)
    hovered = tab.locator("#space .hoverlayer").text_content()
    assert "step 9,000" in hovered and "P(blue)" in hovered
    tab.mouse.click(place[0], place[1])
    words = tab.locator("#run-words").inner_text()
    chosen = int(tab.locator("#run").input_value())
    assert f"run {chosen} " in words and "step 9,000" in words and chosen in (run, target["at"][0][0])
    shown = tab.locator("#run-table .samples").nth(3)
    assert shown.get_attribute("aria-label") == "2 samples of class 11 (blue, small) at step 9000"
    # The colour in the middle of the first sample, as the browser paints it, is that of the stored image.
    pixels = np.array(tab.evaluate(PAINTED)).reshape(16, 16, 4)
    np.testing.assert_array_equal(pixels[..., :3], np.flip(samples[9000][chosen, 3, 0].swapaxes(0, 1), 0))


def test_protocols_answer_beside_the_samples(opened):
    ds, _ = synthetic.elicited()
    tab = opened(rendered(ds))
    tab.locator("#run").select_option("2")
    set_step(tab, 1)
    cells = tab.locator("#answers tbody tr").all_inner_texts()
    expected = ds["capability_split"].isel(run=2, step=1, klass=3).values
    assert [cell.split("\t")[1] for cell in cells] == [f"{value:.2f}" for value in expected]
    assert cells[0].startswith("naive prompting") and len(cells) == 3


def test_tabs_by_keyboard_and_downloads(opened, text, ds):
    tab = opened(text)
    tab.locator("#tab-curves").focus()
    tab.keyboard.press("ArrowRight")
    assert tab.locator("#panel-speeds").is_visible() and not tab.locator("#panel-curves").is_visible()
    assert tab.evaluate("document.activeElement.id") == "tab-speeds"
    for kind in ("svg", "png", "csv"):
        with tab.expect_download() as download:
            tab.locator(f"#panel-speeds [data-download={kind}]").click()
        assert download.value.suggested_filename == f"signal_speeds.{kind}"
        content = download.value.path().read_bytes()
        starts = {"svg": b"<svg", "png": b"\x89PNG", "csv": b"level,klass,concept"}
        assert content.startswith(starts[kind])
    with tab.expect_download() as download:
        tab.locator("section [data-download=csv][data-of=space]").click()
    rows = list(csv.DictReader(io.StringIO(download.value.path().read_text())))
    assert len(rows) == 4 * 4 and rows[0]["class"] == "11"
    expected = ds["prob"].sel(protocol="naive", klass="11", concept="color").isel(run=0, step=0)
    assert float(rows[0]["P(blue)"]) == pytest.approx(float(expected), abs=1e-6)


def test_the_dark_page_is_legible(opened, text):
    tab = opened(text)
    light = tab.evaluate("document.getElementById('space')._fullLayout.font.color")
    tab.locator("#theme").click()
    dark = tab.evaluate("document.getElementById('space')._fullLayout.font.color")
    assert (light, dark) == ("#222222", "#e6e6e6")
    paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == "rgb(21, 24, 28)"


def test_three_concepts_turn_in_a_box(opened):
    made = synthetic.dataset(
        levels=(0.2, 0.8), seeds=(0,), active=("color", "size", "bg_color"), steps=(500, 2000, 9000)
    )
    tab = opened(rendered(made))
    traces = [trace for trace in drawn(tab) if trace["meta"]["now"]]
    assert {trace["type"] for trace in traces} == {"scatter3d"} and len(traces) == 2 * 4  # four unseen classes
    prob = made["prob"].sel(protocol="naive").transpose("run", "step", "klass", "concept").values
    (run, step, klass), trace = traces[0]["at"][0], traces[0]
    np.testing.assert_allclose([trace["x"][0], trace["y"][0], trace["z"][0]], prob[run, step, klass], atol=1e-6)
    tab.locator("#axis-z").select_option("-1")
    tab.locator("#axis-y").select_option("2")
    flat = [trace for trace in drawn(tab) if trace["meta"]["now"]][0]
    assert flat["type"] == "scatter"
    np.testing.assert_allclose([flat["x"][0], flat["y"][0]], prob[run, step, klass][[0, 2]], atol=1e-6)


@pytest.mark.parametrize("kind", ["nan", "all nan", "one seed", "masks"])
def test_odd_studies_open(opened, kind):
    made = {
        "nan": lambda: synthetic.dataset(levels=(0.2,), seeds=(0, 1, 2), diverged=(0,)),
        "all nan": lambda: synthetic.dataset(levels=(0.2,), seeds=(0, 1), diverged=(0, 1)),
        "one seed": lambda: synthetic.dataset(levels=(0.2,), seeds=(0,)),
        "masks": synthetic.masked_groups,
    }[kind]()
    assert isinstance(made, xr.Dataset)
    tab = opened(rendered(made))
    alive = int(np.isfinite(made["prob"].isel(protocol=0)).all(("step", "klass", "concept")).sum())
    assert f"{alive} of {made.sizes['run']} runs shown" in tab.locator("#space-words").inner_text()
    for one in tab.locator("[role=tab]").all():
        one.click()
        tab.locator(f"#chart-{one.get_attribute('id')[4:]} .main-svg").first.wait_for()
    if kind == "nan":
        assert tab.locator("#run").input_value() == "1"  # the first run that lives
        assert "diverged" in tab.locator("#run option").first.inner_text()


def test_it_prints_all_charts_in_light_with_everything_open_and_puts_it_back(opened, text):
    tab = opened(text)
    tab.locator("#theme").click()
    tab.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert all(tab.locator(f"#panel-{name}").is_visible() for name in ("curves", "speeds", "losses"))
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    for place in ("space", "chart-curves", "chart-losses"):
        assert tab.evaluate(f"document.getElementById('{place}')._fullLayout.font.color") == "#222222"
    assert tab.locator("details").count() == tab.locator("details[open]").count() > 3
    tab.emulate_media(media="print")
    assert tab.locator("#levels").is_visible() and tab.locator("#run-note").evaluate("one => one.checkVisibility()")
    assert not tab.locator("#play").is_visible()
    tab.emulate_media(media="screen")
    tab.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert (
        tab.evaluate("document.documentElement.dataset.theme") == "dark" and tab.locator("details[open]").count() == 0
    )
    assert [tab.locator(f"#panel-{name}").is_visible() for name in ("curves", "losses")] == [True, False]
    assert tab.pdf()[:5] == b"%PDF-"


LEFT = """() => { const place = document.getElementById('chart-curves'), layout = place._fullLayout;
    const axes = Object.keys(layout).filter(key => /^xaxis\\d*$/.test(key)).map(key => layout[key]);
    return {ranges: axes.map(one => Array.from(one.range)), free: axes.map(one => one.autorange),
            visible: place.data.map(one => one.visible ?? true)} }"""


def test_zoom_and_switched_curves_outlive_the_theme_and_a_print(opened, text):
    tab = opened(text)
    panel = tab.locator("#chart-curves .nsewdrag[data-subplot=xy]")
    panel.scroll_into_view_if_needed()
    box = panel.bounding_box()
    middle = box["y"] + box["height"] / 2
    tab.mouse.move(box["x"] + 0.3 * box["width"], middle)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 0.7 * box["width"], middle, steps=8)
    tab.mouse.up()
    tab.wait_for_timeout(500)
    tab.locator("#chart-curves .legendtoggle").first.press("Enter")
    tab.wait_for_timeout(300)
    left = tab.evaluate(LEFT)
    assert not left["free"][0] and np.ptp(left["ranges"][0]) < 6000 and set(left["visible"]) == {True, "legendonly"}
    switch = "document.getElementById('theme').click()"
    for act in (switch, *(f"window.dispatchEvent(new Event('{name}print'))" for name in ("before", "after"))):
        tab.evaluate(act)
        tab.wait_for_timeout(300)
        assert tab.evaluate(LEFT) == left
    assert tab.evaluate("document.getElementById('chart-curves')._fullLayout.font.color") == "#e6e6e6"  # drawn anew


def downloaded(tab, selector):
    with tab.expect_download() as download:
        tab.locator(selector).click()
    return download.value.path()


def test_what_is_downloaded_from_the_dark_page_is_light_and_shows_what_is_seen(opened, text):
    tab = opened(text)
    tab.locator("#theme").click()
    tab.evaluate("Plotly.relayout('chart-curves', {'xaxis.range': [0, 4321]})")
    for of in ("space", "curves"):
        found = downloaded(tab, f"[data-download=svg][data-of={of}]").read_text()
        assert "fill: rgb(34, 34, 34)" in found and "fill: rgb(230, 230, 230)" not in found
        assert re.search(
            r'<svg[^>]*style="[^"]*background: rgb\(255, 255, 255\)|<rect[^>]*fill: rgb\(255, 255, 255\)', found
        )
    assert (found.count(">8000<"), found.count(">4000<")) == (3, 4)  # the first of four columns as zoomed
    assert tab.evaluate("document.documentElement.dataset.theme") == "dark"
    image = np.asarray(Image.open(downloaded(tab, "[data-download=png][data-of=curves]")).convert("RGBA"))
    assert (image[[0, 0, -1, -1], [0, -1, 0, -1]] == 255).all()


def test_the_table_of_the_live_view_holds_what_was_measured_also_where_smoothed_paths_are_shown(opened, text, ds):
    tab = opened(text)
    tab.locator("#smooth").check()
    rows = list(csv.DictReader(io.StringIO(downloaded(tab, "[data-download=csv][data-of=space]").read_text())))
    expected = ds["prob"].sel(protocol="naive", klass="11", concept="color").values.ravel()
    np.testing.assert_allclose([float(row["P(blue)"]) for row in rows], expected, atol=1e-6)


def test_a_click_on_a_mean_shows_the_run_that_is_nearest_to_it(opened):
    made = synthetic.dataset(levels=(0.2,), seeds=(0, 1, 2), steps=(500, 2000, 9000))
    for run, value in enumerate((0.9, 0.1, 0.4)):  # of a mean of .47
        made["prob"][{"run": run, "step": 1}] = value
    tab = opened(rendered(made))
    tab.locator("#average").select_option("mean")
    tab.evaluate("document.getElementById('space').emit('plotly_click', {points: [{customdata: [0, 1, 3]}]})")
    words = tab.locator("#run-words").inner_text()
    assert words == "run 2 (seed 2, the one setting), one of 3, nearest to their mean at step 2,000, at step 2,000"
    tab.locator("#run").select_option("1")
    assert tab.locator("#run-words").inner_text() == "run 1 (seed 1, the one setting) at step 2,000"


def test_levels_of_one_colour_differ_in_their_line(opened):
    weak, strong = (synthetic.dataset(levels=(0.2, 0.8), seeds=(0,), steps=(500, 9000)) for _ in range(2))
    made = xr.concat([weak, strong.assign_coords(mask=("run", [0.5, 0.5]))], "run", join="override")
    made = made.assign_coords(run=range(4))
    tab = opened(rendered(made))
    drawn = "document.getElementById('space').data.filter(one => !one.meta.now)"
    looks = tab.evaluate(f"() => {drawn}.map(one => [one.line.color, one.line.dash])")
    assert len(looks) == 4 and len({tuple(one) for one in looks}) == 4 and len({dash for _, dash in looks}) == 2
    assert "(dash)" in tab.locator("#levels").inner_text()


def test_the_box_turns_by_arrow_keys(opened):
    made = synthetic.dataset(levels=(0.2,), seeds=(0,), active=("color", "size", "bg_color"), steps=(500, 9000))
    tab = opened(rendered(made))
    eye = "document.getElementById('space')._fullLayout.scene._scene.getCamera().eye"
    before = tab.evaluate(eye)
    tab.locator("#space").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowUp"):
        tab.keyboard.press(key)
        tab.wait_for_timeout(100)
    after = tab.evaluate(eye)
    turned = np.arctan2(after["y"], after["x"]) - np.arctan2(before["y"], before["x"])
    assert np.degrees(turned) == pytest.approx(20, abs=0.1) and after["z"] > before["z"]
    set_step(tab, 0)  # another save leaves it as it is turned
    assert tab.evaluate(eye)["z"] == pytest.approx(after["z"], abs=1e-6)


def test_a_legend_is_used_by_keyboard(opened, text):
    tab = opened(text)
    entry = tab.locator("#chart-curves .legendtoggle").first
    assert entry.get_attribute("aria-label") == "sep_col=0.2" and entry.get_attribute("aria-pressed") == "true"
    drawn = "document.getElementById('chart-curves').data.filter(one => one.visible !== 'legendonly')"
    shown = f"() => {drawn}.map(one => one.legendgroup)"
    entry.focus()
    for key, left in (("Enter", {"sep_col=0.8"}), (" ", {"sep_col=0.2", "sep_col=0.8"})):
        tab.keyboard.press(key)
        tab.wait_for_timeout(300)
        assert set(tab.evaluate(shown)) == left
        assert tab.evaluate("document.activeElement.getAttribute('aria-label')") == "sep_col=0.2"
        assert tab.evaluate("document.activeElement.getAttribute('aria-pressed')") == str(len(left) == 2).lower()


def test_a_sheet_that_is_wrapped_shows_the_same_pictures(opened, monkeypatch):
    made = synthetic.dataset(levels=(0.2,), seeds=(0,), steps=tuple(range(500, 6500, 500)))
    images = synthetic.sample_images(made, every=1, number=1)
    monkeypatch.setattr(sprites, "SIDE", 16 * 8)  # 4 classes at 12 saves
    assert sprites.sheets(images)["across"] == 8
    tab = opened(rendered(made, images))
    for position in (2, 10):
        set_step(tab, position)
        pixels = np.array(tab.evaluate(PAINTED)).reshape(16, 16, 4)
        expected = images[int(made["step"][position])][0, 3, 0]
        np.testing.assert_array_equal(pixels[..., :3], np.flip(expected.swapaxes(0, 1), 0))


def test_pictures_too_large_for_a_page_are_not_called_missing(opened, ds, samples, monkeypatch):
    monkeypatch.setattr(sprites, "AREA", 16)
    assert opened(rendered(ds, samples)).locator("#run-note").inner_text() == sprites.TOO_LARGE
    assert opened(rendered(ds)).locator("#run-note").inner_text() == "No sample images are stored."


def test_paths_of_many_points_keep_the_marks_of_their_classes(opened, text):
    tab = opened(text.replace("ALL_POINTS = 4000", "ALL_POINTS = 5").replace("SPARSE = 200", "SPARSE = 2"))
    while (off := tab.locator("#classes button[aria-pressed=false]")).count():
        off.first.click()
    marked = """() => [...document.querySelectorAll('#space .scatterlayer .trace')].map(trace =>
        trace.querySelectorAll('.points path.point').length)"""
    paths = tab.evaluate(
        "document.getElementById('space').data.filter(one => !one.meta.now).map(one => one.marker.symbol)"
    )
    assert len(paths) == 2 * 4 and len(set(paths)) == 4  # a trace a level and class
    assert all(0 < count <= 3 for count in tab.evaluate(marked)[:8])  # of ten points


def test_the_box_keeps_the_marks_of_classes_on_paths_of_many_points(opened):
    made = synthetic.dataset(levels=(0.2,), seeds=(0, 1), active=("color", "size", "bg_color"), steps=(500, 9000))
    tab = opened(rendered(made).replace("ALL_POINTS = 4000", "ALL_POINTS = 5").replace("SPARSE = 200", "SPARSE = 2"))
    path = tab.evaluate("document.getElementById('space').data.find(one => !one.meta.now)")
    assert path["mode"] == "lines+markers" and path["marker"]["size"] == [2, 0, 0, 2, 0, 0]
