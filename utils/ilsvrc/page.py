"""What every chapter shows in the same way: banner, record, claims, mistakes, a photograph.

The functions display HTML or return what a notebook draws. They know a chapter by its lab.
"""

import base64
import datetime
import html
import io
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown, display

from ilsvrc import backend, data, facts, ledger, profiles, publishing, records, vis
from ilsvrc.lab import Lab, duration
from ilsvrc.vis import style

plt.rcParams["legend.frameon"] = False  # in a chapter's own figures, too


class Claim(NamedTuple):
    """A claim of a paper, tested by two runs of a chapter.

    Attributes:
        says: The claim, as a row of the table.
        one: The run that should do better.
        other: The run it is set against.
        paper: By how many points of top-1 accuracy the paper found it better, where it says so.
        training: Whether the claim is about training error, as degradation is.
    """

    says: str
    one: str
    other: str
    paper: float | None = None
    training: bool = False


# Where and what


def banner(where: Lab | data.Dataset | None, profile: str | None = None) -> None:
    """Display what a page was executed on: data set, profile, backend, device, date.

    Args:
        where: The lab of a page that trains, the data set of one that does not, or None where a
            page only reads published records.
        profile: As for `Lab`; a lab knows its own.
    """
    lab = where if isinstance(where, Lab) else None
    dataset = lab.data if lab else where
    parts = [dataset.title if dataset else "no data: it trains nothing and reads published records"]
    parts.append(f"profile {lab.profile.name if lab else profiles.profile(profile).name}")
    parts += [f"Keras {keras.__version__} on {backend.name()}"] if lab else []
    parts += [backend.device(), datetime.date.today().isoformat()]
    text = f"This page was executed on {html.escape(' · '.join(parts))}."
    standin = dataset is not None and dataset.standin
    if standin:
        text += (
            " What it trains itself learns on a stand-in: ten photographs. A sample is a crop, its "
            "class is the photograph it comes from, and training and test are crops of the same "
            "ten. So its accuracy compares with nothing. With Imagenette (<code>ilsvrc data fetch "
            "imagenette2-160</code>) the same cells train on ImageNet's photographs."
        )
    display(HTML(f'<div class="ilsvrc-banner{" standin" * standin}">{text}</div>'))


def before_you_run(lab: Lab, run: str | None = None) -> None:
    """Display what a run of this page will do, and how long it will take, before it is run.

    Args:
        lab: The page's lab.
        run: One of the chapter's runs; None: the headline.
    """
    name = run or lab.headline
    plan, cost = lab.plan(name), lab.expectation(name)
    dataset = lab.dataset(plan)
    rows = {
        "Profile": lab.profile.name,
        "Device": f"{backend.device()}, Keras {keras.__version__} on {backend.name()}",
        "Data": f"{dataset.title}: {len(dataset.x_train):,} training images, "
        f"{len(dataset.x_val):,} to test on, {len(dataset.class_names)} classes",
        "Network": f"{plan.network}, {plan.size} x {plan.size} px, {cost['parameters']:,} "
        f"parameters, {cost['macs'] / 1e6:,.0f} million MACs an image",
        "Training": f"{_epochs(plan.epochs)} in batches of {plan.batch}",
        "Expect": f"about {duration(cost['seconds'])} and {cost['bytes'] / 2**30:.1f} GiB",
    }
    body = "".join(f"<dt>{k}</dt><dd>{html.escape(v)}</dd>" for k, v in rows.items())
    display(HTML(f'<div class="ilsvrc-box"><p>Before you press Run</p><dl>{body}</dl></div>'))


def _epochs(count: int) -> str:
    return "1 epoch" if count == 1 else f"{count} epochs"


# The published run


def published(record: records.Record | None) -> Markdown:
    """Return the sentence that leads a page: which network, on what, how long, how good."""
    if record is None:
        return Markdown(
            "**The published run** has no record as yet. What needs it is missing on this page."
        )
    f = record.facts
    squashed = ", squashed" if f["data"]["squashed"] and "squash" not in f["data"]["title"] else ""
    seeds = "" if f["top1"]["seeds"] == 1 else f" (mean of {f['top1']['seeds']} seeds)"
    views = f["views"]
    ten = f", **{views['10']:.1%}** averaged over ten" if "10" in views else ""
    return Markdown(
        f"**The published run** is `{f['network']['name']}`, {f['network']['parameters']:,} "
        f"parameters, trained on {f['data']['title']}{squashed} at {f['data']['size']} px for "
        f"{_epochs(f['recipe']['epochs'])} ({duration(f['cost']['seconds'])} on "
        f"{f['device']['name']}, {f['backend']['name']}, {f['date']}). On the "
        f"{f['data']['val']:,} validation images its top-1 accuracy is "
        f"**{f['top1']['mean']:.1%}** from one view{ten}{seeds}.{_earlier([record])}"
    )


