"""The built book as a reader's browser sees it: no error, no other host, no raw markup.

`make test` builds a book of its own, in which few pages are executed; `make check-book` runs these
tests on the whole book that `make book` has built (`BOOK` names its folder).
"""

import html as markup
import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.expected_conditions import alert_is_present
from selenium.webdriver.support.wait import WebDriverWait

from ilsvrc import chapter, chapters, paths, vis

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.tools]
bs4 = pytest.importorskip("bs4", reason="the book's tools are not installed here")

RAW = re.compile(  # fences, a table's rule, roles and directives
    r":::|```|\|[-—:]+\||\{(cite|numref|ref|doc|term|glue|eq|eval|code-cell|figure)[:}]"
)
SETTLED = """
const done = arguments[arguments.length - 1];
const math = (window.MathJax && MathJax.startup && MathJax.startup.promise) || Promise.resolve();
math.then(() => setTimeout(done, 100));
"""
SEEN = """
const scrolls = (box) => box && box.scrollWidth > box.clientWidth;
const cut = (part) => scrolls(part.closest("pre, .text_html, .pst-scrollable-table-container"));
const outside = (text) => {
  const [left, top, width] = text.closest("svg").getAttribute("viewBox").split(" ").map(Number);
  const box = text.getBBox();
  return box.x < left - 1 || box.x + box.width > left + width + 1;
};
const shown = (part) => !part.closest("details") && /^Answer \\d/.test(part.textContent.trim());
const loaded = performance.getEntriesByType("resource").filter((one) => /_images/.test(one.name));
const article = [...document.querySelectorAll("article *")];
const texts = (parts) => parts.map((part) => part.textContent);
const page = (document.querySelector("article") || document.body).cloneNode(true);
page.querySelectorAll("pre, code, script, style").forEach((part) => part.remove());
return {
  text: page.textContent,
  theme: document.documentElement.dataset.theme,
  ground: getComputedStyle(document.body).backgroundColor,
  too_wide: document.documentElement.scrollWidth - window.innerWidth,
  cut: texts([...document.querySelectorAll("article :is(table, .cell_output pre)")].filter(cut)
    .concat([...document.querySelectorAll(".ilsvrc-diagram")].filter(scrolls))),
  outside: texts([...document.querySelectorAll(".ilsvrc-diagram svg text")].filter(outside)),
  silent: texts(article.filter((one) => one.matches("img") && !one.alt.trim())).length,
  unfolded: texts(article.filter((one) => one.matches("details[open]") ||
    (one.matches("p, pre, strong, h3, h4") && shown(one)))),
  overflowing: article.filter((one) => one.matches("figure img") && !cut(one) &&
    one.getBoundingClientRect().width > one.closest("article").clientWidth + 1).length,
  bytes: loaded.concat(performance.getEntriesByType("navigation"))
    .reduce((sum, one) => sum + one.encodedBodySize, 0),
  math: document.querySelectorAll(".math").length,
  typeset: document.querySelectorAll("mjx-container").length,
  wrong_math: document.querySelectorAll("mjx-merror, [data-mjx-error]").length,
};
"""


# Slider, drawings, maps, formulas; the widest tables, those that can be sorted.
HEAVY = 2e6  # bytes of a page and of the pictures that it loads as it opens; scripts are the book's
FEW = ["2013_zfnet", "scoreboard", "compare", "replication"]
WHOLE = os.environ.get("BOOK")


@pytest.fixture(scope="module")
def html(browser):  # nothing is built where nobody can look at it
    """Return the folder of a book's pages: the one that `BOOK` names, else one built for the tests.

    It lies in `_build/test`, so that a second run of the tests executes only what changed. It holds
    all pages, and of them those in `FEW` are executed, at the smoke profile.
    """
    if WHOLE:
        return Path(WHOLE).resolve()
    folder = paths.ROOT / "_build" / "test"
    folder.mkdir(parents=True, exist_ok=True)
    settings = os.environ | {"ILSVRC_PROFILE": "smoke", "XDG_CACHE_HOME": str(folder / "cache")}
    settings.pop("ILSVRC_DATA", None)
    config = yaml.safe_load((paths.ROOT / "_config.yml").read_text(encoding="utf-8"))
    left_out = [f"chapters/{name}.md" for name in chapters.names() if name not in FEW]
    config["execute"]["exclude_patterns"] = left_out
    extensions = config["sphinx"]["local_extensions"]  # told from where the settings lie
    config["sphinx"]["local_extensions"] = {n: str(paths.ROOT / p) for n, p in extensions.items()}
    (folder / "_config.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    places = ["--config", folder / "_config.yml", "--path-output", folder]
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    command = [jupyter_book, "build", "-W", "--keep-going", ".", *places]
    result = subprocess.run(
        command, cwd=paths.ROOT, env=settings, text=True, capture_output=True, timeout=900
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-6000:]
    return folder / "_build" / "html"


def go(browser, url, theme, width):
    """Open a page in a theme, on a screen of a width in px."""
    phone = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    script = f"localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}');"
    added = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    browser.get_log("browser"), browser.get_log("performance")  # of the page before
    browser.get(url)
    browser.execute_async_script(SETTLED)
    browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)


