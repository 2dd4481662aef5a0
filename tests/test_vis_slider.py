"""The slider over filters by epoch: its pictures, and its use by mouse and by keyboard."""

import base64
import io
import re
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image

from ilsvrc import paths, vis

KERNELS = {  # out of order, and weak at first
    12: np.random.default_rng(1).normal(size=(5, 5, 3, 8)),
    0: 0.1 * np.random.default_rng(0).normal(size=(5, 5, 3, 8)),
    3: 0.5 * np.random.default_rng(2).normal(size=(5, 5, 3, 8)),
}
SCRIPT = paths.ROOT / "book" / "_static" / "filters.js"


def images(html):
    """Return the pictures in a piece of HTML, in order, as arrays (height, width, 3)."""
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(f))).convert("RGB")) for f in found]


def test_the_pictures_are_the_filters_in_order_of_epochs_on_one_scale():
    html = vis.filter_slider(KERNELS, columns=4).data
    assert re.findall(r"<figcaption>(.*?)<", html) == ["epoch 0", "epoch 3", "epoch 12"]
    limit = max(abs(kernel).max() for kernel in KERNELS.values())
    for picture, epoch in zip(images(html), [0, 3, 12], strict=True):
        assert picture.shape == (2 * 6 - 1, 4 * 6 - 1, 3)
        first, last = picture[:5, :5] / 255, picture[6:, 18:] / 255
        np.testing.assert_allclose(first, 0.5 + KERNELS[epoch][..., 0] / limit / 2, atol=1 / 255)
        np.testing.assert_allclose(last, 0.5 + KERNELS[epoch][..., 7] / limit / 2, atol=1 / 255)
        assert f'alt="8 filters of the first layer at epoch {epoch}"' in html


def test_what_is_no_first_layer_is_refused():
    with pytest.raises(ValueError, match=r"first layer.*\(3, 3, 96, 256\)"):
        vis.filter_slider({0: np.zeros((3, 3, 96, 256))})
    with pytest.raises(ValueError, match="no epoch"):
        vis.filter_slider({})


def test_the_book_brings_the_script():
    settings = yaml.safe_load((paths.ROOT / "_config.yml").read_text())["sphinx"]["config"]
    assert SCRIPT.name in settings["html_js_files"]
    assert settings["html_static_path"] == [SCRIPT.parent.relative_to(paths.ROOT).as_posix()]


# In a browser

VISIBLE = """
return [...document.querySelectorAll(".ilsvrc-filters figure")]
  .filter((figure) => figure.checkVisibility()).map((figure) => figure.textContent);
"""
WIDTH = "return [document.documentElement.scrollWidth, innerWidth]"


@pytest.fixture(params=["file", "http"])
def page(request, browser, serve, tmp_path):
    """Open a page with two sliders, at a phone's width, and return the first one's parts."""
    slider = vis.filter_slider(KERNELS).data
    head = '<link rel="icon" href="data:,"><script src="filters.js"></script>'
    viewport = '<meta name="viewport" content="width=device-width">'
    (tmp_path / "page.html").write_text(
        f"<!doctype html><head>{viewport}{head}</head><body>{slider}{slider}</body>"
    )
    shutil.copy(SCRIPT, tmp_path)
    phone = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    browser.get_log("browser")  # of the page before
    address = tmp_path.as_uri() if request.param == "file" else serve(tmp_path)
    browser.get(f"{address}/page.html")
    yield browser.find_element("css selector", ".ilsvrc-filters")
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def shown(page):
    """Return the epochs that the slider, its label and its picture say, and that picture."""
    figures = [f for f in page.find_elements("css selector", "figure") if f.is_displayed()]
    assert len(figures) == 1
    image = figures[0].find_element("tag name", "img")
    says = page.find_element("tag name", "input").get_attribute("aria-valuetext")
    assert page.find_element("tag name", "output").text == says
    assert image.get_attribute("alt").endswith(f"at {says}")
    assert image.size["width"] > 300
    return says, images(f'src="{image.get_attribute("src")}"')[0]


@pytest.mark.browser
@pytest.mark.tools
def test_the_keyboard_moves_the_slider(page, browser):
    from selenium.webdriver import ActionChains, Keys

    def press(key):
        ActionChains(browser).send_keys(key).perform()
        return shown(page)

    expected = dict(zip([0, 3, 12], images(vis.filter_slider(KERNELS).data), strict=True))
    assert shown(page)[0] == "epoch 12"
    press(Keys.TAB)
    keys = [Keys.ARROW_LEFT, Keys.ARROW_LEFT, Keys.ARROW_LEFT, Keys.ARROW_RIGHT, Keys.END]
    for key, epoch in zip([*keys, Keys.HOME], [3, 0, 0, 3, 12, 0], strict=True):
        says, picture = press(key)
        assert says == f"epoch {epoch}"
        np.testing.assert_array_equal(picture, expected[epoch])
    assert browser.execute_script(VISIBLE)[1:] == ["epoch 12"]  # the other slider stays


@pytest.mark.browser
@pytest.mark.tools
def test_the_mouse_moves_the_slider(page, browser):
    from selenium.webdriver import ActionChains

    handle = page.find_element("tag name", "input")
    half = handle.size["width"] / 2 - 3
    for place, epoch in [(-half, 0), (0, 3), (half, 12)]:
        ActionChains(browser).move_to_element_with_offset(handle, place, 0).click().perform()
        assert shown(page)[0] == f"epoch {epoch}"
    drag = ActionChains(browser).move_to_element_with_offset(handle, half, 0).click_and_hold()
    drag.move_by_offset(-half, 0).release().perform()
    assert shown(page)[0] == "epoch 3"
    assert page.find_element("tag name", "label").text.split() == ["Filters", "at", "epoch", "3"]


@pytest.mark.browser
@pytest.mark.tools
def test_the_page_is_no_wider_than_a_phone_and_does_not_jump(page, browser):
    width, screen = browser.execute_script(WIDTH)
    assert width <= screen == 390
    before = page.size["height"]
    handle = page.find_element("tag name", "input")
    handle.send_keys("\ue012")  # arrow left
    assert page.size["height"] == before


@pytest.mark.browser
@pytest.mark.tools
def test_print_shows_every_epoch_and_no_slider(page, browser):
    assert browser.execute_script(VISIBLE) == ["epoch 12"] * 2
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert browser.execute_script(VISIBLE) == ["epoch 0", "epoch 3", "epoch 12"] * 2
    assert not page.find_element("tag name", "label").is_displayed()
    assert all(c.is_displayed() for c in page.find_elements("tag name", "figcaption"))


@pytest.mark.browser
@pytest.mark.tools
def test_without_the_script_every_epoch_is_shown(browser, tmp_path):
    (tmp_path / "page.html").write_text(vis.filter_slider(KERNELS).data)
    browser.get(f"{tmp_path.as_uri()}/page.html")
    assert browser.execute_script(VISIBLE) == ["epoch 0", "epoch 3", "epoch 12"]
