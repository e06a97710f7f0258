"""`ckptwatch plot`: the curve is really drawn, on every surface, with band, logged loss and best; names stay inert."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree

import pytest

from tests.support.database import Database, small_run
from tests.support.many_runs import SETS, many_runs


def two_runs(path) -> Database:
    database = small_run(path)
    database.run("wide $x$ </script><b>")
    database.eval_set("wide $x$ </script><b>")
    for step, loss in ((100, 3.5), (200, 2.9), (300, None), (400, 2.4)):
        database.result(step, loss, run="wide $x$ </script><b>", logged_val_loss=3.0, tokens_seen=step * 1000)
    return database


def test_the_terminal_curve_falls_from_left_to_right_and_names_the_best(ckptwatch, tmp_path):
    small_run(tmp_path / "r.db").close()
    said = ckptwatch("plot", "--db", tmp_path / "r.db")
    assert said.status == 0
    assert "\x1b" not in said.out
    assert "best: 2.2 at step 300" in said.out
    marked = [line.index("*") for line in said.out.splitlines() if "*" in line and "best" not in line]
    assert marked
    dots = [
        (number, at) for number, line in enumerate(said.out.splitlines()) for at, c in enumerate(line) if "⠀" < c <= "⣿"
    ]
    highest, lowest = min(dots), max(dots)
    assert highest[1] < lowest[1]


def test_the_error_bars_reach_as_far_as_the_95_percent_band(ckptwatch, tmp_path):
    database = Database(tmp_path / "r.db")
    database.run()
    database.eval_set()
    for step, loss in ((100, 3.0), (200, 2.0)):
        database.result(step, loss, loss_stderr=0.5)
    out = ckptwatch("plot", "--db", tmp_path / "r.db").out
    top, bottom = [float(line.split("┤")[0]) for line in out.splitlines() if "┤" in line][
        :: len(re.findall("┤", out)) - 1
    ]
    assert (top, bottom) == pytest.approx((3.0 + 1.96 * 0.5, 2.0 - 1.96 * 0.5), abs=0.06)


def test_several_curves_carry_letters_and_what_diverged_is_said(ckptwatch, tmp_path):
    two_runs(tmp_path / "r.db").close()
    said = ckptwatch("plot", "--db", tmp_path / "r.db")
    assert re.search(r"A  gpt / val .*\n  B  wide", said.out)
    assert "has no finite value at 300" in said.err
    assert "logged by the trainer" in said.out


def test_a_few_points_of_several_curves_have_their_error_bars_too(ckptwatch, tmp_path):
    two_runs(tmp_path / "r.db").close()
    said = ckptwatch("plot", "--db", tmp_path / "r.db").out
    assert "┊" in said and "  B  " in said


def test_a_logarithmic_x_axis_has_round_ticks_and_leaves_step_0_out(ckptwatch, tmp_path):
    database = Database(tmp_path / "r.db")
    database.run()
    database.eval_set()
    for step, loss in ((0, 10.8), (300, 6.0), (3000, 4.0), (20_000, 3.0)):
        database.result(step, loss)
    database.close()
    said = ckptwatch("plot", "--log-x", "--db", tmp_path / "r.db")
    assert re.search(r"\n +500 +1000 +2000 +5000 +10000 +20000\n", said.out), said.out
    assert "10.8" not in said.out and "points at 0 are not drawn" in said.err
    two = ckptwatch("plot", "--metric", "loss", "--metric", "ppl", "--db", tmp_path / "r.db").out
    assert "loss (nats per token)" in two and "perplexity" in two


def test_json_gives_the_points_and_the_best_step(ckptwatch, tmp_path):
    two_runs(tmp_path / "r.db").close()
    curves = ckptwatch("plot", "--json", "--run", "gpt", "--db", tmp_path / "r.db").json
    assert [(curve["run"], curve["best_step"]) for curve in curves] == [("gpt", 300)]
    assert [(point["step"], point["loss"]) for point in curves[0]["points"]] == [(100, 3.0), (200, 2.5), (300, 2.2)]


def test_results_without_a_step_are_drawn_by_time_and_the_error_says_so(ckptwatch, tmp_path):
    database = Database(tmp_path / "r.db")
    database.run()
    database.eval_set()
    for loss in (3.0, 2.5, 2.2):
        database.result(None, loss, checkpoint=f"model-{loss}.pt")
    database.close()
    said = ckptwatch("plot", "--db", tmp_path / "r.db")
    remedy = f"ckptwatch plot --db {tmp_path / 'r.db'} --by time"
    assert (said.status, remedy in said.err) == (4, True), said.err
    said = ckptwatch("plot", "--by", "time", "--db", tmp_path / "r.db")
    assert (said.status, "best: 2.2 at 0.0333 hours" in said.out) == (0, True), said.out  # saved a minute apart
    said = ckptwatch("plot", "--by", "tokens", "--db", tmp_path / "r.db")
    assert (said.status, "no result has loss (nats per token) by tokens seen" in said.err) == (4, True), said.err
    assert remedy in said.err


def test_png_and_svg_are_pictures_and_a_dollar_in_a_name_is_no_formula(ckptwatch, tmp_path):
    two_runs(tmp_path / "r.db").close()
    assert ckptwatch("plot", "--out", "c.png", "--db", tmp_path / "r.db").status == 0
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert ckptwatch("plot", "--out", "c.svg", "--value", "ppl", "--log", "--db", tmp_path / "r.db").status == 0
    texts = texts_of((tmp_path / "c.svg").read_text())
    assert any(text.startswith("wide $x$ </script><b>") for text in texts)
    assert not any("mathdefault" in text or "^" in text for text in texts), texts  # ticks are plain numbers
    assert "loss logged by the trainer" in " ".join(texts).replace("\u00a0", " ")
    first = (tmp_path / "c.svg").read_bytes()
    assert ckptwatch("plot", "--out", "c.svg", "--value", "ppl", "--log", "--db", tmp_path / "r.db").status == 0
    assert (tmp_path / "c.svg").read_bytes() == first


def test_another_suffix_is_a_usage_error_and_an_unwritable_place_an_environment_one(ckptwatch, tmp_path):
    small_run(tmp_path / "r.db").close()
    said = ckptwatch("plot", "--out", "curve.bmp", "--db", tmp_path / "r.db")
    assert said.status == 2
    assert "curve.png" in said.err
    assert ckptwatch("plot", "--out", "no/such/folder/c.html", "--db", tmp_path / "r.db").status == 7


def test_the_page_holds_its_data_and_asks_nothing_of_the_network(ckptwatch, tmp_path):
    two_runs(tmp_path / "r.db").close()
    assert ckptwatch("plot", "--out", "c.html", "--db", tmp_path / "r.db").status == 0
    page = (tmp_path / "c.html").read_text()
    markup = re.sub(r"<script>.*?</script>", "", page, flags=re.S)
    assert not re.search(r"(src|href)\s*=|@import|url\(|https?:", markup)
    assert page.count("</script>") == 5  # neither name nor data can end a script
    assert not re.search(r"@[A-Za-z.]+@", page)
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S).group(1))
    (panel,) = data["panels"]
    gpt, wide = panel["curves"]
    assert (data["runs"][wide["run"]]["label"], panel["set"]) == ("wide $x$ </script><b>", "val")
    assert (wide["bad"], wide["x"], len(gpt["low"])) == ([300], [100, 200, 400], 3)


def test_a_long_table_of_values_ends_with_the_command_that_prints_all(ckptwatch, tmp_path, monkeypatch):
    from watcher.report import plot_page

    small_run(tmp_path / "r.db").close()
    monkeypatch.setattr(plot_page, "ROWS_MAX", 2)
    assert ckptwatch("plot", "--out", "c.html", "--db", tmp_path / "r.db").status == 0
    page = (tmp_path / "c.html").read_text()
    assert page.count("<tr><td>gpt</td>") == 2 and "1 more: ckptwatch results --format csv" in page


def test_the_loss_that_the_trainer_logged_is_drawn_beside_the_set_whose_values_are_nearest(ckptwatch, tmp_path):
    database = Database(tmp_path / "r.db")
    database.run()
    for name, offset in (("code", -1.8), ("val", 0.02)):
        database.eval_set(name=name)
        for step, loss in ((100, 3.0), (200, 2.0)):
            database.result(step, loss + offset, eval_set=name, logged_val_loss=loss)
    database.close()
    assert ckptwatch("plot", "--out", "c.html", "--db", tmp_path / "r.db").status == 0
    data = json.loads(re.search(r'id="data">(.*?)</script>', (tmp_path / "c.html").read_text(), re.S).group(1))
    drawn = {panel["set"]: panel["curves"][0]["logged"] for panel in data["panels"]}
    assert drawn == {"code": [], "val": [[100, 3.0], [200, 2.0]]}


def texts_of(svg: str) -> list[str]:
    return [node.text for node in ElementTree.fromstring(svg).iter() if node.text and node.text.strip()]


@pytest.fixture
def figures(monkeypatch) -> list:
    """The figures that are saved, as matplotlib's renderer laid them out."""
    from matplotlib.figure import Figure

    kept: list = []
    save = Figure.savefig

    def save_and_keep(figure, *args, **more):
        save(figure, *args, **more)
        figure.draw_without_rendering()
        kept.append(figure)

    monkeypatch.setattr(Figure, "savefig", save_and_keep)
    return kept


