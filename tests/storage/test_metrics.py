"""The log of a training."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

import cspace_jax as cs
from cspace_jax.errors import UserError
from cspace_jax.storage import metrics, workdir
from cspace_jax.storage.metrics import append_metrics, damaged_lines, merge_metrics, read_metrics, truncate_metrics


def test_metrics_of_nan_are_strict_json(tmp_path):
    file = tmp_path / "metrics.jsonl"
    append_metrics(file, [{"run": 0, "step": 1, "loss": np.float32(np.nan)}])
    assert json.loads(file.read_text(), parse_constant=pytest.fail)["loss"] is None
    assert read_metrics(file) == [{"run": 0, "step": 1, "loss": None}]


def test_lines_of_added_runs_are_not_taken_for_those_of_the_study(tmp_path):
    """Both number their runs from 0."""
    (tmp_path / "config.json").touch()
    study, added = tmp_path / "metrics.jsonl", tmp_path / "extensions" / "000" / "metrics.jsonl"
    added.parent.mkdir(parents=True)
    for path in (study, added):
        metrics.append_metrics(path, [{"run": 0, "step": 5, "loss": 1.0}])
        assert len(metrics.read_metrics(path)) == 1
    study.write_bytes(added.read_bytes())
    assert metrics.read_metrics(study) == [] and metrics.damaged_lines(study) == [1]
    metrics.append_metrics(study, [{"run": 0, "step": 5, "loss": 1.0}])
    added.write_bytes(study.read_bytes())
    assert metrics.damaged_lines(added) == [2]


def test_a_full_device_is_reported():
    with pytest.raises(UserError, match="cannot write '/dev/full': no space left on the disk"):
        append_metrics("/dev/full", [{"step": 1}])


def test_metrics_are_json_lines_of_plain_numbers(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append_metrics(path, [{"run": np.int64(0), "step": 5, "loss": jnp.float32(0.5), "seed": 100}])
    append_metrics(path, [{"run": 1, "loss": float("nan")}, {"run": 2, "loss": np.float32("inf")}])
    rows = [json.loads(line, parse_constant=pytest.fail) for line in path.read_text().splitlines()]
    assert [{k: v for k, v in row.items() if k != "crc32"} for row in rows] == read_metrics(path)
    assert read_metrics(path)[0] == {"run": 0, "step": 5, "loss": 0.5, "seed": 100}
    assert [row["loss"] for row in rows] == [0.5, None, None]


def test_a_log_that_is_a_folder_is_one_line(tmp_path):
    (tmp_path / "metrics.jsonl").mkdir()
    for call in (read_metrics, damaged_lines):
        with pytest.raises(UserError, match="cannot read .*metrics.jsonl': Is a directory"):
            call(tmp_path / "metrics.jsonl")


def test_every_flipped_bit_of_a_log_is_seen(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rows = [{"run": 0, "step": step, "loss": 0.125 * step, "steps_per_second": 2.5} for step in (1, 2, 3)]
    append_metrics(path, rows)
    assert read_metrics(path) == rows and not damaged_lines(path)
    content = path.read_bytes()
    for bit in range(8 * content.index(b"\n")):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        assert read_metrics(path) == rows[1:] and damaged_lines(path)[0] == 1, f"bit {bit}"
    path.write_bytes(content[:-10])  # torn by a kill, which is no damage
    assert read_metrics(path) == rows[:2] and not damaged_lines(path)
    old = "".join(json.dumps(row) + "\n" for row in rows)  # of a version that wrote no checksums
    path.write_text(old)
    assert read_metrics(path) == rows and not damaged_lines(path)


def test_read_metrics_of_an_absent_file_is_empty(tmp_path):
    assert read_metrics(tmp_path / "metrics.jsonl") == []


def test_truncation_drops_later_steps_and_a_torn_last_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append_metrics(path, [{"run": r, "step": s} for s in (5, 10, 15) for r in (0, 1)])
    with path.open("a") as file:
        file.write('{"run": 0, "st')
    truncate_metrics(path, 10)
    assert [(row["step"], row["run"]) for row in read_metrics(path)] == [(5, 0), (5, 1), (10, 0), (10, 1)]
    append_metrics(path, [{"run": 0, "step": 15}])
    assert len(read_metrics(path)) == 5


def test_truncation_completes_a_last_line_that_lacks_only_its_end(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"run": 0, "step": 5}\n{"run": 1, "step": 5}')
    truncate_metrics(path, 5)
    append_metrics(path, [{"run": 0, "step": 10}])
    assert [row["step"] for row in read_metrics(path)] == [5, 5, 10]


def test_truncation_of_one_wave_keeps_the_others(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append_metrics(path, [{"run": r, "step": s} for r in (0, 1) for s in (5, 10)])
    truncate_metrics(path, 5, runs=(1,))
    assert [(row["run"], row["step"]) for row in read_metrics(path)] == [(0, 5), (0, 10), (1, 5)]


def test_truncation_of_an_absent_file_makes_none(tmp_path):
    truncate_metrics(tmp_path / "metrics.jsonl", 5)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def kept(tmp_path):
    config = cs.load_config("signal:smoke")
    return workdir.prepare(tmp_path / "w", config), config


def test_logs_of_many_processes_are_merged_and_the_later_of_two_rows_is_kept(kept):
    folder, _ = kept
    append_metrics(folder.metrics, [{"run": 0, "step": 0, "loss": 1.0}, {"run": 1, "step": 0, "loss": 1.0}])
    append_metrics(folder.root / "metrics.part_000.jsonl", [{"run": 0, "step": 2, "loss": 0.5}])
    append_metrics(folder.root / "metrics.part_001.jsonl", [{"run": 1, "step": 0, "loss": 2.0}])
    merge_metrics(folder)
    rows = [tuple(row.values()) for row in read_metrics(folder.metrics)]
    assert rows == [(0, 0, 1.0), (1, 0, 2.0), (0, 2, 0.5)]
    assert not list(folder.root.glob("metrics.part_*"))
