"""The page on replication: a row for each claim, from facts and records alone."""

import re

import numpy as np
import pytest

from ilsvrc import chapters, claims, facts, page, paths, records

pytestmark = pytest.mark.once

TESTING = [name for name in chapters.names() if hasattr(chapters.chapter(name), "tested")]

CITED = set(
    re.findall(r"^@\w+\{([^,\s]+),", (paths.ROOT / "book/references.bib").read_text(), re.M)
)


@pytest.fixture(scope="module")
def rows():
    """Return every claim, as the page shows it."""
    return claims.tested()


def test_every_claim_of_every_chapter_has_a_row_and_every_row_a_claim(rows):
    asked = [(n, c.says) for n in TESTING for c in chapters.chapter(n).tested]
    assert list(zip(rows.chapter, rows.row, strict=True)) == asked
    said = sum(len(claims._table()[name]) - 1 for name in TESTING if name in claims._table())
    assert said == len(asked)  # without the chapters' sources


def test_a_claim_without_its_papers_words_fails_and_says_what_to_write(monkeypatch):
    module = chapters.chapter("2012_alexnet")
    new = page.Claim("a wider network does better", "wide", "baseline")
    monkeypatch.setattr(module, "tested", [*module.tested, new])
    with pytest.raises(KeyError, match=r"2012_alexnet.*'a wider network.*wide > baseline"):
        claims.tested()


def test_a_changed_record_changes_its_row_and_no_other(rows, tmp_path):
    names = ["relu", "tanh", "baseline", "no-lrn"]
    runs = {name: records.read(paths.record("2012_alexnet", name)) for name in names}
    for record in runs.values():
        records.write(record, tmp_path)
    before = claims.tested(tmp_path)
    here = before.verdict != "not trained yet"
    assert set(before.one[here]) | set(before.other[here]) == set(names)
    assert before[here].equals(rows[here])

    labels = runs["relu"].arrays["labels"]
    perfect = np.broadcast_to(labels, runs["relu"].answers.shape).astype("uint8")
    changed = records.Record(runs["relu"].facts, runs["relu"].arrays | {"answers": perfect})
    records.write(changed, tmp_path)
    after = claims.tested(tmp_path)
    [row] = [n for n in before.index if not after.loc[[n]].equals(before.loc[[n]])]
    assert (before.one[row], before.other[row]) == ("relu", "tanh")
    assert before.verdict[row] != after.verdict[row] == "holds"
    assert after["here (points)"][row] > 10


def test_a_row_says_what_its_chapter_says(rows):
    for name in TESTING:
        tested = chapters.chapter(name).tested
        runs = {run: records.read(paths.record(name, run)) for c in tested for run in c[1:3]}
        told = page.verdicts(runs, tested)
        if not len(told):
            continue
        some = rows[(rows.chapter == name) & rows.seeds.notna()].reset_index()
        assert list(some.row) == list(told.claim)
        turned = [claims.said(name, c)[1] for c in tested if runs[c.one] and runs[c.other]]
        sign = np.where(turned, -1, 1)
        np.testing.assert_allclose(some["here (points)"], sign * told["here (points)"])
        same = some.verdict == told.verdict
        small = told.verdict == "too small to see here"
        assert list(same) == [bool(s or not t) for s, t in zip(small, turned, strict=True)]


def test_where_the_paper_says_the_reverse_the_row_is_turned_round(rows):
    [lrn] = rows[(rows.chapter == "2014_vgg") & (rows.row == "LRN helps")].itertuples()
    assert (lrn.one, lrn.other) == ("A", "A-LRN") and "does not" in lrn.says
    deeper = rows[(rows.chapter == "2014_vgg") & (rows.one == "D") & (rows.other == "E")].iloc[0]
    assert deeper["paper (points)"] > 0 and deeper.verdict == "holds"
    assert (rows["paper (points)"].dropna() > 0).all()  # by its paper the first run is the better