def faults(browser, url, theme, width):
    """Open a page and return what is wrong with it, in words."""
    go(browser, url, theme, width)
    seen = browser.execute_script(SEEN)
    found = [f"says {e['message']}" for e in browser.get_log("browser") if e["level"] == "SEVERE"]
    found += requests_gone_wrong(browser.get_log("performance"))
    found += [f"shows raw markup: {m[0]!r}" for m in RAW.finditer(seen["text"])]
    if seen["theme"] != theme or (sum(channels(seen["ground"])) < 384) != (theme == "dark"):
        found.append(f"is not {theme}: {seen['theme']}, {seen['ground']}")
    if seen["too_wide"] > 0:
        found.append(f"is {seen['too_wide']} px wider than a screen of {width}")
    if width > 1000:  # a phone scrolls its tables
        found += [f"cuts an output: {' '.join(text.split())[:60]!r}" for text in seen["cut"]]
    found += [f"shows {seen['silent']} pictures without a text"] * bool(seen["silent"])
    found += [f"shows an answer unfolded: {text.strip()[:40]!r}" for text in seen["unfolded"]]
    found += [f"has {seen['overflowing']} pictures wider than the column"] * bool(
        seen["overflowing"]
    )
    if seen["bytes"] > HEAVY:
        found.append(f"loads {seen['bytes'] / 1e6:.1f} MB as it opens, its pictures included")
    found += [f"cuts a drawing's words: {text!r}" for text in seen["outside"]]
    if seen["typeset"] < seen["math"] or seen["wrong_math"]:
        found.append(f"has {seen['math']} formulas, {seen['typeset']} of them typeset")
    return [f"{urlsplit(url).path} in {theme} {one}" for one in found]


def requests_gone_wrong(log):
    """Name the requests in a performance log that left this machine or did not get their answer."""
    for entry in log:
        message = json.loads(entry["message"])["message"]
        method, details = message["method"], message["params"]
        if method == "Network.requestWillBeSent":
            url = urlsplit(details["request"]["url"])
            if url.scheme not in ("data", "blob", "chrome") and url.hostname != "127.0.0.1":
                yield f"asks another host: {url.geturl()}"
        elif method == "Network.responseReceived" and details["response"]["status"] >= 400:
            yield f"lacks {details['response']['url']} ({details['response']['status']})"


AXE = """
const done = arguments[arguments.length - 1];
const named = (one) => `${one.id}: ${one.help}: ${one.nodes[0].html.slice(0, 120)}`;
axe.run(document, { resultTypes: ["violations"] }).then((all) => done(all.violations.map(named)));
"""


def barriers(browser):
    """Return what axe-core finds on the page that is open, in its words; no rule is left out."""
    spec = find_spec("axe_playwright_python")  # its script alone is taken: nothing is imported
    assert spec, "axe-core is not installed here: make setup"
    browser.execute_script(Path(spec.origin).with_name("axe.min.js").read_text(encoding="utf-8"))
    return browser.execute_async_script(AXE)


def without_barriers(body):
    """Return a page with a `<main>` of one's own in which axe-core finds nothing else to say."""
    text = PAGE.format(body).replace("<html ", "<html lang='en' ").replace("article>", "div>")
    return text.replace("<head>", "<head><title>A page</title>")


def dead_links(html):
    """Return the links of a book's pages, as "page: address", that lead nowhere in the book."""
    texts = {path: path.read_text(encoding="utf-8") for path in html.rglob("*.html")}
    ids = {path: set(re.findall(r'\s(?:id|name)="([^"]+)"', text)) for path, text in texts.items()}
    found = []
    for page in pages(html):
        for link in set(re.findall(r'<a\s[^>]*?href="([^"]+)"', texts[html / page])):
            url = urlsplit(markup.unescape(link))
            if url.scheme or url.netloc:
                continue
            target = (html / page).parent / unquote(url.path) if url.path else html / page
            target = Path(os.path.normpath(target))
            wanted = unquote(url.fragment)
            if not target.exists() or (wanted and wanted not in ids.get(target, {wanted})):
                found.append(f"{page}: {link}")
    return found


