"""What people and scripts watch: metrics lines, the progress line, and pictures."""

import io
import json
import math

import numpy as np
import pytest
from PIL import Image

from rcig import metrics, render
from rcig.errors import UserError


def picture(figure) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(render.png(figure))).convert("RGB"))


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def test_lines_are_valid_json_and_come_back(tmp_path):
    with metrics.MetricsWriter(tmp_path) as writer:
        writer.write(1, {"loss": np.float32(0.5), "accuracy": 1})
        writer.write(2, {"loss": math.nan, "norm": -math.inf})
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)
    first, second = metrics.read(tmp_path)
    assert first == {"step": 1, "seconds": first["seconds"], "loss": 0.5, "accuracy": 1.0}
    assert math.isnan(second["loss"]) and second["norm"] == -math.inf and second["seconds"] >= first["seconds"]
    assert metrics.read(tmp_path / "metrics.jsonl")[0] == first


def test_a_resumed_file_has_no_torn_and_no_double_lines(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": step, "seconds": 100.0 * step, "loss": 1.0}) for step in (10, 20, 30)]
    path.write_text("\n".join(lines) + '\n{"step": 40, "sec')
    assert [line["step"] for line in metrics.read(tmp_path)] == [10, 20, 30]
    with metrics.MetricsWriter(tmp_path, resume_step=20) as writer:
        writer.write(30, {"loss": 2.0})
    read = metrics.read(tmp_path)
    assert [(line["step"], line["loss"]) for line in read] == [(10, 1.0), (20, 1.0), (30, 2.0)]
    assert 2000.0 <= read[-1]["seconds"] < 2060.0


@pytest.mark.parametrize("seconds", ["null", '"soon"', "[]", "NaN", "1e999", "9" * 400])
def test_a_line_of_no_time_is_left_out(seconds, tmp_path):
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": 1, "seconds": 2.5}}\n{{"step": 2, "seconds": {seconds}}}\n')
    with metrics.MetricsWriter(tmp_path, resume_step=2) as writer:
        writer.write(3, {})
    assert [line["step"] for line in metrics.read(tmp_path)] == [1, 3]


def test_tensorboard_files_lie_beside_where_it_is_installed(tmp_path):
    pytest.importorskip("tensorboardX")
    with metrics.MetricsWriter(tmp_path) as writer:
        writer.write(1, {"loss": 0.5})
    assert b"loss" in b"".join(p.read_bytes() for p in (tmp_path / "tensorboard").iterdir())


def test_metrics_that_cannot_be_written_or_read_are_user_errors(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot write"):
        metrics.MetricsWriter(tmp_path / "file")
    with pytest.raises(UserError, match="cannot read"):
        metrics.read(tmp_path)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(metrics.time, "monotonic", lambda: now[0])
    return now


def run_progress(stream, clock) -> str:
    with metrics.Progress(100, stream) as progress:
        for step in range(1, 101):
            clock[0] += 0.5
            progress.update(step, {"loss": 1 / step, "norm": 3.0, "eval_accuracy": 0.5})
    return stream.getvalue()


def test_a_log_gets_a_line_now_and_then(clock):
    lines = run_progress(io.StringIO(), clock).splitlines()
    assert len(lines) == 6  # 50 s: the first, every 10 s, the last
    assert lines[2] == "step 41/100 (41 %)  2.0 steps/s  30s left  loss 0.02439  eval_accuracy 0.5"
    assert lines[-1].startswith("step 100/100 (100 %)  2.0 steps/s  0s left")


def test_a_terminal_gets_one_live_line(clock):
    text = run_progress(Terminal(), clock)
    assert text.count("\n") == 1 and text.endswith("\n") and text.count("\r") == 101


def test_a_passing_line_comes_late_and_does_not_stay(clock):
    for seconds, shown in ((2, False), (40, True)):
        stream = Terminal()
        with metrics.Progress(10, stream, passing=True) as progress:
            for step in range(1, 11):
                clock[0] += seconds / 10
                progress.update(step, {"loss": 1.0})
        text = stream.getvalue()
        assert "\n" not in text and bool(text) == shown and (not shown or text.endswith("\r\033[K"))
    assert "step 1/10" not in text and "step 2/10" in text  # of 40 s the first five are silent


def test_progress_waits_for_its_numbers_before_it_looks_at_the_clock(clock):
    """A number that jax still computes when it is told: the rate counts the time it takes."""

    class Pending:
        def __float__(self):
            clock[0] += 20.0
            return 0.25

    stream = io.StringIO()
    with metrics.Progress(30, stream) as progress:
        for step in (10, 20, 30):
            progress.update(step, {"loss": Pending()})
    assert stream.getvalue().splitlines()[-1] == "step 30/30 (100 %)  2.0 s/step  0s left  loss 0.25"


def test_slow_steps_and_long_times_read_well(clock):
    stream = io.StringIO()
    progress = metrics.Progress(10_000, stream)
    for _ in range(2):
        clock[0] += 20.0
        progress.update(int(clock[0] // 10))
    assert "20.0" not in stream.getvalue() and "10.0 s/step  27h46m left" in stream.getvalue()
    assert [metrics.duration(s) for s in (0.4, 61, 7260)] == ["0s", "1m01s", "2h01m"]


def test_grid_repeats_whole_pixels_and_names_the_rows():
    pixels = np.random.default_rng(0).uniform(size=(6, 8, 8, 3)).astype(np.float32)
    figure = render.grid(pixels, ["cat", "dog", "$x$"], ipc=2, title="step 7")
    assert {"cat", "dog", "$x$", "step 7"} <= set(texts(figure))
    image = picture(figure)
    for example in pixels:
        tile = np.round(example.repeat(8, 0).repeat(8, 1) * 255).astype(int)
        rows, columns = image.shape[0] - 63, image.shape[1] - 63
        corners = np.argwhere(np.abs(image[:rows, :columns].astype(int) - tile[0, 0]).max(-1) <= 1)
        near = [np.abs(image[y : y + 64, x : x + 64].astype(int) - tile).max() <= 1 for y, x in corners]
        assert any(near)


def test_grey_is_grey_and_large_images_shrink():
    grey = picture(render.grid(np.random.default_rng(0).uniform(size=(4, 8, 8, 1)), ["a", "b", "c", "d"], ipc=1))
    assert (np.ptp(grey, axis=-1) == 0).all() and len(np.unique(grey)) > 20
    large = picture(render.grid(np.zeros((4, 224, 200, 3)), list("abcd"), ipc=1))
    assert max(large.shape) < 500


def test_what_is_left_out_or_rescaled_is_said():
    many = render.grid(np.zeros((60 * 25, 8, 8, 1)), [f"class {k}" for k in range(60)], ipc=25)
    assert any("first 20 of 25 a class" in text and "first 50 of 60 classes" in text for text in texts(many))
    inside = np.random.default_rng(0).uniform(size=(10, 8, 8, 3))
    assert render.contrast(inside)[1] == "" and np.array_equal(render.contrast(inside)[0], inside)
    shown, note = render.contrast(4 * inside - 2)
    assert note == "contrast: -1.98 … 1.98 shown as 0 … 1" and shown.min() == 0 and shown.max() == 1
    assert np.isfinite(render.contrast(np.full((1, 2, 2, 1), np.nan))[0]).all()


@pytest.mark.parametrize("lines", [[], [{"step": s, "seconds": 1.0, "loss": 2.0**-s, "acc": 1} for s in range(300)]])
def test_curves_of_nothing_and_of_much(lines):
    figure = render.curves(lines + [{"step": 1, "seconds": 0.0, "loss": math.nan}])
    loss, accuracy = figure.axes
    assert len(loss.lines) == 2 * bool(lines) and accuracy.get_title() == "no accuracy yet"
    assert not lines or loss.get_yscale() == "log"
    assert picture(figure).std() > 1


def test_images_are_written_whole(tmp_path):
    pixels = np.random.default_rng(0).uniform(size=(4, 8, 8, 1)).astype(np.float32)
    for step in (5, 10):
        render.write_images(tmp_path, pixels, list("abcd"), 1, step, [])
    names = sorted(p.name for p in (tmp_path / "images").iterdir())
    assert names == ["curves.png", "distilled-10.png", "distilled-5.png", "latest.png"]
    folder = tmp_path / "images"
    assert (folder / "latest.png").read_bytes() == (folder / "distilled-10.png").read_bytes()
    render.write_images(tmp_path / "text", np.zeros((4, 16), np.float32), list("abcd"), 1, 5, [])
    assert [p.name for p in (tmp_path / "text" / "images").iterdir()] == ["curves.png"]