def complete(runs: Iterable[records.Record | None]) -> bool:
    """Return whether all runs of a picture have records; else say in its place that some have not.

    Args:
        runs: The records of the picture's runs, None for one that has none.
    """
    runs = list(runs)
    missing = runs.count(None)
    if missing:
        which = "has" if missing == 1 else "have"
        display(Markdown(
            f"**A picture is missing here.** Of the {len(runs)} runs that it is drawn from "
            f"{missing} {which} no record as yet."
        ))  # fmt: skip
    return not missing


def which(lab: Lab, claims: str | None = None):
    """Return the small table that tells a chapter's runs apart, a pandas Styler.

    Args:
        lab: The page's lab.
        claims: A run that stands for those that test the claims; None: the chapter has none.
    """
    record, plan = lab.published(lab.headline), lab.plan(lab.headline)
    dataset, papers = lab.dataset(plan), plan.run.build()
    paper = {
        "which": "the paper's",
        "network": papers.name,
        "parameters": ledger.totals(papers)["parameters"],
        "images": "ImageNet",
        "px": plan.run.size,
    }
    own = {
        "which": "this page's own",
        "network": plan.network,
        "parameters": lab.expectation(lab.headline)["parameters"],
        "images": dataset.title,
        "px": plan.size,
        "epochs": plan.epochs,
        "seeds": len(plan.seeds),
        "where": f"here, {backend.name()}",
    }
    rows = [paper, *([_row("the published run", record)] if record else [])]
    if claims and lab.published(claims):
        rows.append(_row("the claims' runs", lab.published(claims)))
    table = pd.DataFrame([*rows, own], dtype=object).where(lambda t: t.notna(), "")
    broken = {"overflow-wrap": "anywhere", "min-width": "7rem"}  # long names, on a narrow page
    return table.style.format({"parameters": "{:,}"}).set_properties(["network"], **broken).hide()


def _earlier(found: list[records.Record]) -> str:
    """Return a sentence that names the runs whose recipe has changed since, or nothing."""
    names = [r["run"] for r in found if publishing.present_key(r) != r["recipe"]["key"]]
    return f" Trained by an earlier recipe: {', '.join(sorted(set(names)))}." if names else ""


def _row(which: str, record: records.Record) -> dict:
    f = record.facts
    return {
        "which": which,
        "network": f["network"]["name"],
        "parameters": f["network"]["parameters"],
        "images": f["data"]["title"],
        "px": f["data"]["size"],
        "epochs": f["recipe"]["epochs"],
        "seeds": f["top1"]["seeds"],
        "where": f"{f['device']['name']}, {f['backend']['name']}",
    }


# Claims


def verdicts(evidence: dict, claims: list[Claim]) -> pd.DataFrame:
    """Return a chapter's claims with what their runs say, those that have both runs.

    Args:
        evidence: `Lab.evidence`: run -> record or None.
        claims: The chapter's claims.

    Returns:
        One row a claim: "claim", "paper (points)" where a paper says so, and the columns of
        `records.verdict`, of validation images or, for claims about it, of training.
    """
    rows = []
    for claim in claims:
        one, other = evidence.get(claim.one), evidence.get(claim.other)
        if one and other:
            compare = records.compare_training if claim.training else records.compare
            measured = "training" if claim.training else "validation"
            row = {"claim": claim.says, "measured in": measured, "paper (points)": claim.paper}
            rows.append(row | compare(one, other))
    table = pd.DataFrame(rows)
    if len(table) and table["paper (points)"].isna().all():
        table = table.drop(columns="paper (points)")
    if len(table) and table["measured in"].nunique() == 1:
        table = table.drop(columns="measured in")
    return table


