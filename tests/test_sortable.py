"""Tables that a reader can sort: what the page writes, and their use by mouse and by keyboard."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml
from IPython.display import HTML

from ilsvrc import page, paths

pytestmark = pytest.mark.once

SCRIPT = paths.ROOT / "book" / "_static" / "sort.js"
TABLE = pd.DataFrame(
    {
        "network": ["B & b", "a", "C"],
        "error, %": [9.5, np.nan, 10.25],
        "views": [10, "dense", 9],
        "verdict": [HTML('<a href="x.html">holds</a>'), "no <b>", None],
    }
)


def test_a_table_keeps_its_numbers_beside_what_it_shows():
    html = page.sortable(TABLE, "Three <networks>.", {"error, %": "{:.1f}"}).data
    assert "<caption>Three &lt;networks&gt;.</caption>" in html
    assert re.findall(r'<th scope="col">(.*?)</th>', html) == list(TABLE)
    assert re.findall(r'<th scope="row">(.*?)</th>', html) == ["B &amp; b", "a", "C"]
    assert '<td data-sort="10.25">10.2</td>' in html and '<td data-sort="">–</td>' in html
    assert '<td><a href="x.html">holds</a></td>' in html and "<td>no &lt;b&gt;</td>" in html
    assert '<td data-sort="10">10</td>' in html and "<td>dense</td>" in html


def test_a_table_of_sentences_gets_room_for_them():
    assert 'class="ilsvrc-sortable"' in page.sortable(TABLE, "").data
    long = TABLE.assign(network="A sentence that would be cut into many short lines.")
    assert 'class="ilsvrc-sortable wordy"' in page.sortable(long, "").data


@pytest.mark.tools
def test_the_book_brings_the_script():
    settings = yaml.safe_load((paths.ROOT / "_config.yml").read_text())["sphinx"]["config"]
    assert SCRIPT.name in settings["html_js_files"]


# In a browser

STATE = """
const table = document.querySelector("table");
return {
  order: [...table.tBodies[0].rows].map((row) => row.cells[0].textContent),
  sorted: [...table.tHead.rows[0].cells].map((head) => head.getAttribute("aria-sort")),
  said: document.querySelector("[role=status]").textContent,
  focus: document.activeElement.textContent,
};
"""


@pytest.fixture
def opened(browser, serve, tmp_path):
    """Return a function that opens a page with the table, and one that tells its state."""
    shutil.copy(SCRIPT, tmp_path)
    head = '<link rel="icon" href="data:,"><script src="sort.js"></script>'
    table = page.sortable(TABLE, "Three networks.").data
    (tmp_path / "page.html").write_text(
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{head}</head>'
        f"<body>{table}</body></html>"
    )
    browser.get(f"{serve(tmp_path)}/page.html")
    return lambda: browser.execute_script(STATE)


@pytest.mark.browser
def test_a_click_sorts_and_another_turns_the_order_round(browser, opened):
    assert opened()["order"] == ["B & b", "a", "C"] and opened()["sorted"] == [None] * 4
    error = browser.find_elements("css selector", "thead button")[1]
    error.click()
    assert opened()["order"] == ["B & b", "C", "a"]  # 9.5 before 10.25, what is missing last
    assert opened()["sorted"] == [None, "ascending", None, None]
    assert opened()["said"] == "Sorted by error, %, ascending."
    error.click()
    assert opened()["order"] == ["C", "B & b", "a"]
    assert opened()["sorted"] == [None, "descending", None, None]
    browser.find_elements("css selector", "thead button")[0].click()
    assert opened()["order"] == ["a", "B & b", "C"]  # whatever their capitals
    assert opened()["sorted"] == ["ascending", None, None, None]


@pytest.mark.browser
def test_the_keyboard_sorts_and_keeps_its_place(browser, opened):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    ActionChains(browser).send_keys(Keys.TAB, Keys.TAB, Keys.TAB, Keys.ENTER).perform()
    assert opened()["focus"] == "views"
    assert opened()["order"] == ["C", "B & b", "a"] and opened()["sorted"][2] == "ascending"
    ActionChains(browser).send_keys(Keys.SPACE).perform()
    assert opened()["sorted"][2] == "descending" and opened()["focus"] == "views"
    ActionChains(browser).send_keys(Keys.TAB, Keys.ENTER).perform()
    assert opened()["sorted"] == [None, None, None, "ascending"]
    assert opened()["order"][-1] == "C"  # it has no verdict
