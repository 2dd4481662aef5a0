"""A new chapter's first draft: it runs and passes the tests, and its author rewrites it."""

import re
from pathlib import Path

from ilsvrc import chapters, notebooks, paths

TEMPLATE = Path(__file__).with_name("template")
WRITTEN = {"chapters/{chapter}.md": "chapter.md", "tests/test_{name}.py": "tests.txt"}
# Where the course lists its chapters: file, the text before which a line goes in, that line.
LISTED = [
    ("_toc.yml", "  - caption: Using them\n", "      - file: chapters/{chapter}\n"),
    (
        "book/welcome.md",
        "\n[The scoreboard](../chapters/scoreboard.md) lists",
        "| {year} | {title} | a draft | not yet told | [{title}](../chapters/{chapter}.md) |\n",
    ),
    (
        "book/teachers_guide.md",
        "## What to watch for\n",
        "### {title}, a first draft\n\n[{title}](../chapters/{chapter}.md)\n\n",
    ),
    ("chapters/compare.md", "}\ntimed = [key for", '    "{name}": None,  # a first draft\n'),
    ("tests/test_saving.py", "}\nBUILDERS = ", '    "{chapter}": ["slim_{name}"],\n'),
    (
        "tests/test_keys.py",
        '}\n\n\n@pytest.mark.usefixtures("counted")',
        '    "{chapter}": [("rate=2e-3", "rate=3e-3"), (\'"conv4": 512\', \'"conv4": 384\')],\n',
    ),
]


def new_chapter(year: int, name: str) -> list[Path]:
    """Lay out a chapter that passes the tests: page, notebook, tests, and its place in the lists.

    Args:
        year: The network's, from 2010: the challenge's first.
        name: The builder's, such as "alexnet": up to 16 lower case letters, digits, underscores.

    Returns:
        The files that were written or changed.

    Raises:
        ValueError: The name or year will not do, there is such a chapter, or a list of the course
            is no longer as `LISTED` says; nothing is written then.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{,15}", name) or not 2010 <= year <= 2099:
        raise ValueError(
            "A chapter is called by a year from 2010, the challenge's first, and a name of up to "
            f"16 lower case letters, digits and underscores; this is {year} {name!r}."
        )
    taken = [one for one in chapters.names() if one.partition("_")[2] == name]
    if taken:
        raise ValueError(f"There is a chapter of that name: {taken[0]}. Take another name.")
    words = {"chapter": f"{year}_{name}", "year": str(year), "name": name}
    words["title"] = name.replace("_", " ").capitalize()

    def filled(text):
        return re.sub(r"\{(chapter|year|name|title)\}", lambda found: words[found[1]], text)

    written = {}
    for file, source in WRITTEN.items():
        written[filled(file)] = filled((TEMPLATE / source).read_text(encoding="utf-8"))
    for file, before, line in LISTED:
        text = (paths.ROOT / file).read_text(encoding="utf-8")
        if text.count(before) != 1:
            raise ValueError(f"{file} has not once {before!r}: mend LISTED in {__name__}.")
        written[file] = text.replace(before, filled(line) + before)
    for file, text in written.items():
        (paths.ROOT / file).write_text(text, encoding="utf-8")
    notebooks.generate(paths.ROOT)
    return [paths.ROOT / file for file in (*written, f"notebooks/{words['chapter']}.ipynb")]
