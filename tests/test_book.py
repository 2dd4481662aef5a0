"""The book's machinery, tried on a mini book: what runs again, where links lead, what fails."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from ilsvrc import notebooks, paths

pytestmark = pytest.mark.tools
bs4 = pytest.importorskip("bs4", reason="the book's tools are not installed here")

HEADER = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---
"""
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
FORK = "a-school/its-course"  # whose one line in _config.yml everything follows
NIGHT = json.dumps([
    {
        **{"chapter": name, "backend": "jax", "profile": "laptop", "date": "2026-01-02"},
        **{"minutes": 3.0, "versions": "jax 1, Keras 3", "device": "a CPU", "green": green},
        "last_green": "2026-01-02" if green else None,
    }
    for name, green in {"2012_alexnet": False, "ilsvrc": True}.items()
])  # fmt: skip
SHOW = f"from IPython.display import Image\n\nImage({PIXEL!r})"
CHAPTERS = ["chapters/2012_alexnet", "chapters/ilsvrc", "chapters/scoreboard"]


def page(title, *cells):
    """Return a tiny notebook; a cell is its code, or its options and its code."""
    text = [HEADER, f"# {title}\n\nSome prose.\n"]
    for cell in cells:
        options, code = cell if isinstance(cell, tuple) else ("", cell)
        text.append(f"```{{code-cell}} python3\n{options}{code}\n```\n")
    return "\n".join(text)


def build(folder, **environment):
    """Build the book in a folder as `make book` does, and return the finished process."""
    settings = os.environ | {"ILSVRC_PROFILE": "smoke", "NO_COLOR": "1"} | environment
    settings.pop("ILSVRC_DATA", None)
    command = [Path(sys.executable).with_name("jupyter-book"), "build", "-W", "--keep-going", "."]
    return subprocess.run(
        command, cwd=folder, env=settings, text=True, capture_output=True, timeout=300
    )


def executed(result):
    """Return the names of the pages that a build executed."""
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    said = re.findall(r"(\w+/\w+)\.md: Executed notebook", result.stdout + result.stderr)
    return sorted(said)


@pytest.fixture(scope="module")
def mini(tmp_path_factory):
    """Build a book of the real settings and tiny pages, which tests only read."""
    folder = tmp_path_factory.mktemp("mini")
    shutil.copy(paths.CONTENTS, folder)
    settings = paths.SETTINGS.read_text()
    assert settings.count(notebooks.REPOSITORY) == 1
    fork = settings.replace(notebooks.REPOSITORY, f"https://github.com/{FORK}")
    (folder / "_config.yml").write_text(fork)
    for name in ["_ext", "_static"]:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(paths.ROOT / "book" / name, folder / "book" / name, ignore=ignored)
    for name in ["chapters", "notebooks", "results/2012_alexnet", "utils/ilsvrc"]:
        (folder / name).mkdir(parents=True)
    for name in re.findall(r"(?:root|file): (\S+)", (folder / "_toc.yml").read_text()):
        (folder / f"{name}.md").write_text(f"# {name}\n\nSee $x^2$.\n")
    options = ":mystnb: {image: {alt: A single pixel}, figure: {caption: A pixel. It is small.}}\n"
    (folder / "book" / "how_to_use.md").write_text(
        "# How\n\n| {{ book_online }} |\n|---|\n| {{ first_in_colab }} |\n"
    )
    for name in CHAPTERS:
        (folder / f"{name}.md").write_text(page(name, (options, SHOW)))
    (folder / "book" / "figures.md").write_text("# Index\n\n```{figures}\n```\n")
    (folder / "book" / "report.md").write_text("# Every night\n\n```{nightly}\n```\n")
    for name in ["2012_alexnet", "ilsvrc"]:
        (folder / "notebooks" / f"{name}.ipynb").write_text('{"cells": []}')
    cite = "# B\n\n{cite}`someone`\n\n```{bibliography}\n```\n"
    (folder / "book" / "bibliography.md").write_text(cite)
    entry = "@misc{someone, author = {Some One}, title = {A thing}, year = 2012}\n"
    (folder / "book" / "references.bib").write_text(entry)
    for name in ["README.md", ".pytest_cache/README.md"]:  # are no pages
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("# Not a page\n")
    (folder / "utils" / "ilsvrc" / "module.py").write_text("a = 1\n")
    (folder / "results" / "2012_alexnet" / "alexnet.json").write_text("{}\n")
    assert executed(build(folder)) == CHAPTERS
    return folder


