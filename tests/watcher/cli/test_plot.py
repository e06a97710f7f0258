"""`ckptwatch plot`: the curve is really drawn, on every surface, with band, logged loss and best; names stay inert."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree

import pytest

from tests.support.database import Database, small_run


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
    assert (said.status, "ckptwatch plot --by time" in said.err) == (4, True), said.err
    said = ckptwatch("plot", "--by", "time", "--db", tmp_path / "r.db")
    assert (said.status, "best: 2.2 at 0.0333 hours" in said.out) == (0, True), said.out  # saved a minute apart
    said = ckptwatch("plot", "--by", "tokens", "--db", tmp_path / "r.db")
    assert (said.status, "no result has loss (nats per token) by tokens seen" in said.err) == (4, True), said.err
    assert "ckptwatch plot --by time" in said.err


def test_png_and_svg_are_pictures_and_a_dollar_in_a_name_is_no_formula(ckptwatch, tmp_path):
    two_runs(tmp_path / "r.db").close()
    assert ckptwatch("plot", "--out", "c.png", "--db", tmp_path / "r.db").status == 0
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert ckptwatch("plot", "--out", "c.svg", "--value", "ppl", "--log", "--db", tmp_path / "r.db").status == 0
    texts = [node.text for node in ElementTree.parse(tmp_path / "c.svg").iter() if node.text and node.text.strip()]
    assert any(text.startswith("wide $x$ </script><b> / val (best ") for text in texts)
    assert not any("mathdefault" in text or "^" in text for text in texts), texts  # ticks are plain numbers
    assert any("logged by the trainer" in text for text in texts)
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
    assert page.count("</script>") == 4  # neither name nor data can end a script
    assert not re.search(r"@[A-Za-z.]+@", page)
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S).group(1))
    assert data["series"][1]["name"] == "wide $x$ </script><b> / val"
    wide = data["series"][1]
    assert [at for at, finite in zip(wide["step"], wide["finite"], strict=True) if not finite] == [300]
    assert len(data["series"][0]["low"]) == 3


def test_an_image_has_its_title_its_size_and_its_legend_beside_the_curves_and_the_logged_loss_once_a_run(
    ckptwatch, tmp_path
):
    database = Database(tmp_path / "r.db")
    database.run()
    for name in ("val", "other"):
        database.eval_set(name=name)
        for step, loss in ((100, 3.0), (200, 2.0)):
            database.result(step, loss, eval_set=name, logged_val_loss=loss)
    database.close()
    flags = ("--title", "Run 7: 50 % less data", "--size", "6x4", "--db", tmp_path / "r.db")
    assert ckptwatch("plot", "--out", "c.svg", *flags).status == 0
    texts = [node.text for node in ElementTree.parse(tmp_path / "c.svg").iter() if node.text and node.text.strip()]
    assert "Run 7: 50 % less data" in texts
    assert texts.count("gpt, logged by the trainer") == 1
    assert ckptwatch("plot", "--out", "c.pdf", *flags).status == 0
    assert (tmp_path / "c.pdf").read_bytes().startswith(b"%PDF-")
    refused = ckptwatch("plot", "--out", "c.png", "--size", "big", "--db", tmp_path / "r.db")
    assert refused.status == 2 and "--size 9x5.5" in refused.err


def image_of_runs(ckptwatch, folder, count: int, *flags: str) -> tuple[list[str], str, str]:
    """(texts of the SVG, the SVG, what stderr had) for `count` runs of two sets."""
    database = Database(folder / "r.db")
    for number in range(count):
        database.run(f"run-{number:03}")
        for name, scale in (("val", 1.0), ("code", 0.1)):
            database.eval_set(run=f"run-{number:03}", name=name)
            for step, loss in ((1000, 3.0), (2000, 2.0 + number / 100)):
                values = {"run": f"run-{number:03}", "eval_set": name, "checkpoint": f"{number}-{step}.pt"}
                database.result(step, loss * scale, loss_stderr=0.001, **values)
    database.close()
    said = ckptwatch("plot", "--out", "c.svg", *flags, "--db", folder / "r.db")
    assert said.status == 0, said.err
    svg = (folder / "c.svg").read_text()
    return [node.text for node in ElementTree.fromstring(svg).iter() if node.text and node.text.strip()], svg, said.err


@pytest.mark.parametrize(("count", "named", "size"), [(2, 4, "3x3"), (12, 24, "6.4x4.2"), (50, 39, "9x5.5")])
def test_no_text_of_an_image_is_cut_or_lies_over_another_one_however_many_runs(
    ckptwatch, tmp_path, monkeypatch, count, named, size
):
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    kept = []
    save = Figure.savefig

    def save_and_measure(figure, *args, **more):
        figure.draw_without_rendering()
        outside = set()  # matplotlib keeps the labels of ticks beyond the axis and does not draw them
        for axis in (figure.axes[0].xaxis, figure.axes[0].yaxis):
            low, high = axis.get_view_interval()
            outside |= {tick.label1 for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high}
        texts = [each for each in figure.findobj(Text) if each.get_visible() and each.get_text().strip()]
        texts = [each for each in texts if each not in outside]
        kept.extend((each.get_text(), each.get_window_extent()) for each in texts)
        kept.append(("", figure.bbox))
        return save(figure, *args, **more)

    monkeypatch.setattr(Figure, "savefig", save_and_measure)
    texts, _, err = image_of_runs(ckptwatch, tmp_path, count, "--log", "--size", size)
    assert "Warning" not in err
    assert sum(text.startswith("run-") for text in texts) == named
    assert (f"and {2 * count - 39} more curves" in texts) == (2 * count > 40)
    assert not any("$" in text or "\\" in text for text in texts), texts
    page = kept.pop()[1]
    assert len(kept) > named
    for number, (text, box) in enumerate(kept):
        assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1, (text, box)
        over = [other for other, its in kept[number + 1 :] if box.padded(-1).overlaps(its.padded(-1))]
        assert not over, (text, over)


def test_a_run_keeps_its_colour_when_others_are_left_out_and_the_band_has_the_words_of_the_page(ckptwatch, tmp_path):
    from watcher.report.metrics import BAND_WORDS
    from watcher.report.palette import LIGHT

    texts, svg, _ = image_of_runs(ckptwatch, tmp_path, 3, "--run", "run-001")
    assert LIGHT[1] in svg and LIGHT[0] not in svg and LIGHT[2] not in svg
    assert " ".join(texts).count(BAND_WORDS) == 1
    assert "run-001 / val (best 2.01 at step 2,000)" in texts
