"""Slides of the chapters, from the pages of the built book: `make slides`.

A slide shows one thing of a chapter's core: a figure, a table, a piece of the network or of its
training, a question to guess at. First come the questions of the teacher's guide, last what to
remember. A session that would have no slides is an error, and so is a page that was not executed.
"""

import re
import sys
from pathlib import Path

from bs4 import BeautifulSoup

LAST = "Three sentences to remember"
STYLES = ("theme.css", "pydata-sphinx-theme.css", "pygments.css", "course.css")
PAGE = """\
<!doctype html>
<html lang="en" data-theme="light">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}: slides</title>
{head}
<link rel="stylesheet" href="../_static/slides.css">
</head>
<body class="slides" tabindex="0">
{slides}
<script src="../_static/slides.js"></script>
</body>
</html>
"""


def deck(page: Path, asked: list) -> str:
    """Return a chapter's slides as one HTML page, to lie in a folder beside `chapters`.

    Args:
        page: A built chapter, `_build/html/chapters/*.html`.
        asked: (session, list of questions) of each session that takes it.

    Raises:
        ValueError: The page has cells, and none was executed: its figures are missing.
    """
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    article = soup.find("article")
    if article.select(".cell") and not article.select(".cell_output"):
        raise ValueError(f"{page} was built without executing it, so it has no figures: make book")
    for part in article.select("a.headerlink, .caption-number, script"):
        part.decompose()
    for picture in article.select("img[loading]"):  # a slide is measured before it is in sight
        for name in ("loading", "width", "height"):
            picture.attrs.pop(name, None)
    title = article.h1.get_text()
    cards = article.select(".ilsvrc-card")[:1]
    found = [_slide(title, *cards or article.find_all("p", limit=1), kind="title")]
    for session, questions in asked:
        found.append(_slide("Before we begin", questions, note=session))
    for section in article.section.find_all("section", recursive=False):
        heading = section.h2.get_text()
        if heading == "Going further":
            break
        found += [_slide(heading, one) for one in _shown(section)]
        if heading == LAST:
            break
    text = "\n".join(found)
    return PAGE.format(title=title, head=_head(soup, 'class="math' in text), slides=text)


def _shown(section):
    """Return what a section shows: visible code, figures, tables, questions, lists."""
    found = []
    for part in section.find_all(recursive=False):
        classes = part.get("class", [])
        if "cell" in classes:
            code = part.find(class_="cell_input") if "tag_model" in classes else None
            if code and not code.find_parent("details"):
                found.append(code)
            found += part.select(".cell_output figure, .cell_output > .output.text_html > table")
        elif part.name in ("details", "ol", "figure"):
            found.append(part)
    return found


def sessions(guide: Path) -> list[tuple]:
    """Return (title, list of questions, names of pages) of each session of the built guide.

    Raises:
        ValueError: A session links to no chapter, or asks nothing: it would have no slides.
    """
    soup = BeautifulSoup(guide.read_text(encoding="utf-8"), "html.parser")
    for part in soup.select("a.headerlink"):
        part.decompose()
    found = []
    for heading in soup.find_all("h3", string=re.compile(r"^\d+\. ")):
        section, title = heading.parent, heading.get_text()
        pages = [Path(a["href"]).name for a in section.select('a[href*="chapters/"]')]
        ask = section.find("p", string="Ask before:")
        questions = ask and ask.find_next_sibling()
        if not pages or not questions or questions.name != "ul":
            lacks = "a list below 'Ask before:'" if pages else "a link to its chapter"
            raise ValueError(f"book/teachers_guide.md: session {title!r} lacks {lacks}")
        found.append((title, questions, pages))
    return found


def _slide(heading, *parts, kind="", note="") -> str:
    shown = "\n".join(str(part) for part in parts)
    note = f"<p>{note}</p>" if note else ""
    return f'<section class="{kind}"><h2>{heading}</h2>{note}\n<div>{shown}</div></section>'


def _head(soup, with_math: bool) -> str:
    """Return the page's own styles and icon, and its formulas' program where it is wanted."""
    links = [
        link
        for link in soup.select('link[rel="icon"], link[rel="stylesheet"]')
        if link["rel"] == ["icon"] or Path(link["href"].split("?")[0]).name in STYLES
    ]
    scripts = [
        script
        for script in soup.select("script")
        if with_math and "mathjax" in f"{script.get('src')} {script.string}".lower()
    ]
    return "\n".join(str(one) for one in [*links, *scripts])


def write(html: Path) -> list[str]:
    """Write the slides of every chapter that a session takes, and return what is in the way.

    Raises:
        ValueError: A session of the guide would have no slides.
    """
    out = html / "slides"
    out.mkdir(exist_ok=True)
    planned, wrong = sessions(html / "book" / "teachers_guide.html"), []
    for page in sorted({name for _, _, pages in planned for name in pages}):
        asked = [(title, questions) for title, questions, pages in planned if page in pages]
        try:
            (out / page).write_text(deck(html / "chapters" / page, asked), encoding="utf-8")
            print(out / page)
        except ValueError as error:
            wrong.append(str(error))
    return wrong


if __name__ == "__main__":
    try:
        sys.exit("\n".join(write(Path(sys.argv[1]))) or None)
    except ValueError as error:
        sys.exit(str(error))
