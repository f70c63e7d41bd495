"use strict";
// The page of a study: a live view of concept space, the samples of a run, charts in tabs, downloads, two themes.
// All numbers come from the JSON in the page; Plotly draws all figures.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const ALL_POINTS = 4000; // points of a path that are drawn one by one, and can be clicked
  const SPARSE = 200; // marks of a class on a path with more points
  const TURN = Math.PI / 18; // of the box, for an arrow key
  const MANY_RUNS = 64; // from here on the mean of each level is shown first

  // ---- numbers ---------------------------------------------------------------------------------------------------
  const unpack = ({shape, f32}) => {
    const bytes = Uint8Array.from(atob(f32), (c) => c.charCodeAt(0));
    const values = new Float32Array(bytes.buffer);
    const strides = shape.map((_, i) => shape.slice(i + 1).reduce((a, b) => a * b, 1));
    return (...at) => values[at.reduce((sum, one, i) => sum + one * strides[i], 0)];
  };
  const prob = unpack(data.prob), smooth = unpack(data.smooth), joint = unpack(data.joint), answers = unpack(data.answers);
  const steps = data.steps, runs = data.runs, classes = data.classes, concepts = data.concepts;
  const byLevel = data.levels.length > 1; // an only level's colour would say nothing
  const byDash = data.levels.some((level) => level.dash !== "solid"); // levels of one colour differ in their line alone
  const seeds = [...new Set(runs.map((run) => run.seed))].sort((a, b) => a - b);
  const show = (value, digits = 2) => (Number.isFinite(value) ? value.toFixed(digits) : "–");
  const thousands = (value) => value.toLocaleString("en-US");
  const runWords = (r) => `run ${r} (seed ${runs[r].seed}, ${data.levels[runs[r].level].label})`;

  // ---- what is shown ---------------------------------------------------------------------------------------------
  const state = {
    step: steps.length - 1, run: Math.max(0, runs.findIndex((run) => !run.diverged)), x: 0, y: Math.min(1, concepts.length - 1),
    z: concepts.length > 2 ? 2 : -1, mean: runs.length > MANY_RUNS, smooth: false, timer: 0, of: "", eye: {x: 1.25, y: 1.25, z: 1.25},
    levels: new Set(data.levels.keys()), seeds: new Set(seeds),
    classes: new Set([...classes.keys()].filter((k) => !classes[k].trained)),
  };
  if (state.classes.size === 0) state.classes = new Set(classes.keys());
  const visible = (r) => !runs[r].diverged && state.levels.has(runs[r].level) && state.seeds.has(runs[r].seed);
  const read = (r, t, k, c) => (state.smooth ? smooth : prob)(r, t, k, c);

  // ---- colours and themes ----------------------------------------------------------------------------------------
  const isDark = () => document.documentElement.dataset.theme === "dark";
  const tint = (color) => (isDark() && data.dark[String(color).toLowerCase()]) || color;
  const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const recolor = (part) => {
    if (Array.isArray(part) || part === null || typeof part !== "object" || ArrayBuffer.isView(part)) return part;
    return Object.fromEntries(Object.entries(part).map(([key, value]) =>
      [key, typeof value === "string" && key.toLowerCase().endsWith("color") ? tint(value) : recolor(value)]));
  };
  const themed = (layout) => {
    const axis = {gridcolor: variable("--grid"), zerolinecolor: variable("--grid"), linecolor: variable("--rule"), tickcolor: variable("--rule")};
    const result = {...layout, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: {...(layout.font || {}), color: variable("--ink")},
      hoverlabel: {bgcolor: variable("--soft"), font: {color: variable("--ink")}}};
    for (const key of Object.keys(layout)) if (/^[xy]axis\d*$/.test(key)) result[key] = {...layout[key], ...axis};
    return result;
  };
  const CONFIG = {responsive: true, displaylogo: false, modeBarButtonsToRemove: ["sendDataToCloud", "toImage", "lasso2d", "select2d"]};

  // ---- the live view ---------------------------------------------------------------------------------------------
  // A path is a run, or the mean of a level's visible runs: {level, runs, name}.
  const paths = () => {
    const shown = [...runs.keys()].filter(visible);
    if (!state.mean) return shown.map((r) => ({level: runs[r].level, runs: [r], name: runWords(r)}));
    return [...state.levels].sort((a, b) => a - b).map((level) => ({level, runs: shown.filter((r) => runs[r].level === level)}))
      .filter((path) => path.runs.length).map((path) => ({...path, name: `${data.levels[path.level].label}, mean of ${path.runs.length} runs`}));
  };
  const coordinate = (path, t, k, c) => path.runs.reduce((sum, r) => sum + read(r, t, k, c), 0) / path.runs.length;
  const hover = (path, t, k) => `${path.name}<br>class ${classes[k].label}, step ${thousands(steps[t])}<br>` +
    concepts.map((concept, c) => `${concept.axis} ${show(coordinate(path, t, k, c), 3)}`).join(", ");

  const sizes = (count, size) => { // in a box, where `maxdisplayed` is unknown
    const every = count > ALL_POINTS ? Math.ceil(count / SPARSE) : 1;
    return every === 1 ? size : Array.from({length: count}, (_, i) => (i % every ? 0 : size));
  };
  const trace = (level, k, points, marks) => {
    const solid = state.z >= 0;
    const axes = solid ? ["x", "y", "z"] : ["x", "y"];
    const places = {x: state.x, y: state.y, z: state.z};
    const found = {text: [], customdata: []};
    for (const axis of axes) found[axis] = [];
    for (const [path, t] of points) {
      if (path === null) { // a gap between paths
        for (const axis of axes) found[axis].push(null);
        found.text.push(""); found.customdata.push(null);
        continue;
      }
      for (const axis of axes) found[axis].push(coordinate(path, t, k, places[axis]));
      found.text.push(hover(path, t, k)); found.customdata.push([path.runs[0], t, k]);
    }
    const color = tint(byLevel ? data.levels[level].color : classes[k].color);
    return {...found, type: solid ? "scatter3d" : "scatter", showlegend: false, hovertemplate: "%{text}<extra></extra>",
      name: `${data.levels[level].label}, class ${classes[k].code}`, meta: {level, klass: k, now: marks},
      mode: marks ? "markers" : "lines+markers", opacity: marks ? 1 : 0.55, connectgaps: false,
      line: {color, width: solid ? 3 : 1.3, dash: byDash ? data.levels[level].dash : classes[k].trained ? "dot" : "solid"},
      marker: {color, symbol: classes[k].symbol, size: marks ? (solid ? 6 : 12) : solid ? sizes(points.length, 2) : 4,
        ...(solid || marks ? {} : {maxdisplayed: points.length > ALL_POINTS ? SPARSE : 0}), line: {color: variable("--ink"), width: marks ? 1.2 : 0}}};
  };
  const traces = () => {
    const result = [], all = paths();
    for (const marks of [false, true]) for (const level of [...state.levels].sort((a, b) => a - b)) for (const k of [...state.classes].sort()) {
      const own = all.filter((path) => path.level === level);
      const points = own.flatMap((path) => marks ? [[path, state.step]] : [...Array(state.step + 1).keys()].map((t) => [path, t]).concat([[null, 0]]));
      if (own.length) result.push(trace(level, k, points, marks));
    }
    return result;
  };
  const corners = () => classes.map((one) => ({x: one.bits[state.x], y: one.bits[state.y], z: state.z < 0 ? 0 : one.bits[state.z], text: one.label,
    showarrow: false, font: {color: variable("--muted"), size: 11}, xshift: 0, yshift: one.bits[state.y] ? 14 : -14}));
  const spaceLayout = () => {
    const axis = (c) => ({title: {text: concepts[c].axis}, range: [-0.12, 1.12], fixedrange: false, zeroline: false, tickvals: [0, 0.25, 0.5, 0.75, 1]});
    const common = {margin: {l: 60, r: 20, t: 20, b: 50}, hovermode: "closest", uirevision: `${state.x}${state.y}${state.z}`, template: "none"};
    if (state.z >= 0) {
      const dark = {color: variable("--ink"), gridcolor: variable("--grid"), backgroundcolor: "rgba(0,0,0,0)"};
      return themed({...common, margin: {l: 0, r: 0, t: 0, b: 0}, scene: {xaxis: {...axis(state.x), ...dark}, yaxis: {...axis(state.y), ...dark},
        zaxis: {...axis(state.z), ...dark}, annotations: corners(), aspectmode: "cube", camera: {eye: state.eye}}});
    }
    return themed({...common, xaxis: {...axis(state.x), constrain: "domain"}, yaxis: {...axis(state.y), scaleanchor: "x", constrain: "domain"}, annotations: corners().map(({z, ...rest}) => rest)});
  };
  const words = () => {
    const shown = [...runs.keys()].filter(visible);
    const means = [...state.classes].sort().map((k) => `class ${classes[k].label}: ` + concepts.map((concept, c) =>
      `${concept.axis} ${show(shown.reduce((sum, r) => sum + read(r, state.step, k, c), 0) / shown.length)}`).join(", "));
    return `Step ${thousands(steps[state.step])} of ${thousands(steps[steps.length - 1])}: ${shown.length} of ${runs.length} runs shown. Mean over them: ${means.join("; ")}.`;
  };
  const draw = () => {
    const text = words();
    byId("step").value = state.step;
    byId("step").setAttribute("aria-valuetext", `step ${thousands(steps[state.step])}`);
    byId("step-words").textContent = `${thousands(steps[state.step])} of ${thousands(steps[steps.length - 1])}`;
    byId("space-words").textContent = text;
    byId("space").setAttribute("aria-label", `Trajectories in concept space. ${text}${state.z < 0 ? "" : " Arrow keys turn the box."}`);
    byId("turn-hint").hidden = state.z < 0;
    drawRun();
    return Plotly.react("space", traces(), spaceLayout(), CONFIG);
  };

  // ---- one run ---------------------------------------------------------------------------------------------------
  const node = (name, text = "", attributes = {}) => {
    const made = Object.assign(document.createElement(name), {textContent: text});
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const row = (parts) => { const made = node("tr"); made.append(...parts); return made; };
  const samples = (k) => {
    const {sheets, shown, number, across, width, height} = data.images;
    const column = shown.indexOf(state.step), lines = Math.ceil(classes.length * number * shown.length / across), size = Math.max(32, Math.min(64, Math.round(48 / width) * width));
    const tall = size * height / width;
    const cell = node("td", "", {colspan: concepts.length + 2});
    if (column < 0) { cell.textContent = "not kept in this page"; return cell; }
    const box = node("div", "", {class: "samples", role: "img", "aria-label": `${number} samples of class ${classes[k].label} at step ${steps[state.step]}`});
    for (let n = 0; n < number; n++) {
      const one = node("span"), cell = (k * number + n) * shown.length + column;
      one.style.cssText = `width:${size + 2}px;height:${tall + 2}px;background-size:${across * size}px ${lines * tall}px;` +
        `background-position:${-(cell % across) * size}px ${-Math.floor(cell / across) * tall}px;background-image:url(${sheets[state.run]})`;
      box.append(one);
    }
    cell.append(box);
    return cell;
  };
  const drawRun = () => {
    const r = state.run, t = state.step, pictures = Boolean(data.images.sheets);
    byId("run").value = r;
    byId("run-words").textContent = `${runWords(r)}${state.of} at step ${thousands(steps[t])}` + (runs[r].diverged ? ": diverged" : "");
    const heads = ["class", ...concepts.map((concept) => concept.axis), "accuracy, all concepts"];
    byId("run-table").tHead.replaceChildren(row(heads.map((text) => node("th", text, {scope: "col"}))));
    byId("run-table").tBodies[0].replaceChildren(...classes.map((one, k) => [row([node("th", one.label + (one.trained ? "" : ", unseen"), {scope: "row"}),
      ...concepts.map((_, c) => node("td", show(prob(r, t, k, c)), {class: "number"})), node("td", show(joint(r, t, k)), {class: "number"})]),
      ...(pictures ? [row([samples(k)])] : [])]).flat());
    byId("run-note").textContent = !pictures ? data.images.why || "No sample images are stored." :
      data.images.number < data.images.of || data.images.shown.length < steps.length ? `To keep the page small it holds ${data.images.number} of ${data.images.of} stored samples a class, at ${data.images.shown.length} of ${steps.length} saves.` : "";
    byId("answers").hidden = data.protocols.length === 0;
    const held = [...classes.keys()].filter((k) => !classes[k].trained);
    byId("answers").tHead.replaceChildren(row([node("th", "protocol", {scope: "col"}), ...held.map((k) => node("th", classes[k].label, {scope: "col"}))]));
    byId("answers").tBodies[0].replaceChildren(...data.protocols.map((protocol, p) => row([node("th", protocol.title, {scope: "row"}),
      ...held.map((k) => node("td", show(answers(r, t, p, k)), {class: "number"}))])));
  };

  // ---- controls --------------------------------------------------------------------------------------------------
  const options = (select, entries, chosen) => {
    select.replaceChildren(...entries.map(([value, text]) => new Option(text, value)));
    select.value = chosen;
  };
  const chips = (id, entries, chosen) => byId(id).replaceChildren(...entries.map(([value, text, color]) => {
    const chip = node("button", "", {type: "button", class: "chip", "aria-pressed": chosen.has(value), "data-value": value});
    if (color) { const dot = node("i"); dot.style.background = tint(color); chip.append(dot); }
    chip.append(text);
    chip.addEventListener("click", () => {
      if (!chosen.delete(value)) chosen.add(value);
      chip.setAttribute("aria-pressed", chosen.has(value));
      draw();
    });
    return chip;
  }));
  const drawChips = () => {
    chips("levels", data.levels.map((level, i) => [i, level.label + (byDash ? ` (${level.dash})` : ""), byLevel && level.color]), state.levels);
    chips("seeds", seeds.map((seed) => [seed, String(seed)]), state.seeds);
    chips("classes", classes.map((one, k) => [k, `${one.label}${one.trained ? "" : ", unseen"} (${one.symbol})`, !byLevel && one.color]), state.classes);
  };
  const stop = () => { clearInterval(state.timer); state.timer = 0; byId("play").textContent = "play"; byId("play").setAttribute("aria-pressed", false); };
  const play = () => {
    if (state.timer) return stop();
    if (state.step === steps.length - 1) state.step = 0;
    byId("play").textContent = "pause"; byId("play").setAttribute("aria-pressed", true);
    state.timer = setInterval(() => { state.step += 1; draw(); if (state.step >= steps.length - 1) stop(); }, Math.max(80, Math.min(400, 8000 / steps.length)));
    draw();
  };
  const setUp = () => {
    const axes = concepts.map((concept, c) => [c, concept.axis]);
    options(byId("axis-x"), axes, state.x); options(byId("axis-y"), axes, state.y);
    options(byId("axis-z"), [[-1, "none"], ...axes], state.z);
    byId("axis-z-label").hidden = concepts.length < 3;
    options(byId("run"), [...runs.keys()].map((r) => [r, runWords(r) + (runs[r].diverged ? ", diverged" : "")]), state.run);
    byId("average").value = state.mean ? "mean" : "runs";
    byId("step").max = steps.length - 1;
    for (const axis of ["x", "y", "z"]) byId(`axis-${axis}`).addEventListener("change", (event) => { state[axis] = Number(event.target.value); draw(); });
    byId("run").addEventListener("change", (event) => { state.run = Number(event.target.value); state.of = ""; drawRun(); });
    byId("average").addEventListener("change", (event) => { state.mean = event.target.value === "mean"; draw(); });
    byId("smooth").addEventListener("change", (event) => { state.smooth = event.target.checked; draw(); });
    byId("step").addEventListener("input", (event) => { stop(); state.step = Number(event.target.value); draw(); });
    byId("play").addEventListener("click", play);
    byId("space").addEventListener("keydown", turn);
    drawChips();
  };
  const turn = (event) => {
    const [around, up] = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1]}[event.key] || [0, 0];
    if (state.z < 0 || (!around && !up)) return;
    event.preventDefault();
    const {x, y, z} = byId("space").layout.scene.camera?.eye || state.eye; // the mouse may have turned it
    const far = Math.hypot(x, y, z), angle = Math.atan2(y, x) + around * TURN;
    const height = Math.max(-1.5, Math.min(1.5, Math.asin(z / far) + up * TURN));
    state.eye = {x: far * Math.cos(height) * Math.cos(angle), y: far * Math.cos(height) * Math.sin(angle), z: far * Math.sin(height)};
    Plotly.relayout("space", {"scene.camera.eye": state.eye});
  };
  const choose = (event) => {
    const at = event.points[0].customdata;
    if (!at) return;
    stop();
    [state.run, state.step, state.of] = [at[0], at[1], ""];
    const path = paths().find((one) => one.runs.includes(at[0]));
    if (path && path.runs.length > 1) { // a mean: show the run that is nearest to it there
      const far = (r) => Math.hypot(...concepts.map((_, c) => read(r, at[1], at[2], c) - coordinate(path, at[1], at[2], c)));
      state.run = path.runs.reduce((best, r) => (far(r) < far(best) ? r : best));
      state.of = `, one of ${path.runs.length}, nearest to their mean at step ${thousands(steps[at[1]])},`;
    }
    draw();
  };

  // ---- charts in tabs --------------------------------------------------------------------------------------------
  const drawn = new Set();
  const chartFigure = (name) => {
    const {data: own, layout} = data.charts[name].figure;
    return [own.map(recolor), themed(recolor(layout))];
  };
  const asLeft = (place, own, layout) => { // a figure with the zoom, the turn and the switched curves of what is shown
    if (!place.data) return [own, layout];
    const kept = {...layout};
    for (const key of Object.keys(layout)) {
      const {range, autorange} = place._fullLayout[key] || {}; // one that the reader never touched stays automatic
      if (/^[xy]axis\d*$/.test(key) && range) kept[key] = {...layout[key], range: [...range], autorange};
      if (key === "scene") kept.scene = {...layout.scene, camera: place.layout.scene?.camera || layout.scene.camera};
    }
    return [own.map((one, i) => ({...one, visible: place.data[i].visible ?? true})), kept];
  };
  const drawChart = (name) => {
    if (drawn.has(name)) return Promise.resolve();
    drawn.add(name);
    const place = byId(`chart-${name}`), first = !place.data;
    const done = Plotly.react(place, ...asLeft(place, ...chartFigure(name)), CONFIG);
    if (first) { legendByKeyboard(place); place.on("plotly_afterplot", () => legendByKeyboard(place)); }
    return done;
  };
  // Each entry of a legend is a button too: Enter and the space bar switch its curves off and on, as a click does.
  const legendByKeyboard = (place) => place.querySelectorAll(".legendtoggle").forEach((entry, i) => {
    const name = entry.parentNode.querySelector(".legendtext").dataset.unformatted;
    const own = [...place.data.keys()].filter((t) => (place.data[t].legendgroup || place.data[t].name) === name);
    const shown = own.some((t) => (place.data[t].visible ?? true) === true);
    for (const [key, value] of Object.entries({tabindex: 0, role: "button", "aria-label": name, "aria-pressed": shown})) entry.setAttribute(key, value);
    entry.onkeydown = (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      Plotly.restyle(place, {visible: shown ? "legendonly" : true}, own).then(() => place.querySelectorAll(".legendtoggle")[i].focus());
    };
  });
  const tabs = [...document.querySelectorAll("[role=tab]")];
  const nameOf = (tab) => tab.id.slice("tab-".length);
  const select = (tab, focus) => {
    for (const one of tabs) {
      one.setAttribute("aria-selected", one === tab);
      one.tabIndex = one === tab ? 0 : -1;
      byId(`panel-${nameOf(one)}`).hidden = one !== tab;
    }
    if (focus) tab.focus();
    return drawChart(nameOf(tab));
  };
  tabs.forEach((tab, i) => {
    tab.addEventListener("click", () => select(tab));
    tab.addEventListener("keydown", (event) => {
      const to = {ArrowRight: i + 1, ArrowLeft: i - 1 + tabs.length, Home: 0, End: tabs.length - 1}[event.key];
      if (to === undefined) return;
      event.preventDefault();
      select(tabs[to % tabs.length], true);
    });
  });
  let printing = null; // the theme and what was closed, put back after a print; the charts keep their zoom and curves (asLeft)
  window.addEventListener("beforeprint", () => {
    if (printing) return;
    printing = {dark: isDark(), closed: [...document.querySelectorAll("details:not([open])")]};
    for (const one of printing.closed) one.open = true;
    for (const tab of tabs) byId(`panel-${nameOf(tab)}`).hidden = false;
    if (printing.dark) setTheme(false);
    for (const tab of tabs) drawChart(nameOf(tab));
  });
  window.addEventListener("afterprint", () => {
    if (!printing) return;
    for (const one of printing.closed) one.open = false;
    if (printing.dark) setTheme(true);
    printing = null;
    const chosen = tabs.find((tab) => tab.getAttribute("aria-selected") === "true");
    if (chosen) select(chosen);
  });

  // ---- downloads -------------------------------------------------------------------------------------------------
  const quoted = (value) => (/[",\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const spaceTable = () => {
    const head = ["run", "seed", "level", "class", "trained", "step", ...concepts.map((concept) => quoted(concept.axis))];
    const lines = [head.join(",")];
    for (const r of [...runs.keys()].filter(visible)) for (const k of [...state.classes].sort()) for (let t = 0; t < steps.length; t++)
      lines.push([r, runs[r].seed, quoted(data.levels[runs[r].level].label), classes[k].code, Number(classes[k].trained), steps[t], ...concepts.map((_, c) => prob(r, t, k, c))].join(","));
    return lines.join("\n") + "\n";
  };
  const save = (name, text) => {
    const link = node("a", "", {download: name});
    link.href = URL.createObjectURL(new Blob([text], {type: "text/csv"}));
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  const onWhite = (of, place) => { // what the place shows, as on the light page
    const root = document.documentElement, theme = root.dataset.theme;
    root.dataset.theme = "light";
    const [own, layout] = asLeft(place, ...(of === "space" ? [traces(), spaceLayout()] : chartFigure(of)));
    root.dataset.theme = theme;
    return {data: own, layout: {...layout, paper_bgcolor: "#ffffff", plot_bgcolor: "#ffffff"}};
  };
  document.querySelectorAll("[data-download]").forEach((button) => button.addEventListener("click", () => {
    const {download: kind, of} = button.dataset;
    const file = `${data.study || "study"}_${of}`;
    if (kind === "csv") return save(`${file}.csv`, of === "space" ? spaceTable() : data.charts[of].csv);
    const place = byId(of === "space" ? "space" : `chart-${of}`);
    Plotly.downloadImage(onWhite(of, place), {format: kind, filename: file, width: place.clientWidth, height: place.clientHeight, scale: kind === "png" ? 2 : 1});
  }));

  // ---- start -----------------------------------------------------------------------------------------------------
  const setTheme = (dark) => {
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    byId("theme").textContent = dark ? "light" : "dark";
    byId("theme").setAttribute("aria-pressed", dark);
    byId("theme").setAttribute("aria-label", dark ? "switch to the light page" : "switch to the dark page");
    drawChips();
    for (const name of [...drawn]) { drawn.delete(name); drawChart(name); }
    return draw();
  };
  setUp();
  byId("theme").addEventListener("click", () => setTheme(!isDark()));
  setTheme(window.matchMedia("(prefers-color-scheme: dark)").matches).then(() => {
    byId("space").on("plotly_click", choose);
    document.body.dataset.ready = "true";
  });
  if (tabs.length) select(tabs[0]);
})();
