"""Slides of the sessions, from small pages such as the book's; how they look: test_book_browser."""

import re

import pytest

from ilsvrc import chapters, paths

pytestmark = [pytest.mark.once, pytest.mark.tools]
bs4 = pytest.importorskip("bs4", reason="the book's tools are not installed here")

SESSION = """<section><h3>{0}. Session {0}<a class="headerlink" href="#">#</a></h3>
<p><a class="reference internal" href="../chapters/{1}.html">It</a></p>
<p>Ask before:</p><ul><li>What of {0}?</li></ul><p>Afterwards:</p><ul><li>Much.</li></ul></section>
"""
GUIDE = "<article><section><h1>Guide</h1><section><h2>Sessions</h2>{}</section></section></article>"
PAGE = """<article><section><h1>AlexNet</h1><p>A network.</p>
<section><h2>Core</h2><div class="cell"><div class="cell_input">code</div>{}</div></section>
<section><h2>Three sentences to remember</h2><ol><li>One.</li></ol></section>
<section><h2>Exercises</h2><ol><li>How many?</li></ol></section></section></article>
"""
FIGURE = '<div class="cell_output"><figure><img src="a.png" alt="A"></figure></div>'


@pytest.fixture
def slides(monkeypatch):
    monkeypatch.syspath_prepend(str(paths.ROOT / "book" / "_ext"))
    import slides

    return slides


@pytest.fixture
def html(tmp_path):
    """A book of one page that two sessions take."""
    for folder in ("book", "chapters"):
        (tmp_path / folder).mkdir()
    sessions = SESSION.format(1, "2012_alexnet") + SESSION.format(2, "2012_alexnet")
    (tmp_path / "book" / "teachers_guide.html").write_text(GUIDE.format(sessions))
    (tmp_path / "chapters" / "2012_alexnet.html").write_text(PAGE.format(FIGURE))
    return tmp_path


def headings(html):
    deck = bs4.BeautifulSoup((html / "slides" / "2012_alexnet.html").read_text(), "html.parser")
    return [slide.h2.get_text() for slide in deck.select("section")], deck


def test_slides_open_with_each_sessions_questions_and_end_with_what_to_remember(slides, html):
    assert slides.write(html) == []
    found, deck = headings(html)
    last = "Three sentences to remember"
    assert found == ["AlexNet", "Before we begin", "Before we begin", "Core", last]
    assert [li.get_text() for li in deck.select("ul li")] == ["What of 1?", "What of 2?"]
    assert len(deck.select("figure")) == 1


@pytest.mark.parametrize(
    ("here", "planted", "said"),
    [
        ("<p>Ask before:</p>", "<p>Ask before: why?</p>", "'2. Session 2' lacks a list below"),
        ("</p><ul><li>What of 2?</li></ul>", " x?</p>", "'2. Session 2' lacks a list below"),
        ("../chapters/2012_alexnet.html", "how_to_use.html", "'2. Session 2' lacks a link to its"),
    ],
)
def test_a_session_without_slides_is_named(slides, html, here, planted, said):
    guide = html / "book" / "teachers_guide.html"
    first, second, rest = guide.read_text().partition(SESSION.format(2, "2012_alexnet"))
    assert here in second
    guide.write_text(first + second.replace(here, planted) + rest)
    with pytest.raises(ValueError, match=re.escape(said)):
        slides.write(html)


def test_a_page_that_was_not_executed_is_named_and_gets_no_slides(slides, html):
    (html / "chapters" / "2012_alexnet.html").write_text(PAGE.format(""))
    [said] = slides.write(html)
    assert "2012_alexnet.html" in said and "make book" in said
    assert list((html / "slides").iterdir()) == []


def test_every_session_of_the_guide_links_to_a_chapter_and_asks():
    """What `make slides` refuses is found without building the book."""
    text = (paths.ROOT / "book" / "teachers_guide.md").read_text(encoding="utf-8")
    found = re.findall(r"^### (\d+)\. .*\n((?:(?!^##).*\n)*)", text, re.MULTILINE)
    assert [int(number) for number, _ in found] == list(range(1, len(found) + 1))
    for number, session in found:
        linked = re.findall(r"\]\(\.\./chapters/(\w+)\.md\)", session)
        assert linked and set(linked) <= set(chapters.names()), number
        assert re.search(r"^Ask before:\n\n- ", session, re.MULTILINE), number