def claims_table(lab: Lab, claims: list[Claim]) -> None:
    """Display a chapter's claims with their verdicts, their runs, and which are missing."""
    evidence = lab.evidence
    table = verdicts(evidence, claims)
    if len(table):
        display(table.style.format(precision=1, na_rep="–").hide())
    used = [evidence[name] for claim in claims for name in (claim.one, claim.other)]
    there = [record for record in used if record]
    *lengths, last = map(str, sorted({r["recipe"]["epochs"] for r in there})) if there else [""]
    lengths = f"{', '.join(lengths)} and {last}" if lengths else last
    kinds = {f"{r['data']['title']} at {r['data']['size']} px" for r in there}
    text = f"{'; '.join(sorted(kinds))}; {lengths} epochs" if there else ""
    missing = sorted({n for c in claims for n in (c.one, c.other) if not evidence[n]})
    more = f" Without a record as yet: {', '.join(missing)}." if missing else ""
    more += "" if lab.claims else _earlier(there)
    display(Markdown(f"Data and length of the claims' runs: {text}.{more}" if text else more))


# Tables that a reader can sort


def sortable(table: pd.DataFrame, caption: str, formats: dict[str, str] | None = None) -> HTML:
    """Return a table that a reader can sort by any column (``book/_static/sort.js``).

    Args:
        table: Its first column names the rows. Cells are numbers, text, or `HTML`.
        caption: What the table holds, for those who hear it read out.
        formats: How a column's numbers are written, such as "{:.1f}". What is missing is a dash
            and comes last, however the table is sorted.
    """
    formats = formats or {}

    def cell(name, value, first):
        missing = value is None or value is pd.NA or value != value
        number = isinstance(value, int | float | np.number) and not missing
        text = "–" if missing else formats.get(name, "{}").format(value) if number else value
        text = text.data if isinstance(text, HTML) else html.escape(text)
        key = f' data-sort="{value}"' if number else ' data-sort=""' if missing else ""
        kind = 'th scope="row"' if first else "td"
        return f"<{kind}{key}>{text}</{kind[:2]}>"

    first, *_ = table.columns
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in table.columns)
    rows = [
        "".join(cell(name, value, name == first) for name, value in row.items())
        for row in table.astype(object).to_dict("records")
    ]
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    wordy = " wordy" * any(len(str(name)) > 40 for name in table[first])
    return HTML(
        f'<table class="ilsvrc-sortable{wordy}"><caption>{html.escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


# Questions and answers


def answer(text: str, figure=None, title: str = "The answer") -> None:
    """Display a computed answer, folded away until the reader opens it.

    Args:
        text: HTML.
        figure: A Matplotlib figure that belongs to it.
        title: What to click on.
    """
    picture = f'<img alt="{html.escape(title)}" src="{_png(figure)}">' if figure else ""
    display(HTML(f"<details><summary>{title}</summary><p>{text}</p>{picture}</details>"))


def _figure(figure, caption: str, alt: str) -> None:
    """Display a figure with its caption as the book sets those of the cells."""
    text = (
        f'<figcaption><p><span class="caption-text">{html.escape(caption)}</span></p></figcaption>'
    )
    image = f'<img alt="{html.escape(alt)}" src="{_png(figure)}">'
    display(HTML(f'<figure class="align-default">{image}{text}</figure>'))


def _png(figure) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110, bbox_inches="tight")
    plt.close(figure)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def ten_views(lab: Lab, trained) -> None:
    """Print accuracies from one view and averaged over ten, of this page's and the published run.

    Args:
        lab: The page's lab.
        trained: The `training.Trained` of the page's own run.
    """
    one, ten = trained.history["val_accuracy"][-1], lab.test(trained, "ten")
    record = lab.published(lab.headline)
    print(f"this page's run: one view {one:.1%}, ten {ten:.1%}")
    if record:
        views = record["views"]
        print(f"the published run: one view {views['1']:.1%}, ten {views['10']:.1%}")