def boxes_of(figure) -> list[tuple[str, object]]:
    """Each text that is drawn, with the box around it."""
    from matplotlib.text import Text

    unseen = set()  # matplotlib keeps the labels of ticks beyond the axis, and hidden ones, and does not draw them
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = axis.get_view_interval()
        for tick in axis.get_major_ticks():
            unseen |= {tick.label2} if low <= tick.get_loc() <= high else {tick.label1, tick.label2}
    texts = [each for each in figure.findobj(Text) if each.get_visible() and each.get_text().strip()]
    return [(each.get_text(), each.get_window_extent()) for each in texts if each not in unseen]


def assert_legible(figure, pixels: float = 8) -> None:
    """No text leaves the image or lies over another; each is that high where the image is 390 pixels wide."""
    from matplotlib.text import Text

    boxes, page = boxes_of(figure), figure.bbox
    assert not any("$\\" in text or "mathdefault" in text for text, _ in boxes)
    for number, (text, box) in enumerate(boxes):
        assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1, (text, box)
        over = [other for other, its in boxes[number + 1 :] if box.padded(-1).overlaps(its.padded(-1))]
        assert not over, (text, over)
    smallest = min(each.get_fontsize() for each in figure.findobj(Text) if each.get_text().strip())
    assert smallest / 72 / figure.get_figwidth() * 390 >= pixels, smallest


