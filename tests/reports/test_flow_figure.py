from __future__ import annotations

import xml.etree.ElementTree as ET

from cardiometa.reports.figures.flow import accounting_problems, boxes_figure, flow_figure

SVG = "{http://www.w3.org/2000/svg}"


def flow():
    return {
        "trials": {"sought": 4, "obtained": 3, "with_images": 3, "segmented": 3, "review": None,
                   "failed": None, "analysed": 3, "excluded": 0},
        "participants": {"sought": None, "obtained": 12345, "with_images": 12000,
                         "segmented": 11990, "review": 20, "failed": 10, "analysed": 11990,
                         "excluded": 355},
        "scans": {"sought": None, "obtained": 15000, "with_images": 14000, "segmented": 13979,
                  "review": 1, "failed": 21, "analysed": 13979, "excluded": 21},
    }  # fmt: skip


def texts(figure):
    return [node.text for node in ET.fromstring(figure.svg).iter(f"{SVG}text")]


def test_counts_of_every_box_and_the_losses_between():
    notes = {
        "not_obtained": (("OMEGA (no reply)", 210), ("PSI (refused)", None)),
        "failed": (("no-images", 20), ("truncated", 1)),
        "without_images": (("no-scan", 345),),
    }
    found = texts(flow_figure(flow(), notes))
    for line in (
        "12\u202f345 participants",
        "1 trial",
        "OMEGA (no reply): 210",
        "PSI (refused)",
        "345 participants",
        "no-scan: 345",
        "1000 scans",
        "10 participants",
        "21 scans",
        "no-images: 20",
        "of these 1 scan for review",
        "13\u202f979 scans",
    ):
        assert line in found, line
    assert not [line for line in found if line.startswith("0 ")]


def test_more_obtained_than_sought_is_said_and_no_number_is_negative():
    more = flow()
    more["trials"]["sought"] = 2
    assert "−" not in " ".join(texts(flow_figure(more, {})))
    assert "3 were obtained" in accounting_problems(more)[0]


def test_what_nobody_stated_is_not_printed():
    unknown = {unit: dict.fromkeys(counts) for unit, counts in flow().items()}
    found = texts(flow_figure(unknown, {}))
    assert "None" not in " ".join(found)
    assert found.count("not stated") == 4
    assert flow_figure({}, {}).svg


def test_a_box_at_the_side_only_where_someone_is_lost():
    rows = [("Provided", ("3 trials",), "Not analysed", ()), ("Analysed", ("3 trials",), "", ())]
    without = boxes_figure(rows, "Flow")
    assert texts(without) == ["Provided", "3 trials", "Analysed", "3 trials"]
    assert without.svg.count("marker-end") == 1
    rows[0] = ("Provided", ("4 trials",), "Not analysed", ("1 trial",))
    lost = boxes_figure(rows, "Flow")
    assert texts(lost) == ["Provided", "4 trials", "Not analysed", "1 trial", *texts(without)[2:]]
    assert lost.svg.count("marker-end") == 2
    description = ET.fromstring(lost.svg).find(f"{SVG}desc").text
    assert description == "Provided: 4 trials. Not analysed: 1 trial. Analysed: 3 trials."


def test_reasons_are_wrapped_escaped_and_summed_beyond_seven():
    reasons = tuple((f"reason-{i} <b> " + "long words " * 8, 2) for i in range(9))
    figure = flow_figure(flow(), {"without_images": reasons})
    found = texts(figure)
    assert any(line.startswith("reason-0 <b>") for line in found)
    assert "other reasons: 4" in found
    root = ET.fromstring(figure.svg)
    width = float(root.get("viewBox").split()[2])
    assert all(float(node.get("x")) < width for node in root.iter(f"{SVG}text"))


def test_boxes_do_not_overlap():
    root = ET.fromstring(flow_figure(flow(), {"failed": (("a", 1),) * 7}).svg)
    boxes = [
        tuple(float(node.get(name)) for name in ("x", "y", "width", "height"))
        for node in root.iter(f"{SVG}rect")
    ]
    assert len(boxes) == 7
    for i, (x, y, w, h) in enumerate(boxes):
        for a, b, c, d in boxes[i + 1 :]:
            assert x + w <= a or a + c <= x or y + h <= b or b + d <= y


def test_an_account_that_does_not_close_is_said():
    assert accounting_problems(flow()) == ()
    broken = flow()
    broken["scans"]["failed"] = 20
    broken["participants"]["excluded"] = 1
    problems = accounting_problems(broken)
    assert len(problems) == 2  # of scans, and of participants
    assert "14000" in problems[0]
    assert "13999" in problems[0]
