"""The book's own Sphinx extension.

It runs a page again when anything that its outputs depend on has changed, points the launch buttons
at the notebooks in `notebooks/`, lists all figures, and refuses a picture without a text.
"""

import functools
import hashlib
import os
import re
import shutil
from importlib import metadata
from pathlib import Path

import nightly
import yaml
from bs4 import BeautifulSoup
from docutils import nodes
from PIL import Image, UnidentifiedImageError
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

from ilsvrc import chapters, data, profiles

# What the pages run with, unless the caller of the build says otherwise.
DEFAULTS = {
    "ILSVRC_PROFILE": "laptop",
    "KERAS_BACKEND": "tensorflow",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
PACKAGES = [
    *("jax", "keras", "matplotlib", "numpy", "pandas"),
    *("pillow", "scikit-image", "scikit-learn", "tensorflow", "torch"),
]
OF_CODE = {"chapters/compare", "chapters/replication"}  # of what the chapters define
SHEETS = OF_CODE | {  # of the records of all chapters, and of no image
    *("chapters/scoreboard", "chapters/one_photograph", "chapters/2016_ensemble"),
}
FIGURES = "book/figures"  # lists the figures of all pages
HEADER = re.compile(r"---\n(.*?)^---\n", re.DOTALL | re.MULTILINE)


# When a page runs again


def _versions() -> list[str]:
    """Return the versions of the installed packages that change what a page shows."""
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return found


def _files(folder: Path) -> list[str]:
    """Return each file below a folder with the hash of its content."""
    files = (path for path in sorted(folder.rglob("*")) if "__pycache__" not in path.parts)
    return [
        f"{path.relative_to(folder).as_posix()} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        for path in files
        if path.is_file()
    ]


def _images() -> list[str]:
    """Return the images that the profile trains on: each file's name, size and time of change."""
    wanted = profiles.profile().data
    found = []
    for folder in (data.find(name) for name in data.CATALOGUE if name.startswith(wanted)):
        for place, _, names in os.walk(folder or ""):
            for name in names:
                status = os.lstat(os.path.join(place, name))  # a link may lead nowhere
                found.append(f"{place} {name} {status.st_size} {status.st_mtime_ns}")
    return sorted(found)


@functools.cache
def _code(path: Path, changed: int) -> str:
    return chapters.code(path)


def _definitions(root: Path) -> list[str]:
    """Return what the chapters define: their networks, runs and claims."""
    files = sorted((root / "chapters").glob("*.md"))
    return [_code(path, path.stat().st_mtime_ns) for path in files]


def digest(root: Path, page: str) -> str:
    """Return a digest of everything beside its own code that a page's outputs depend on.

    These are the package, the versions of what it stands on, the profile and the backend, the
    images, and the published records of the chapter. A page in `SHEETS` depends on the records of
    all chapters, and on no image; one in `OF_CODE` on their networks, runs and claims as well.

    Args:
        root: The repository.
        page: The page's name as Sphinx has it, such as "chapters/2012_alexnet".
    """
    parts = [os.environ["ILSVRC_PROFILE"], os.environ["KERAS_BACKEND"], *_versions()]
    parts += _files(root / "utils" / "ilsvrc")
    if page in SHEETS:
        parts += _files(root / "results")
        parts += _definitions(root) if page in OF_CODE else []
    else:
        parts += _files(root / "results" / Path(page).name) + _images()
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def write_digest(app, page, source) -> None:
    """Write the page's digest into its kernelspec, which is part of the execution cache's key."""
    header = HEADER.match(source[0])
    settings = yaml.safe_load(header[1]) if header else {}
    if "kernelspec" not in settings:
        return
    app.env.digests[page] = digest(Path(app.srcdir), page)
    settings["kernelspec"]["digest"] = app.env.digests[page]
    line = yaml.safe_dump(settings, default_flow_style=True, width=10**6).strip()
    padding = "\n" * header[1].count("\n")  # so that warnings still name the right line
    source[0] = f"---\n{line}{padding}---\n{source[0][header.end() :]}"


def outdated(app, env, added, changed, removed) -> list[str]:
    """Name the pages whose digest changed since they were read."""
    if not hasattr(env, "digests"):
        env.digests = {}
    for page in removed:
        env.digests.pop(page, None)
    known = set(env.digests) & env.found_docs
    found = [page for page in known if env.digests[page] != digest(Path(app.srcdir), page)]
    lists_all = {FIGURES} & env.found_docs if found or added or changed or removed else set()
    return [*found, *lists_all]


# Where the book and its launch buttons lead


def settle_address(app, config) -> None:
    """Publish the book at the repository's GitHub Pages, unless `_config.yml` names a `baseurl`.

    Pages write `{{ book_online }}` for that address, and `{{ first_in_colab }}` for a link that
    runs the first network.
    """
    owner, name = config.html_theme_options["repository_url"].rstrip("/").split("/")[-2:]
    config.html_baseurl = config.html_baseurl or f"https://{owner}.github.io/{name}/"
    config.ogp_site_url = config.html_baseurl  # of the cards that others show for a link
    first = f"{owner}/{name}/blob/main/notebooks/2012_alexnet.ipynb"
    config.myst_substitutions["book_online"] = f"<{config.html_baseurl}>"
    config.myst_substitutions["first_in_colab"] = (
        f"[AlexNet in Colab](https://colab.research.google.com/github/{first})"
    )


def point_to_notebooks(app, page, template, context, doctree) -> None:
    """Point a page's launch and download buttons at its generated notebook, or take them away."""
    notebook = Path(app.srcdir, "notebooks", f"{Path(page).name}.ipynb")
    groups = {button.get("label"): button for button in context["header_buttons"]}
    launch, download = groups.get("launch-buttons"), groups.get("download-buttons")
    if launch and notebook.exists():
        for button in launch["buttons"]:
            button["url"] = button["url"].replace(f"{page}.md", f"notebooks/{notebook.name}")
        shutil.copy2(notebook, Path(app.outdir, "_sources", page).with_suffix(".ipynb"))
    elif launch:
        context["header_buttons"].remove(launch)
        download["buttons"] = [
            button
            for button in download["buttons"]
            if button.get("label") != "download-notebook-button"
        ]


# The index of figures


class ListOfFigures(nodes.General, nodes.Element):
    """The place of the index, filled when all pages are read."""


class Figures(SphinxDirective):
    """The directive `figures`: an index of all figures with a caption, page by page."""

    def run(self) -> list:
        """Return the place of the index."""
        return [ListOfFigures()]


def _captioned(doctree) -> list:
    return [one for one in doctree.findall(nodes.figure) if list(one.findall(nodes.caption))]


def name_figures(app, doctree) -> None:
    """Give each figure with a caption a place to link to."""
    page = Path(app.env.docname).name.replace("_", "-")
    for number, figure in enumerate(_captioned(doctree), start=1):
        place = nodes.target("", "", ids=[f"{page}-figure-{number}"])
        figure.parent.insert(figure.parent.index(figure), place)


def list_figures(app, doctree, page) -> None:
    """Fill a page's index of figures: for each chapter the first sentences of the captions."""
    for place in list(doctree.findall(ListOfFigures)):
        found = []
        for other in app.env.collect_relations():  # in the order of the book
            items = nodes.bullet_list()
            address = app.builder.get_relative_uri(page, other)
            name = Path(other).name.replace("_", "-")
            for number, figure in enumerate(_captioned(app.env.get_doctree(other)), start=1):
                said = next(figure.findall(nodes.caption)).astext().replace("\n", " ")
                first = re.split(r"(?<=[.?)]) (?=[A-Z])", said)[0]
                link = f"{address}#{name}-figure-{number}"
                text = nodes.reference("", first, refuri=link, internal=True)
                items += nodes.list_item("", nodes.paragraph("", "", text))
            if len(items):
                title = nodes.title("", app.env.titles[other].astext())
                found.append(nodes.section("", title, items, ids=[f"figures-of-{name}"]))
        place.replace_self(found)


# What the last nights found


class Nightly(SphinxDirective):
    """The directive `nightly`: a table of the nightly runs, from `build/nightly.json`."""

    def run(self) -> list:
        """Return the table, or a sentence where no night has left anything."""
        file = Path(self.env.srcdir, "build", "nightly.json")
        self.env.note_dependency(str(file))
        state = nightly.read(file)
        if not state:
            said = "No nightly run has left a report where this book was built."
            return [nodes.paragraph("", said)]
        return [nodes.raw("", nightly.table(state), format="html")]


# What a page loads, and how its tables are read out


def ease(app, page, template, context, doctree) -> None:
    """Load pictures when they come into sight; give lists and tables the roles that they have.

    The empty heads of tables become plain cells. Docutils calls an entry of the bibliography by a
    role that ARIA has given up: an entry is an item of its list.
    """
    if app.builder.name != "html" or "body" not in context:  # on paper everything is in sight
        return
    files = {name: source for source, name in app.builder.images.items()}

    def lazy(found):
        try:
            with Image.open(Path(app.srcdir, files[found[1]])) as picture:
                width, height = picture.size
        except (KeyError, OSError, UnidentifiedImageError):  # a drawing has no pixels
            return found[0].replace("<img", '<img loading="lazy"', 1)
        size = f'width="{width}" height="{height}"'  # keeps its place until it is there
        return found[0].replace("<img", f'<img loading="lazy" {size}', 1)

    body = re.sub(r'<img (?![^>]*width)[^>]*?src="[^"]*_images/([^"]+)"', lazy, context["body"])
    body = body.replace('role="doc-biblioentry"', 'role="listitem"')
    context["body"] = re.sub(r"<th([^>]*)>(?:\s|&nbsp;|&#160;)*</th>", r"<td\1></td>", body)


# What a picture says to those who cannot see it


def _says_something(picture) -> bool:
    if picture.name == "svg":
        text = picture.get("aria-label") or (picture.title and picture.title.get_text())
        return picture.get("aria-hidden") == "true" or bool(text and text.strip())
    text = (picture.get("alt") or "").strip()
    return bool(text) and not re.search(r"^_images|\.(png|svg|jpe?g|gif)$", text)


def silent_pictures(page: Path) -> list[str]:
    """Name the cells of a built page that show a picture without an alternative text."""
    article = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser").find("article")
    if article is None:
        return []
    cells = article.select("div.cell")
    found = []
    for picture in article.select("img, .cell_output svg"):
        if _says_something(picture) or picture.find_parent("svg"):
            continue
        cell = picture.find_parent("div", class_="cell")
        if cell is None:
            found.append(f"the text shows {picture.get('src', 'an inline SVG')}")
            continue
        code = cell.select_one(".cell_input pre")
        line = code.get_text().strip().splitlines()[0] if code else "its input is hidden"
        number = next(n for n, other in enumerate(cells, 1) if other is cell)
        found.append(f"cell {number} ({line})")
    return found


def check_pictures(app, exception) -> None:
    """Fail the build where a picture has no alternative text, naming page and cell."""
    if exception or app.builder.name != "html":  # on paper stand the same pages, built before
        return
    found = []
    for page in sorted(app.env.found_docs):
        places = silent_pictures(Path(app.outdir, f"{page}.html"))
        found += [f"{app.env.doc2path(page, base=False)}: {place}" for place in places]
    if found:
        raise ExtensionError(
            "Pictures without an alternative text. Give the cell's metadata `mystnb: image: alt:`, "
            "or an <img> its alt, an <svg> its aria-label:\n  " + "\n  ".join(found)
        )


def setup(app) -> dict:
    """Connect the above to the build."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    os.environ.pop("MPLBACKEND", None)  # the kernels draw into the page
    app.connect("config-inited", settle_address)
    app.add_directive("figures", Figures)
    app.add_directive("nightly", Nightly)
    app.add_node(ListOfFigures)
    app.connect("doctree-read", name_figures)
    app.connect("doctree-resolved", list_figures)
    app.connect("html-page-context", ease)
    app.connect("env-get-outdated", outdated)
    app.connect("source-read", write_digest)
    app.connect("html-page-context", point_to_notebooks, priority=600)  # after the theme, at 501
    app.connect("build-finished", check_pictures)
    return {"version": "1", "parallel_read_safe": False}
