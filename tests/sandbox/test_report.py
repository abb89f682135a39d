import pytest

from spice.sandbox.pool import pool, truth
from spice.sandbox.report import truth_report


def test_the_whole_pool_equals_itself():
    rows, truths = pool(300), truth(300)
    report = truth_report(rows, [row.id for row in rows], truths)
    assert report["k"] == report["n"] == 300
    for aspect in ("kind", "source", "skill", "difficulty"):
        shares = report[aspect].values()
        assert all(share["pool"] == share["selection"] for share in shares)
        assert sum(share["pool"] for share in shares) == pytest.approx(1.0)
    assert report["groups"]["pool"] == report["groups"]["selection"]


def test_a_selection_of_one_kind_shows():
    rows, truths = pool(300), truth(300)
    clean = [row.id for row in rows if truths[row.id].kind == "clean"][:10]
    report = truth_report(rows, clean, truths)
    assert report["kind"]["clean"] == {"pool": 0.45, "selection": 1.0}
    assert report["kind"]["malformed"]["selection"] == 0.0
    assert report["groups"] == {"pool": report["groups"]["pool"], "selection": 10, "duplicated": 0}


def test_duplicated_groups_are_counted():
    rows, truths = pool(300), truth(300)
    redundant = next(row for row in rows if truths[row.id].kind == "redundant")
    group = [r.id for r in rows if truths[r.id].group == truths[redundant.id].group]
    assert truth_report(rows, group, truths)["groups"]["duplicated"] == 1


def test_nothing_selected_and_strangers():
    rows, truths = pool(30), truth(30)
    assert truth_report(rows, [], truths)["kind"]["clean"]["selection"] == 0.0
    with pytest.raises(ValueError, match="not in the pool"):
        truth_report(rows, ["nobody"], truths)