def channels(colour):
    """Return the red, green and blue of a computed colour."""
    return [float(number) for number in re.findall(r"[\d.]+", colour)[:3]]


def pages(html):
    """Return the addresses of a book's pages, relative to its folder."""
    found = (path.relative_to(html).as_posix() for path in html.rglob("*.html"))
    return sorted(p for p in found if not p.startswith(("_", "slides/")) and p != "index.html")


PAGE = """<!doctype html><html data-theme="light"><head><link rel="icon" href="data:,">
<style>body {{ background: white }}</style></head><body><article>{}</article></body></html>"""


PICTURE = "<img alt='A square.' width='{0}' src='data:image/svg+xml,%3Csvg xmlns=%22http://www.w3.org/2000/svg%22/%3E'>"


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("All is well. <pre>:::{note}</pre>", None),
        ("<script>nothing.at.all()</script>", "nothing is not defined"),
        ("<img src='missing.png' alt='x'>", "missing.png"),
        ("<img src='https://example.org/a.png' alt='x'>", "another host: https://example.org/a"),
        (":::{note}", "raw markup: ':::'"),
        ("see {cite}`someone`", "raw markup: '{cite}'"),
        ("| a | b | |---|---:| | 1 | 2 |", "raw markup: '|---|'"),
        ("<div style='width: 3000px'>wide</div>", "wider than a screen"),
        (
            "<div class='text_html' style='width: 9em; overflow-x: auto'>"
            "<table style='width: 10em'><tr><td>a</td></tr></table></div>",
            "cuts an output: 'a'",
        ),
        (
            "<div class='cell_output'><pre style='width: 1em; overflow: auto'>printed</pre></div>",
            "cuts an output: 'printed'",
        ),
        (
            "<div class='ilsvrc-diagram' style='width: 9em; overflow-x: auto'>"
            "<svg style='min-width: 30em' viewBox='0 0 50 20'><text y='10'>a</text></svg></div>",
            "cuts an output: 'a'",
        ),
        (
            "<div class='ilsvrc-diagram'><svg width='50' viewBox='0 0 50 20'>"
            "<text x='40' y='10'>wide</text></svg></div>",
            "cuts a drawing's words: 'wide'",
        ),
        ("<span class='math'>\\(x\\)</span>", "1 formulas, 0 of them typeset"),
        ("<script>document.body.style.background = 'black'</script>", "is not light"),
        ("<figure><img src='data:,'></figure>", "1 pictures without a text"),
        ("<img alt='' src='data:,'>", "1 pictures without a text"),
        ("<details><summary>Answer 1</summary><p>Two.</p></details>", None),
        ("<details open><summary>Answer 1</summary><p>Two.</p></details>", "unfolded: 'Answer 1"),
        ("<p><strong>Answer 1.</strong> Two.</p>", "unfolded: 'Answer 1. Two."),
        (f"<figure>{PICTURE.format(3000)}</figure>", "1 pictures wider than the column"),
        ("<p hidden>" + "x" * 2_000_000 + "</p>", "loads 2.0 MB"),
    ],
)
def test_a_planted_fault_is_found(browser, serve, tmp_path, body, fault):
    (tmp_path / "page.html").write_text(PAGE.format(body))
    found = faults(browser, f"{serve(tmp_path)}/page.html", "light", 1300)
    assert (found == []) if fault is None else any(fault in one for one in found), found


@pytest.mark.parametrize(
    ("link", "dead"),
    [
        ("page.html#here", False),
        ("#here", False),
        ("https://example.org/#x", False),
        ("page.html#there", True),
        ("#there", True),
        ("other.html", True),
    ],
)
def test_a_planted_dead_link_is_found(tmp_path, link, dead):
    (tmp_path / "page.html").write_text(PAGE.format(f'<p id="here"><a href="{link}">x</a></p>'))
    assert dead_links(tmp_path) == [f"page.html: {link}"] * dead