def lines_of(axes) -> list:
    """The curves of a panel."""
    lines = [line for line in axes.get_lines() if line.get_transform() == axes.transData]
    return [line for line in lines if line.get_linestyle() != "None"]


def draw_runs(ckptwatch, folder, count: int, *flags, sets: int = 1, out: str = "c.png"):
    """Draw `count` runs of so many sets, four points each; gives the database."""
    made = many_runs(folder, count, sets, 4)
    said = ckptwatch("plot", "--out", out, *flags, "--db", made.url)
    assert said.status == 0 and "Warning" not in said.err, said.err
    return made.database


@pytest.mark.parametrize(
    ("count", "sets", "flags"),
    [
        (1, 1, ()),
        (2, 1, ("--size", "3.25x2.4")),
        (2, 2, ("--log", "--log-x", "--title", "A title that is much too long for one line of this picture " * 2)),
        (5, 1, ("--log",)),
        (8, 1, ("--size", "9x5.5")),
        (12, 2, ("--log",)),
        (24, 1, ()),
        (50, 1, ("--log-x",)),
        (200, 2, ()),
        (2, 7, ("--size", "12x7")),
    ],
)
def test_no_text_of_an_image_is_cut_or_lies_over_another_one_however_many_runs_and_sets(
    ckptwatch, tmp_path, figures, count, sets, flags
):
    draw_runs(ckptwatch, tmp_path, count, *flags, sets=sets).close()
    (figure,) = figures
    assert_legible(figure, pixels=7 if flags[-1:] in (("12x7",), ("9x5.5",)) else 8)
    assert [axes.get_title(loc="left") for axes in figure.axes] == sorted(SETS[:sets])
    assert all(len(lines_of(axes)) == count for axes in figure.axes)
    names = {text.split()[0] for box in boxes_of(figure) for text in box[0].split("\n") if text.startswith("gpt-")}
    assert len(names) == (count if count <= 24 else 8)
    words = " ".join(text for text, _ in boxes_of(figure)).replace("\n", " ")
    first = min(SETS[:sets])
    assert (f"Named: the 8 of {count} curves with the lowest loss on {first}, best first." in words) == (count > 24)
    if flags[:1] == ("--size",):
        assert [round(float(each), 2) for each in figure.get_size_inches()] == [float(n) for n in flags[1].split("x")]


