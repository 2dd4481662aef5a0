"""Published numbers with their sources, read from ``facts.toml``: no chapter types one by hand."""

import difflib
import tomllib
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd

TABLE = Path(__file__).with_name("facts.toml")
CERTAINTIES = ("counted", "source", "transcribed", "measured")
UNITS = {
    "parameters": "parameters",
    "macs": "MACs",
    "activation_bytes": "bytes",
    "input": "pixels",
    "year": "",
    "top1_error": "%",
    "top5_error": "%",
}


class Fact(NamedTuple):
    """One published number.

    Attributes:
        value: the number.
        unit: its unit; errors are in percent.
        source: a key of ``book/references.bib``.
        certainty: one of `CERTAINTIES`, explained in ``facts.toml``.
    """

    value: float | int
    unit: str
    source: str
    certainty: str


@cache
def _table() -> dict:
    return tomllib.loads(TABLE.read_text(encoding="utf-8"))


@cache
def _facts() -> dict[str, Fact]:
    table = _table()
    facts = {key: Fact(**entry) for key, entry in table["fact"].items()}
    for net in table["network"]:
        for column in UNITS.keys() & net.keys():
            error = column.endswith("_error")
            source = net.get("errors_source", net["source"]) if error else net["source"]
            certainty = net["errors"] if error else net["counts"]
            facts[f"{net['key']}.{column}"] = Fact(net[column], UNITS[column], source, certainty)
    for entry in table["challenge"]:
        if entry["rank"] == 1 and not entry["outside_data"]:
            facts[f"challenge.{entry['year']}.top5_error"] = Fact(
                entry["top5_error"], "%", entry["source"], entry["certainty"]
            )
    return facts


def names() -> list[str]:
    """Return the names of all published numbers, sorted."""
    return sorted(_facts())


def fact(key: str) -> Fact:
    """Return one published number with its unit and source.

    Args:
        key: a name such as ``"alexnet.parameters"``, ``"vgg16.top5_error"``,
            ``"challenge.2012.top5_error"`` (the winner's entry, on the supplied images) or
            ``"human.top5_error"``.

    Returns:
        The fact. Errors are in percent, MACs a count rounded to three digits.

    Raises:
        KeyError: there is no such fact; the message names the nearest keys.
    """
    facts = _facts()
    if key not in facts:
        near = difflib.get_close_matches(key, facts, n=5, cutoff=0.4)
        hint = f"The nearest are {', '.join(near)}." if near else f"They stand in {TABLE.name}."
        raise KeyError(f"There is no published number called {key!r}. {hint}")
    return facts[key]


def value(key: str) -> float | int:
    """Return the bare value of :func:`fact`."""
    return fact(key).value


def challenge() -> pd.DataFrame:
    """Return the entries of the classification challenge, 2010 to 2017, best first in each year.

    Returns:
        One row an entry: year, team, network, top5_error (test set, percent), rank (1 won),
        nets (models averaged) and views (test views of each), both missing where the team did
        not say, convolutional, outside_data (learned from images beyond those supplied),
        source, certainty. An entry with outside data follows the one without.
    """
    frame = pd.DataFrame(_table()["challenge"])
    frame = frame.astype({"nets": "Int64", "views": "Int64"})
    columns = ["year", "team", "network", "top5_error", "rank", "nets", "views"]
    columns += ["convolutional", "outside_data", "source", "certainty"]
    return frame.sort_values(["year", "rank", "outside_data"])[columns].reset_index(drop=True)


def applications() -> pd.DataFrame:
    """Return what the documentation of `keras.applications` says of its networks.

    Returns:
        One row a network, index its name there: megabytes, top1 and top5 (accuracy on ILSVRC's
        validation set, percent; missing where it gave none), depth_2020 and depth (layers, as it
        counted them in 2020 and counts them today; missing where it gave none or it was not looked
        up), source, certainty.
    """
    frame = pd.DataFrame(_table()["application"]).set_index("name")
    columns = ["megabytes", "top1", "top5", "depth_2020", "depth", "source", "certainty"]
    return frame[columns].astype({"depth_2020": "Int64", "depth": "Int64"})


def networks() -> pd.DataFrame:
    """Return the networks of the course, with 1,000 classes, in order of year.

    Returns:
        One row a network, index its key (``"alexnet"``): name, year, team, input (pixels a side),
        parameters (those that learn), macs, activation_bytes (all layers' outputs for one image;
        missing where the course has not built the network), top1_error and top5_error (one network
        on the ILSVRC-2012 validation set, percent; missing where not published), views (test views
        averaged; 0 is dense evaluation of the whole image), source, errors_source, counts and
        errors (the certainty of each).
    """
    frame = pd.DataFrame(_table()["network"])
    frame["errors_source"] = frame["errors_source"].fillna(frame["source"])
    frame = frame.astype({"views": "Int64"}).set_index("key")
    columns = ["name", "year", "team", "input", "parameters", "macs", "activation_bytes"]
    columns += ["top1_error", "top5_error", "views", "source", "errors_source", "counts", "errors"]
    return frame.sort_values("year", kind="stable")[columns]
