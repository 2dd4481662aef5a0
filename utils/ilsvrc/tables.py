"""Tables of what a chapter measures without a training of its own, kept beside the records."""

import datetime
import io
import json
import time
from pathlib import Path

from ilsvrc import paths
from ilsvrc.hints import did_you_mean


def place(chapter: str, name: str) -> Path:
    """Return where a published table is or would be."""
    return paths.RESULTS / chapter / f"{name}.csv"


def measure(chapter: str, name: str) -> Path:
    """Measure a chapter's table and publish it, with how it came about in its first line.

    Args:
        chapter: Such as "pretrained"; its `measured` holds functions by name, each of which returns
            one dictionary a row.
        name: Which of them.

    Returns:
        The file, `results/<chapter>/<name>.csv`; it is written whole or not at all.

    Raises:
        ValueError: The chapter has no such table, or it came out empty.
    """
    import pandas as pd

    from ilsvrc import backend, chapters, records, training

    known = getattr(chapters.chapter(chapter), "measured", {})
    if name not in known:
        raise ValueError(
            f"{chapter} measures no table {name!r}.{did_you_mean(name, known)} "
            f"It measures: {', '.join(known) or 'none'}."
        )
    commit, began = training.commit(), time.perf_counter()  # before anybody changes a file
    rows = known[name]()
    if not rows:
        raise ValueError(f"{chapter} measured no row of {name!r}; nothing is written.")
    how = {
        "commit": commit,
        "date": datetime.date.today().isoformat(),
        "backend": backend.name(),
        "versions": backend.versions(),
        "device": backend.device(),
        "seconds": round(time.perf_counter() - began),
    }
    text = f"# {json.dumps(how)}\n" + pd.DataFrame(rows).to_csv(index=False, lineterminator="\n")
    records.write_whole(place(chapter, name), lambda file: file.write(text.encode()))
    return place(chapter, name)


def read(chapter: str, name: str):
    """Return a published table as a `pandas.DataFrame`, or None.

    How it came about (commit, date, backend, versions, device, seconds) stands in its `attrs`.

    Raises:
        ValueError: The file is damaged; the message says which command makes it anew.
    """
    import pandas as pd

    file = place(chapter, name)
    if not file.exists():
        return None
    try:
        first, rest = file.read_text(encoding="utf-8").split("\n", 1)
        table = pd.read_csv(io.StringIO(rest))
        table.attrs = json.loads(first.removeprefix("# "))
    except (ValueError, OSError) as error:
        raise ValueError(
            f"{file} is damaged ({error}). Take it from the repository again, or measure it: "
            f"ilsvrc measure {chapter} {name}"
        ) from error
    return table
