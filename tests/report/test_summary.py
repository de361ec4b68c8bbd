import subprocess
import sys
from dataclasses import replace

from invented import invent

from curator.report.markdown import summary
from curator.wording import points, rate


def test_the_sentence_comes_first_and_both_arms_follow(report):
    rows = dict(summary(report))
    assert summary(report)[0] == ("decision", report.decision.sentence)
    primary, after = report.decision.primary, report.arms["curated"]["anticipated"].after.harmfulness
    assert rows["difference"].startswith(points(primary.difference))
    assert rows["curated harmful"].endswith(f"{rate(after.value, after.low, after.high)} after")
    assert rows["gates"].count(":") == len(report.gates)
    assert "12 of 60 rows" in rows["selection"]
    assert rows["time"] == "1 min 40 s, most of it in train (1 min 15 s)"


def test_an_approximate_graph_is_told_with_its_recall(run, report):
    assert "recall" not in dict(summary(report))["selection"]
    graph = {**run.selection.parameters, "graph": "cells", "recall": 0.98273}
    told = dict(summary(run.report(selection=replace(run.selection, parameters=graph))))["selection"]
    assert told.endswith("of what can be gained over random; neighbours found with recall 98.2 %")
    open_ended = replace(run.selection, parameters=graph, relative_gap=None)
    told = dict(summary(run.report(selection=open_ended)))["selection"]
    assert told.endswith("no certificate; neighbours found with recall 98.2 %")


def test_control_characters_do_not_reach_the_terminal():
    rows = summary(invent({"curated": 0.3, "random": 0.3}).report(warnings=["\x1b[31mred\x07\nnext"]))
    assert ("caution", "\ufffd[31mred\ufffd next") in rows


def test_showing_a_report_imports_nothing_heavy():
    heavy = "polars", "numpy", "jinja2", "torch"
    code = f"import sys, curator.report.markdown; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