def photograph(lab: Lab, trained, file: str | Path | None = None, best: int = 3) -> None:
    """Print what networks make of a photograph: the page's own, and for the temple the published.

    Args:
        lab: The page's lab.
        trained: The `training.Trained` of the page's own run.
        file: A photograph of the reader's; None: the temple that every chapter shows.
        best: How many answers are printed.

    Raises:
        ValueError: There is no such file, or it is no picture; the message says which.
    """
    image = data.square(_opened(file), trained.net.input_shape[1])
    logits = trained.model.predict(trained.prepare(image[None]), verbose=0)
    logits = logits[0] if isinstance(logits, list) else logits
    odds = keras.ops.convert_to_numpy(keras.ops.softmax(logits))[0].astype(float)
    record = lab.published(lab.headline)
    told = {"this page's network": (odds, trained.dataset.class_names)}
    if file is None and record:
        names = record["data"]["class_names"]
        told["the published network"] = record.arrays["probe/probabilities"].astype(float), names
    elif trained.dataset.standin:
        print(
            "(The page's network knows ten photographs and nothing else; train it on Imagenette.)"
        )
    for who, (odds, names) in told.items():
        print(f"{file or 'the temple'}, says {who}:")
        for i in np.argsort(-odds)[:best]:
            print(f"{odds[i]:8.1%}  {names[i]}")


def _opened(file):
    from PIL import Image, UnidentifiedImageError

    if file is None:
        return data.open_photograph("temple")
    try:
        return Image.open(file)
    except FileNotFoundError as error:
        raise ValueError(
            f"There is no file {str(file)!r} here. Upload your photograph beside this notebook, or "
            "give its whole path."
        ) from error
    except UnidentifiedImageError as error:
        raise ValueError(f"{str(file)!r} is no picture that Pillow can read.") from error


def own_run(trained) -> None:
    """Display the curves of the run that a page has just trained.

    Args:
        trained: The `training.Trained` of the page's own run.
    """
    heads = isinstance(trained.net.output, list)
    _figure(
        vis.curves({"this page's run": trained.history}),
        "The run of this page, on the machine that built it."
        + " Drawn is the main output, without the auxiliary ones." * heads,
        "Loss and accuracy by epoch for the network trained while this page was made.",
    )


def mistakes(lab: Lab, trained) -> None:
    """Display a network's answers where they teach something.

    On real photographs these are the most confident mistakes of the page's own run. On the
    stand-in, where a mistake is a crop of one sky taken for another, it is what the published
    network makes of the temple, which belongs to none of its classes.

    Args:
        lab: The page's lab.
        trained: The `training.Trained` of the page's own run.
    """
    dataset, record = trained.dataset, lab.published(lab.headline)
    if dataset.standin and record:
        _figure(
            temple(record),
            "What the published run makes of a photograph of none of its classes.",
            "The temple, and beside it bars: the published network's probability for each class.",
        )
        return
    _figure(
        vis.mistakes(dataset.x_val, dataset.y_val, trained.probabilities, dataset.class_names),
        "The most confident mistakes of this page's run.",
        "Photographs, each with the network's wrong answer and its probability.",
    )


@plt.rc_context(style.STYLE)
def temple(record: records.Record):
    """Return a figure of the temple beside a published network's probabilities for its classes."""
    names, odds = record["data"]["class_names"], record.arrays["probe/probabilities"].astype(float)
    figure, (left, right) = style.subplots(1, 2, 2.6, width_ratios=[1, 1.6])
    left.imshow(data.probe(256))
    left.set_axis_off()
    bars = right.barh(names, 100 * odds, color="#D55E00")
    right.bar_label(bars, [f"{share:.0%}" for share in odds], fontsize=8, padding=2)
    right.invert_yaxis()
    right.set(xlabel="probability (%)", xlim=(0, 110))
    return figure


# The end of a chapter


@plt.rc_context(style.STYLE)
def challenge(year: int):
    """Return a figure of the winners' errors from 2010 to a chapter's year, that year in colour.

    Args:
        year: Of the chapter's network.
    """
    table = facts.challenge()
    won = (table["rank"] == 1) & ~table.outside_data & (table.year <= year)
    winners = table[won].set_index("year").sort_index()
    figure, axes = style.subplots(1, 1, 2.4)
    colours = ["#D55E00" if y == year else "#9aa5b1" for y in winners.index]
    bars = axes.bar(winners.index.astype(str), winners.top5_error, color=colours)
    axes.bar_label(bars, [f"{error:.1f} %" for error in winners.top5_error], fontsize=8)
    axes.set(ylabel="top-5 error (%)", ylim=(0, 1.15 * winners.top5_error.max()))
    return figure