def test_each_metric_and_set_has_a_panel_and_the_panels_share_the_x_axis(ckptwatch, tmp_path, figures):
    database = Database(tmp_path / "r.db")
    database.run()
    for name, factor in (("val", 1.0), ("code", 0.1)):
        database.eval_set(name=name)
        for step, loss in ((1000, 3.0), (2000, 2.0)):
            database.result(step, loss * factor, eval_set=name, bits_per_byte=loss * factor / 3)
    database.close()
    metrics = ("--metric", "loss", "--metric", "bits_per_byte")
    assert ckptwatch("plot", "--out", "c.pdf", *metrics, "--db", tmp_path / "r.db").status == 0
    (figure,) = figures
    assert_legible(figure)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["code", "val"] * 2
    labels = [axes.get_ylabel().replace("\n", " ") for axes in figure.axes]
    assert labels == ["loss (nats per token)", "", "bits per byte", ""]
    assert len({axes.get_xlim() for axes in figure.axes}) == 1
    code, val = figure.axes[:2]
    assert code.get_ylim()[1] < 0.4 and val.get_ylim()[0] > 1.5  # 0.2 to 0.3 and 2 to 3
    assert (tmp_path / "c.pdf").read_bytes().startswith(b"%PDF-")


def test_a_run_has_the_colour_and_the_dash_of_the_page_whatever_else_is_drawn(ckptwatch, tmp_path, figures):
    from watcher.report.metrics import BAND_WORDS
    from watcher.report.palette import DASHES, LIGHT

    flags = ("--run", "gpt-b-001", "--run", "gpt-deep-024")
    database = draw_runs(ckptwatch, tmp_path, 26, *flags)
    ckptwatch("plot", "--out", "c.html", *flags, "--db", database.path)
    database.close()
    (figure,) = figures
    assert [line.get_color() for line in lines_of(figure.axes[0])] == [LIGHT[1], LIGHT[0]]  # run 25 begins again
    assert [line.is_dashed() for line in lines_of(figure.axes[0])] == [False, True]
    data = json.loads(re.search(r'id="data">(.*?)</script>', (tmp_path / "c.html").read_text(), re.S).group(1))
    assert [(run["colour"], tuple(run["dash"])) for run in data["runs"]] == [(1, ()), (0, DASHES[1])]
    assert BAND_WORDS in " ".join(text for text, _ in boxes_of(figure)).replace("\n", " ").replace("\u00a0", " ")
    assert BAND_WORDS in (tmp_path / "c.html").read_text()


def test_with_many_runs_the_best_are_thick_in_their_colours_and_named_in_order(ckptwatch, tmp_path, figures):
    database = draw_runs(ckptwatch, tmp_path, 30)
    with database.store.engine.connect() as connection:
        order = "SELECT run FROM results GROUP BY run ORDER BY min(loss) LIMIT 8"
        best = [run for (run,) in connection.exec_driver_sql(order)]
    database.close()
    (figure,) = figures
    widths = [line.get_linewidth() for line in lines_of(figure.axes[0])]
    assert widths.count(max(widths)) == 8 and widths.count(min(widths)) == 22
    ends = [(box.y0, text) for text, box in boxes_of(figure) if text.startswith("gpt-")]
    assert [text.split()[0] for _, text in sorted(ends)] == best  # from below: as the curves end


