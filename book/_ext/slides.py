"""Slides of the chapters, from the pages of the built book: `make slides`.

A slide shows one thing of a chapter's core: a figure, a table, a piece of the network or of its
training, a question to guess at. First come the questions of the teacher's guide, last what to
remember.
"""

import sys
from pathlib import Path

from bs4 import BeautifulSoup

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


def deck(page: Path, guide: Path) -> str:
    """Return a chapter's slides as one HTML page, to lie in a folder beside `chapters`.

    Args:
        page: A built chapter, `_build/html/chapters/*.html`.
        guide: The built teacher's guide; sessions link to the chapters that they take.
    """
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    article = soup.find("article")
    for part in article.select("a.headerlink, .caption-number, script"):
        part.decompose()
    for picture in article.select("img[loading]"):  # a slide is measured before it is in sight
        for name in ("loading", "width", "height"):
            picture.attrs.pop(name, None)
    title = article.h1.get_text()
    cards = article.select(".ilsvrc-card")[:1]
    found = [_slide(title, *cards or article.find_all("p", limit=1), kind="title")]
    for session, questions in _asked(guide, page.name):
        found.append(_slide("Before we begin", questions, note=session))
    for section in article.section.find_all("section", recursive=False):
        heading = section.h2.get_text()
        if heading == "Going further":
            break
        found += [_slide(heading, one) for one in _shown(section)]
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


def _asked(guide: Path, name: str):
    """Return (session, list of questions) for each session of the guide that takes a chapter."""
    soup = BeautifulSoup(guide.read_text(encoding="utf-8"), "html.parser")
    for part in soup.select("a.headerlink"):
        part.decompose()
    for section in soup.select("article section:not(:has(section))"):
        ask = section.find("p", string="Ask before:")
        if ask and section.select(f'a[href$="chapters/{name}"]'):
            yield section.find(["h2", "h3"]).get_text(), ask.find_next_sibling("ul")


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


def main(html: Path) -> None:
    """Write the slides of every chapter that the guide gives a session, and of no other."""
    out = html / "slides"
    out.mkdir(exist_ok=True)
    guide = html / "book" / "teachers_guide.html"
    for page in sorted((html / "chapters").glob("*.html")):
        if any(_asked(guide, page.name)):
            (out / page.name).write_text(deck(page, guide), encoding="utf-8")
            print(out / page.name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