def test_the_book_has_no_dead_link(html):
    assert dead_links(html) == []


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ("<main><h1>All is well</h1></main>", None),
        ("<main><h1>A</h1><img src='data:,'></main>", "image-alt"),
        ("<main><h1>A</h1><p style='color: #ccc; background: #fff'>Pale.</p></main>", "contrast"),
        ("<main><h1>A</h1><button></button></main>", "button-name"),
    ],
)
def test_a_planted_barrier_is_found(browser, serve, tmp_path, body, rule):
    (tmp_path / "page.html").write_text(without_barriers(body))
    go(browser, f"{serve(tmp_path)}/page.html", "light", 1300)
    found = barriers(browser)
    assert (found == []) if rule is None else any(rule in one for one in found), found


def test_a_wide_drawing_can_be_scrolled_by_keyboard(browser, serve, tmp_path):
    drawing = vis.diagram(chapter("2014_googlenet").slim_googlenet())._repr_html_()
    body = f"<main style='width: 360px'><h1>A network</h1>{drawing}</main>"
    (tmp_path / "page.html").write_text(without_barriers(body))
    go(browser, f"{serve(tmp_path)}/page.html", "light", 1300)
    box = browser.find_element("css selector", ".ilsvrc-diagram")
    assert int(box.get_property("scrollWidth")) > int(box.get_property("clientWidth"))
    assert barriers(browser) == []


FEW_BARRIERS = [
    *("book/welcome.html", "book/figures.html", "book/bibliography.html"),
    *("chapters/2013_zfnet.html", "chapters/scoreboard.html"),
]


@pytest.mark.parametrize(("theme", "width"), [("light", 1300), ("dark", 390)])
def test_axe_finds_no_barrier(browser, serve, html, theme, width):
    """On every page of a whole book, else on a few: it takes a second a page."""
    address, found = serve(html), []
    for page in pages(html) if WHOLE else FEW_BARRIERS:
        go(browser, f"{address}/{page}", theme, width)
        found += [f"{page}: {one}" for one in barriers(browser)]
    assert found == []


def test_a_picture_is_enlarged_by_mouse_and_by_keyboard(browser, serve, html):
    go(browser, f"{serve(html)}/chapters/scoreboard.html", "light", 390)
    picture = browser.find_element("css selector", "article figure img")
    wide = "return document.querySelector('dialog.ilsvrc-large[open] img').clientWidth"
    small = picture.size["width"]
    picture.send_keys(Keys.ENTER)
    WebDriverWait(browser, 20).until(lambda b: b.execute_script(wide) > small)
    focused = browser.switch_to.active_element
    assert focused.text == "Close"
    focused.send_keys(Keys.ESCAPE)
    gone = "return !document.querySelector('dialog.ilsvrc-large')"
    WebDriverWait(browser, 20).until(lambda b: b.execute_script(gone))
    assert browser.switch_to.active_element == picture
    picture.click()
    browser.find_element("css selector", "dialog.ilsvrc-large img").click()
    WebDriverWait(browser, 20).until(lambda b: b.execute_script(gone))


@pytest.mark.parametrize(("theme", "width"), [("light", 1300), ("dark", 390)])
def test_the_book_is_without_fault(browser, serve, html, theme, width):
    address = serve(html)
    found = [one for p in pages(html) for one in faults(browser, f"{address}/{p}", theme, width)]
    assert found == []


def test_the_search_finds_a_chapter(browser, serve, html):
    browser.get(f"{serve(html)}/search.html?q=AlexNet")
    browser.implicitly_wait(20)
    result = browser.find_element("css selector", "#search-results li a")
    browser.implicitly_wait(0)
    assert "2012_alexnet.html" in result.get_attribute("href")


def test_every_executed_page_has_a_banner(html):
    styles = (html / "_static" / "course.css").read_text()
    for name in chapters.names() if WHOLE else FEW:
        file = html / "chapters" / f"{name}.html"
        article = bs4.BeautifulSoup(file.read_text(), "html.parser").find("article")
        banner = article.select_one(".cell_output .ilsvrc-banner")
        assert banner, f"{file.name} has no banner"
        assert all(f".{name}" in styles for name in banner["class"]), banner["class"]


def test_every_launch_link_opens_a_notebook_of_the_repository(html):
    found = []
    for name in pages(html):
        parsed = bs4.BeautifulSoup((html / name).read_text(), "html.parser")
        links = [a["href"] for a in parsed.select(".dropdown-launch-buttons a[href]")]
        for link in links:
            notebook = re.search(r"notebooks/[\w.-]+\.ipynb", link)
            assert notebook and (paths.ROOT / notebook[0]).is_file(), f"{name}: {link}"
        found += [name] * bool(links)
    assert "chapters/2012_alexnet.html" in found