def test_the_papers_words_cite_and_their_numbers_are_facts(rows):
    assert set(rows.source) <= CITED
    typed = re.compile(r"\d\.\d+ ?(%|points?)|\d ?%")
    texts = [entry if isinstance(entry, str) else entry.get("says", "") + entry.get("why", "")
             for told in claims._table().values()
             for entry in (told.values() if isinstance(told, dict) else told)]  # fmt: skip
    found = [text for text in texts if typed.search(text)]
    assert [text for text in found if "25 % training error" not in text] == []  # where to, not what
    assert not rows.says.str.contains("[{}]").any()
    assert rows.says.str.endswith(".").all() and (rows.says.str.len() < 170).all()


def test_rows_stand_alone(rows):
    """They are sorted and quoted, so none may lean on the one above."""
    leaning = rows.says.str.match(r"(The same|And |They |It |So do|Four |Eight )")
    assert list(rows.says[leaning]) == []
    assert not rows.duplicated(["chapter", "says"]).any()


def test_the_counts_are_those_of_the_rows(rows):
    counted, papers = claims.counts(rows), rows[~rows.own]
    assert list(counted.columns) == claims.VERDICTS
    assert counted.to_numpy().sum() == len(papers) + len(claims.untested())
    for verdict in claims.VERDICTS[:4]:
        assert counted[verdict].sum() == (papers.verdict == verdict).sum()


def test_links_lead_to_the_chapters_tables(rows):
    for name in rows.chapter.unique():
        file, label = claims.place(name).split("#")
        assert file == f"{name}.html"
        text = chapters.path(name).read_text(encoding="utf-8")
        below = text.split(f"\n({label})=\n")[1].split("\n(")[0]
        assert "page.claims_table(lab, tested)" in below


def test_what_has_no_row_is_no_pair_of_runs(rows):
    there = set(zip(rows.chapter, rows.one, strict=True))
    there |= set(zip(rows.chapter, rows.other, strict=True))
    left = {
        (name, run.claim)
        for name in TESTING
        for run in chapters.chapter(name).runs
        if run.claim and (name, run.name) not in there
    }
    named = {("2012_alexnet", "relu-6x"), ("2014_googlenet", "ensemble")}
    assert named <= left <= named | {("2019_efficientnet", "grown")}  # a curve of many sizes


def test_what_the_page_says_of_the_rows_is_so(rows):
    papers = rows[~rows.own]
    run = papers[papers.seeds.notna()]
    with_points = run.dropna(subset=["paper (points)"])
    dim = with_points["paper (points)"] < with_points["smallest to be seen"]
    assert dim.mean() > 0.5  # "most papers' gains are smaller than our bars"
    large = {("no-norm", "2015_inception_v3"), ("sigmoid", "2012_alexnet")}
    large |= {("plain-34-long", "2015_resnet"), ("one-size", "2014_googlenet")}
    for other, chapter in large:  # "it shows what is large"
        some = rows[(rows.other == other) & (rows.chapter == chapter)]
        assert (some.verdict == "holds").all() and (some["here (points)"] > 5).any()
    against = run[run.verdict == "the opposite"]
    assert (against.epochs == 5).mean() > 0.6  # "most have in common a training of five epochs"
    equal = rows[rows.row == "at 18 layers, shortcuts help"].iloc[0]
    assert equal.verdict == "holds" and equal["here (points)"] > 3 > 0.1 > equal["paper (points)"]
    gate = with_points.loc[with_points["here (points)"].idxmax()]
    assert (gate.chapter, gate.other) == ("2017_senet", "relu")  # "the highest dot"
    assert records.read(paths.record("2017_senet", "relu"))["top1"]["mean"] < 0.15  # chance: 0.1
    largest = with_points.nlargest(3, "paper (points)")
    assert (largest.verdict == "holds").sum() == 1  # "holds", not "hold"
    images = facts.value("imagenette.validation_images")
    assert round(200 * (0.75 * 0.25 / images) ** 0.5, 1) == 1.4
