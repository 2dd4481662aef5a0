"""What the papers claim and the course tests: each claim with its paper's words and our verdict.

A chapter's list `tested` says which runs test a claim, ``claims.toml`` what the paper says of it,
and `page.verdicts` what the records say, here as in the chapter.
"""

import re
import tomllib
from functools import cache
from pathlib import Path

import pandas as pd

from ilsvrc import chapters, facts, page, paths, records

TABLE = Path(__file__).with_name("claims.toml")
VERDICTS = ["holds", "the opposite", "too small to see here", "not trained yet", "not tested"]
TURNED = {"holds": "the opposite", "the opposite": "holds"}
POINTS = ["paper (points)", "here (points)"]


@cache
def _table() -> dict:
    return tomllib.loads(TABLE.read_text(encoding="utf-8"))


def told(text: str) -> str:
    """Return a sentence of ``claims.toml`` with the published numbers that it names put in."""

    def number(match):
        value = facts.value(match[1])
        if value >= 1e6 and value % 1e5 == 0:
            return f"{value / 1e6:g} million"
        return f"{value:,}" if isinstance(value, int) else f"{value:g}"

    return re.sub(r"\{([\w.]+)\}", number, text)


def said(chapter: str, claim: page.Claim) -> tuple[dict, bool]:
    """Return what a paper says of a claim of a chapter, and whether it says the reverse.

    Returns:
        The entry, with "says", "source" and "own"; and True where the paper's order of the two
        runs is not that of the chapter's row.

    Raises:
        KeyError: ``claims.toml`` has no entry for it; the message says which is missing.
    """
    entries = _table().get(chapter, {})
    end = ", training" if claim.training else ""
    orders = [f"{a} > {b}{end}" for a, b in [claim[1:3], claim[2:0:-1]]]
    for key in orders:
        if key in entries:
            entry = entries[key]
            entry = {"says": entry} if isinstance(entry, str) else entry
            return {"source": entries["source"], "own": False} | entry, key != orders[0]
    raise KeyError(
        f"{TABLE.name} does not say what the paper claims in {chapter}'s row {claim.says!r}: "
        f'under ["{chapter}"] write "{orders[0]}" = "..."'
    )


def title(chapter: str) -> str:
    """Return a chapter's title as it stands above its page."""
    text = chapters.path(chapter).read_text(encoding="utf-8")
    return re.search(r"^# (.+)$", text, re.MULTILINE)[1]


def place(chapter: str) -> str:
    """Return the address of a chapter's table of claims, as seen from another chapter."""
    text = chapters.path(chapter).read_text(encoding="utf-8")
    return f"{chapter}.html#{re.search(r'^[(](.+-claims)[)]=$', text, re.MULTILINE)[1]}"


def tested(results: Path = paths.RESULTS) -> pd.DataFrame:
    """Return every claim that a chapter tests, in the order of the course.

    Args:
        results: The folder of the published records.

    Returns:
        One row a claim: chapter, year (the chapter's, or the
        source's where the chapter has none), says, source, own (asked by the course and
        not by a paper), row (the chapter's words for it), one and other (the runs, the better one
        by the paper first), epochs, and the columns of `page.verdicts`. The verdict is on what the
        paper says, "not trained yet" where a run has no record.

    Raises:
        KeyError: as `said` does.
    """
    rows = []
    for chapter in chapters.names():
        for claim in getattr(chapters.chapter(chapter), "tested", []):
            entry, reverse = said(chapter, claim)
            runs = {name: _record(results, chapter, name) for name in claim[1:3]}
            found = page.verdicts(runs, [claim]).to_dict("records")
            measured = found[0] if found else {"verdict": "not trained yet"}
            row = {
                "chapter": chapter,
                "year": int(re.search(r"\d{4}", chapter + entry["source"])[0]),
                **{"says": told(entry["says"]), "source": entry["source"], "own": entry["own"]},
                **{"row": claim.says, "one": claim.one, "other": claim.other},
                "epochs": runs[claim.one]["recipe"]["epochs"] if found else None,
                **measured,
                "paper (points)": claim.paper,
            }
            rows.append(_turned(row) if reverse else row)
    columns = [*rows[0], "here (points)", "spread", "smallest to be seen", "seeds"]
    table = pd.DataFrame(rows).reindex(columns=list(dict.fromkeys(columns)))
    return table.astype({name: float for name in (*POINTS, "spread", "smallest to be seen")})


def _record(results, chapter, name):
    return records.read(results / chapter / f"{name}.json")


def _turned(row: dict) -> dict:
    """Return a row with its two runs in the other order."""
    other = {name: -row[name] for name in POINTS if row.get(name) is not None}
    other |= {"one": row["other"], "other": row["one"]}
    return row | other | {"verdict": TURNED.get(row["verdict"], row["verdict"])}


def untested() -> pd.DataFrame:
    """Return what the papers claim and the course cannot test: chapter, year, says, why."""
    table = pd.DataFrame(_table()["untested"])
    table["year"] = table.chapter.str[:4].astype(int)
    for column in ("says", "why"):
        table[column] = table[column].map(told)
    return table


def counts(table: pd.DataFrame) -> pd.DataFrame:
    """Return how many claims of the papers have which verdict, by year: a column a verdict.

    Args:
        table: As `tested` returns it; what the course asks of its own is left out.
    """
    named = table.loc[~table.own, ["year", "verdict"]]
    rest = untested().assign(verdict="not tested")[["year", "verdict"]]
    papers = pd.concat([named, rest], ignore_index=True)
    found = pd.crosstab(papers.year, papers.verdict)
    return found.reindex(columns=VERDICTS, fill_value=0)