def test_the_rows_of_claims_lead_to_their_tables(html):
    text = (html / "chapters" / "replication.html").read_text()
    links = bs4.BeautifulSoup(text, "html.parser").select("table.ilsvrc-sortable a[href]")
    assert len(links) > 100
    for link in {link["href"] for link in links}:
        file, _, label = link.partition("#")
        page = bs4.BeautifulSoup((html / "chapters" / file).read_text(), "html.parser")
        assert not label or page.find(id=label), link


def test_the_sheet_of_networks_sorts(browser, serve, html):
    browser.get(f"{serve(html)}/chapters/compare.html")
    browser.find_elements("css selector", ".ilsvrc-sortable thead button")[2].click()
    first = browser.find_element("css selector", ".ilsvrc-sortable tbody tr")
    errors = browser.find_elements("css selector", ".ilsvrc-sortable")[0]
    cells = errors.find_elements("css selector", "tbody td:nth-child(3)")
    values = [float(cell.text) for cell in cells]
    assert values == sorted(values) and len(values) > 30 and first.text.startswith("Eff")


def test_what_is_folded_stands_open_on_paper_alone(browser, serve, html):
    browser.get(f"{serve(html)}/chapters/2013_zfnet.html")
    folded = "document.querySelectorAll('article details:not([open])').length"
    before = browser.execute_script(f"return {folded}")
    browser.execute_script(
        f"addEventListener('beforeprint', () => {{ window.onPaper = {folded}; }})"
    )
    browser.execute_cdp_cmd("Page.printToPDF", {})
    assert before > 20 and browser.execute_script("return window.onPaper") == 0
    assert browser.execute_script(f"return {folded}") == before


def test_slides_show_what_the_core_shows_each_on_one_screen(browser, serve, html, monkeypatch):
    monkeypatch.syspath_prepend(str(paths.ROOT / "book" / "_ext"))
    import slides

    slides.write(html)  # the pages that were not executed have none
    screen = {"width": 1280, "height": 720, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.get_log("performance")
    browser.get(f"{serve(html)}/slides/2013_zfnet.html")
    browser.execute_async_script(SETTLED)
    assert list(requests_gone_wrong(browser.get_log("performance"))) == []
    shown = browser.execute_script("""
        const box = (part) => part.getBoundingClientRect();
        return [...document.querySelectorAll(".slides > section")].map((slide) => {
          const parts = [...slide.querySelectorAll("h2, pre, img, svg, figcaption, li")].map(box);
          return { heading: slide.querySelector("h2").textContent, height: box(slide).height,
            figures: slide.querySelectorAll("figure").length,
            inside: parts.every((one) => one.top >= box(slide).top && one.right <= innerWidth &&
              one.bottom <= box(slide).bottom),
            apart: parts.every((one, i) => i < 1 || one.top >= parts[0].bottom - 1) };
        });""")
    assert all(one["inside"] and one["apart"] and one["height"] == 720 for one in shown), shown
    headings = [one["heading"] for one in shown]
    assert headings[0].startswith("ZFNet") and headings[1] == "Before we begin"
    assert headings[-1] == "Three sentences to remember"
    core = bs4.BeautifulSoup((html / "chapters" / "2013_zfnet.html").read_text(), "html.parser")
    core.select_one("#going-further").decompose()
    figures = core.select("article section figure")
    assert sum(one["figures"] for one in shown) == len(figures) > 5
    browser.find_element("css selector", "body").send_keys(Keys.ARROW_RIGHT)
    WebDriverWait(browser, 20).until(lambda b: b.execute_script("return scrollY === innerHeight"))


def test_the_jupyterhub_button_asks_for_the_readers_hub(browser, serve, html):
    browser.get(f"{serve(html)}/chapters/2012_alexnet.html")
    browser.execute_script("window.open = (url) => { window.opened = url; };")
    click = """document.querySelector('a[href^="https://hub.example.org/"]').click()"""
    browser.execute_script(f"setTimeout(() => {click})")
    prompt = WebDriverWait(browser, 20).until(alert_is_present())
    prompt.send_keys("https://hub.school.test/")
    prompt.accept()
    opened = WebDriverWait(browser, 20).until(lambda b: b.execute_script("return window.opened"))
    assert opened.startswith("https://hub.school.test/hub/user-redirect/git-pull?repo=")
    assert "notebooks/2012_alexnet.ipynb" in opened