@pytest.fixture
def book(mini, tmp_path):
    """Return a copy of the built mini book that a test may change."""
    return Path(shutil.copytree(mini, tmp_path / "book"))


@pytest.fixture
def course(monkeypatch):
    """Return the book's Sphinx extension as a module."""
    monkeypatch.syspath_prepend(str(paths.ROOT / "book" / "_ext"))
    import course

    monkeypatch.setenv("ILSVRC_PROFILE", "laptop")
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    return course


def append(path, text):
    """Add text to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text((path.read_text() if path.exists() else "") + text)


# What runs again


@pytest.mark.slow
def test_builds_execute_what_changed_and_nothing_else(book):
    assert executed(build(book)) == []
    append(book / "chapters" / "ilsvrc.md", "\nMore prose.\n")
    assert executed(build(book)) == []
    assert "More prose." in (book / "_build/html/chapters/ilsvrc.html").read_text()
    append(book / "results" / "2012_alexnet" / "alexnet.json", "\n")
    append(book / "build" / "nightly.json", NIGHT)
    assert executed(build(book)) == ["chapters/2012_alexnet", "chapters/scoreboard"]
    report = bs4.BeautifulSoup((book / "_build/html/book/report.html").read_text(), "html.parser")
    [red] = report.select("article td.red")
    assert red.get_text().startswith("failed on 2026-01-02; last green: never yet")
    assert "2026-01-02, 3 min" in report.article.get_text()


@pytest.mark.parametrize(
    ("change", "pages"),
    [
        ("utils/ilsvrc/module.py", CHAPTERS),
        ("utils/ilsvrc/vis/new.py", CHAPTERS),
        ("results/2012_alexnet/tanh.json", ["chapters/2012_alexnet", "chapters/scoreboard"]),
        ("results/2014_vgg/vgg.json", ["chapters/scoreboard"]),
        ("images/imagenette2-160/train/tench/1.JPEG", ["chapters/2012_alexnet", "chapters/ilsvrc"]),
        ("images/imagenette2-160/train/tench/2.JPEG", ["chapters/2012_alexnet", "chapters/ilsvrc"]),
        ("README.md", []),
        ("utils/ilsvrc/__pycache__/module.pyc", []),
    ],
)
def test_a_digest_changes_with_what_the_page_depends_on(
    course, tmp_path, monkeypatch, change, pages
):
    monkeypatch.setenv("ILSVRC_DATA", str(tmp_path / "images"))
    append(tmp_path / "utils" / "ilsvrc" / "module.py", "a = 1\n")
    append(tmp_path / "images" / "imagenette2-160" / "train" / "tench" / "1.JPEG", "pixels")
    before = {name: course.digest(tmp_path, name) for name in CHAPTERS}
    append(tmp_path / change, "other")
    assert [n for n in CHAPTERS if course.digest(tmp_path, n) != before[n]] == pages


@pytest.mark.parametrize("page", ["compare", "replication"])
def test_the_pages_that_compare_run_again_with_records_and_code_of_any_chapter(
    course, tmp_path, page
):
    (tmp_path / "chapters").mkdir()
    chapter = tmp_path / "chapters" / "2099_new.md"
    code = f"{HEADER}\n```{{code-cell}} python3\n:tags: [runs]\n\ntested = []\n```\n"
    chapter.write_text(code)
    seen = [course.digest(tmp_path, f"chapters/{page}")]
    append(tmp_path / "results" / "2099_new" / "one.json", "{}")
    seen.append(course.digest(tmp_path, f"chapters/{page}"))
    chapter.write_text(code.replace("[]", "[1]"))
    os.utime(chapter, ns=(0, 0))
    seen.append(course.digest(tmp_path, f"chapters/{page}"))
    assert len(set(seen)) == 3
    append(chapter, "\nMore prose.\n")
    assert course.digest(tmp_path, f"chapters/{page}") == seen[-1]


@pytest.mark.parametrize(("name", "value"), [("ILSVRC_PROFILE", "smoke"), ("KERAS_BACKEND", "jax")])
def test_a_digest_changes_with_profile_and_backend(course, tmp_path, monkeypatch, name, value):
    before = course.digest(tmp_path, CHAPTERS[0])
    assert course.digest(tmp_path, CHAPTERS[0]) == before
    monkeypatch.setenv(name, value)
    assert course.digest(tmp_path, CHAPTERS[0]) != before


def test_a_digest_changes_with_the_versions(course, tmp_path, monkeypatch):
    before = course.digest(tmp_path, CHAPTERS[0])
    monkeypatch.setattr(course.metadata, "version", lambda name: "0")
    assert course.digest(tmp_path, CHAPTERS[0]) != before


# What fails the build


@pytest.mark.slow
def test_a_broken_notebook_fails_the_build(book):
    shutil.rmtree(book / "_build" / "html")
    (book / CHAPTERS[0]).with_suffix(".md").write_text(page("Broken", "1 / 0"))
    result = build(book)
    assert result.returncode != 0
    assert "ZeroDivisionError" in result.stderr and "2012_alexnet" in result.stderr
    left = book / "_build" / "html" / "_static"  # a file of that name would break the next build
    assert left.is_dir() or not left.exists()


@pytest.mark.slow
def test_a_picture_without_a_text_fails_the_build_and_is_named(book):
    (book / CHAPTERS[1]).with_suffix(".md").write_text(page("Silent", "1 + 1", SHOW))
    result = build(book)
    assert result.returncode != 0
    assert "chapters/ilsvrc.md: cell 2 (from IPython.display import Image)" in result.stderr


@pytest.mark.parametrize(
    ("picture", "silent"),
    [
        ('<img src="a.png">', True),
        ('<img src="a.png" alt="  ">', True),
        ('<img src="a.png" alt="_images/0123abcd.png">', True),
        ('<img src="a.png" alt="../_images/0123abcd.png">', True),
        ('<img src="a.png" alt="Edges and colour blobs">', False),
        ("<svg><rect/></svg>", True),
        ("<svg><title>  </title></svg>", True),
        ('<svg aria-label="Eight layers"><svg/></svg>', False),
        ("<svg><title>Eight layers</title></svg>", False),
        ('<svg aria-hidden="true"></svg>', False),
    ],
)
def test_which_pictures_are_silent(course, tmp_path, picture, silent):
    html = f'<article><div class="cell"><div class="cell_output">{picture}</div></div></article>'
    (tmp_path / "page.html").write_text(html)
    assert bool(course.silent_pictures(tmp_path / "page.html")) == silent


# Where links lead


def test_launch_links_point_at_notebooks_that_exist(mini):
    for name in CHAPTERS:
        links = launch_links(mini / "_build" / "html" / f"{name}.html")
        if name == "chapters/scoreboard":  # has no notebook here
            assert links == {}
            continue
        assert set(links) == {"Colab", "Binder", "JupyterHub"}
        for path in links.values():
            assert path == f"notebooks/{Path(name).name}.ipynb"
            assert (mini / path).is_file()
    assert launch_links(mini / "_build" / "html" / "book" / "how_to_use.html") == {}


def test_the_pages_links_to_the_book_and_to_colab_follow_the_setting(mini):
    page = bs4.BeautifulSoup((mini / "_build/html/book/how_to_use.html").read_text(), "html.parser")
    owner, name = FORK.split("/")
    assert [link["href"] for link in page.select("article table a")] == [
        f"https://{owner}.github.io/{name}/",
        f"https://colab.research.google.com/github/{FORK}/blob/main/notebooks/2012_alexnet.ipynb",
    ]


def test_the_readme_links_to_the_book_and_to_colab_of_the_setting():
    """A fork that changes the setting is told here which two links are left to change."""
    text = (paths.ROOT / "README.md").read_text(encoding="utf-8")
    owner, name = notebooks.REPOSITORY.rstrip("/").split("/")[-2:]
    assert f"<https://{owner}.github.io/{name}/>" in text
    colab = f"https://colab.research.google.com/github/{owner}/{name}/blob/main/notebooks/"
    assert re.findall(rf"{colab}(\w+)\.ipynb", text) == ["2012_alexnet"]
    assert (paths.ROOT / "notebooks" / "2012_alexnet.ipynb").is_file()


def test_the_index_lists_every_figure_and_leads_to_it(mini):
    html = mini / "_build" / "html"
    index = bs4.BeautifulSoup((html / "book" / "figures.html").read_text(), "html.parser")
    links = {a["href"]: a.get_text() for a in index.select("article section section a.internal")}
    assert set(links.values()) == {"A pixel."} and len(links) == len(CHAPTERS)
    for link in links:
        file, _, place = link.removeprefix("../").partition("#")
        page = bs4.BeautifulSoup((html / file).read_text(), "html.parser")
        assert page.find(id=place).find_next("figure").find("img"), link


def test_without_a_night_the_report_says_so(mini):
    page = bs4.BeautifulSoup((mini / "_build/html/book/report.html").read_text(), "html.parser")
    assert "No nightly run has left a report" in page.article.get_text()
    assert not page.select("article table")


def test_pictures_load_late_and_keep_their_place(mini):
    text = (mini / "_build" / "html" / "chapters" / "2012_alexnet.html").read_text()
    [picture] = bs4.BeautifulSoup(text, "html.parser").select("article img")
    assert (picture["loading"], picture["width"], picture["height"]) == ("lazy", "1", "1")


def test_a_link_to_a_page_is_shown_as_a_card(mini):
    html = mini / "_build" / "html"
    page = bs4.BeautifulSoup((html / "chapters" / "2012_alexnet.html").read_text(), "html.parser")
    card = {tag["property"]: tag["content"] for tag in page.select("meta[property^='og:']")}
    owner, name = FORK.split("/")
    assert card["og:title"] == "chapters/2012_alexnet" and "Some prose." in card["og:description"]
    address = f"https://{owner}.github.io/{name}/"
    assert card["og:image"].startswith(address)
    assert (html / card["og:image"].removeprefix(address)).read_bytes().startswith(b"\x89PNG")


def launch_links(file):
    """Return the file in the repository that each launch button of a page opens."""
    found = {}
    for link in bs4.BeautifulSoup(file.read_text(), "html.parser").select(
        ".dropdown-launch-buttons a[href]"
    ):
        url = urlsplit(link["href"])
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if url.netloc == "colab.research.google.com":
            start = f"/github/{FORK}/blob/main/"
            found["Colab"] = url.path.removeprefix(start)
        elif url.netloc == "mybinder.org":
            assert url.path == f"/v2/gh/{FORK}/main"
            found["Binder"] = query["urlpath"].removeprefix("lab/tree/")
        else:
            assert query["branch"] == "main"
            assert query["repo"] == f"https://github.com/{FORK}"
            found["JupyterHub"] = query["urlpath"].removeprefix("lab/tree/its-course/")
    return found


def test_a_downloaded_notebook_is_the_generated_one(mini):
    html = mini / "_build" / "html"
    assert (html / "_sources/chapters/2012_alexnet.ipynb").read_text() == '{"cells": []}'
    downloads = bs4.BeautifulSoup((html / "chapters/scoreboard.html").read_text(), "html.parser")
    assert not [a for a in downloads.select("a[href]") if a["href"].endswith(".ipynb")]


def test_the_sitemap_lists_pages_where_they_are(mini):
    sitemap = (mini / "_build" / "html" / "sitemap.xml").read_text()
    owner, name = FORK.split("/")
    assert f"<loc>https://{owner}.github.io/{name}/chapters/2012_alexnet.html</loc>" in sitemap


@pytest.mark.browser
@pytest.mark.slow
def test_the_book_is_printed_whole_with_contents_and_numbered_pages(book, browser):
    words = ["make", "print", f"SOURCE={book}", f"BIN={Path(sys.executable).parent}"]
    chromium = [f"CHROMIUM={shutil.which('chromium')}"]
    done = subprocess.run([*words, *chromium], cwd=paths.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    file = (book / "_build" / "course.pdf").read_bytes()
    assert file.startswith(b"%PDF") and b"/Outlines" in file
    pages = len(re.findall(rb"/Type\s*/Page\b", file))
    assert pages > (book / "_toc.yml").read_text().count("file: ")  # each begins a page
    settings = (book / "book" / "_static" / "course.css").read_text()
    assert "counter(page)" in settings


def test_pages_name_no_script_style_or_font_of_another_host(mini):
    for file in (mini / "_build" / "html").rglob("*.html"):
        tags = bs4.BeautifulSoup(file.read_text(), "html.parser").select(
            "script, link, img, iframe"
        )
        loaded = [
            tag.get("src") or tag.get("href") for tag in tags if tag.get("rel") != ["canonical"]
        ]
        assert not [url for url in loaded if url and re.match(r"(https?:)?//", url)], file.name