def test_an_image_has_its_title_and_another_size_is_refused(ckptwatch, tmp_path):
    small_run(tmp_path / "r.db").close()
    flags = ("--title", "Run 7: 50 % less data", "--size", "6x4", "--db", tmp_path / "r.db")
    assert ckptwatch("plot", "--out", "c.svg", *flags).status == 0
    texts = texts_of((tmp_path / "c.svg").read_text())
    assert "Run 7: 50 % less data" in texts and "gpt  ○ 2.2 at 300" in texts
    refused = ckptwatch("plot", "--out", "c.png", "--size", "big", "--db", tmp_path / "r.db")
    assert refused.status == 2 and "--size 9x5.5" in refused.err


def test_a_panel_without_a_positive_value_keeps_a_linear_axis(ckptwatch, tmp_path, figures):
    database = Database(tmp_path / "r.db")
    database.run()
    for name, loss in (("val", 2.0), ("zero", 0.0)):
        database.eval_set(name=name)
        database.result(100, loss, eval_set=name)
    database.close()
    assert ckptwatch("plot", "--out", "c.png", "--log", "--db", tmp_path / "r.db").status == 0
    assert [axes.get_yscale() for axes in figures[0].axes] == ["log", "linear"]


def test_a_run_that_never_had_a_finite_value_is_named_and_its_triangles_are_drawn(ckptwatch, tmp_path, figures):
    database = small_run(tmp_path / "r.db")
    database.run("nan")
    database.eval_set("nan")
    for step in (100, 300):
        database.result(step, None, run="nan", checkpoint=f"{step}.pt")
    database.eval_set("nan", "code")
    database.result(100, None, run="nan", eval_set="code")
    database.close()
    for flags in (("--eval-set", "val"), ("--log",)):
        assert ckptwatch("plot", "--out", "c.png", *flags, "--db", tmp_path / "r.db").status == 0
        assert_legible(figures[-1])
        assert "nan" in [text for text, _ in boxes_of(figures[-1])]
    for axes, places in zip(figures[-1].axes, ([100], [100, 300]), strict=True):  # code, val
        triangles = [line for line in axes.get_lines() if line.get_marker() == "v"]
        assert [list(line.get_xdata()) for line in triangles] == [places]


def test_signs_that_no_font_has_are_reported(ckptwatch, tmp_path):
    database = Database(tmp_path / "r.db")
    database.run("\U0001f9ea")
    database.eval_set("\U0001f9ea")
    database.result(100, 3.0, run="\U0001f9ea")
    database.close()
    assert "an .svg file keeps them" in ckptwatch("plot", "--out", "c.png", "--db", tmp_path / "r.db").err
    assert "an .svg file" not in ckptwatch("plot", "--out", "c.svg", "--db", tmp_path / "r.db").err


def test_names_at_the_ends_of_curves_keep_their_distance_and_their_order():
    from watcher.report.plot_image import apart

    assert apart([0.5, 0.1, 0.9], 0.1) == pytest.approx([0.5, 0.1, 0.9])
    assert apart([0.5, 0.5], 0.2) == pytest.approx([0.4, 0.6])
    assert apart([0.02, 0.0, 0.01], 0.1) == pytest.approx([0.2, 0.0, 0.1])
    moved = apart([0.95, 1.0, 0.99, 0.3], 0.4)  # more than there is room for: evenly over the whole
    assert sorted(moved) == pytest.approx([0, 1 / 3, 2 / 3, 1])


def test_ticks_are_round_plain_numbers():
    from watcher.report.plot_axes import PlainNumbers, log_ticks

    assert PlainNumbers().format_ticks([0, 0.25, 0.5]) == ["0", "0.25", "0.50"]
    assert PlainNumbers().format_ticks([0, 500, 1000, 2500]) == ["0", "500", "1k", "2.5k"]
    assert PlainNumbers().format_ticks([0.0001, 0.01, 1, 100]) == ["0.0001", "0.01", "1", "100"]
    assert log_ticks(2.8, 7.2, 6) == [3, 4, 5, 6, 7]
    assert log_ticks(20, 3000, 7) == [20, 50, 100, 200, 500, 1000, 2000]
    assert log_ticks(1e-3, 1e9, 5) == pytest.approx([1e-3, 1, 1e3, 1e6, 1e9])
