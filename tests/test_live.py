"""The networks that run in the reader's browser: they say what Keras says, by mouse and by keys."""

import base64
import io
import json
import re
import shutil

import keras
import numpy as np
import pytest
from PIL import Image

import ilsvrc
from ilsvrc import augment, data, paths, records, training, weights

pytestmark = [pytest.mark.once, pytest.mark.tools]

STATIC = paths.ROOT / "book" / "_static"
NETWORKS = ["2012_alexnet", "2015_resnet"]


def built(name):
    """Return the network that a chapter's page brings, its weights drawn at random."""
    record, runs = records.read(paths.record(name, "live")), ilsvrc.chapter(name).runs
    build = next(run.build for run in runs if run.name == "live")
    return build(input_shape=tuple(record["network"]["input"]), logits=True)


@pytest.fixture(scope="module")
def live():
    """Return the book's extension as a module."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("live", paths.ROOT / "book" / "_ext" / "live.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def before_training(name):
    """Return what `fit` trains, the network in it with its published weights, and their record."""
    record, model = records.read(paths.record(name, "live")), built(name)
    few = training.feed(data.load("photographs", record["data"]["stored_size"], images=40), 40)
    few.mean = np.array(record["data"]["mean"], "float32")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.Model, "fit", lambda net, *given, **options: net)
        net = ilsvrc.chapter(name).fit(model, few, 1, [])
    weights.restore(model, record.weights)
    return net, model, record


@pytest.fixture(scope="module")
def in_keras():
    """Return a function that gives what Keras says of a photograph, fed as the course does it.

    It says it of the whole photograph, then with each of some squares (x, y, side) on it. What
    stands before the network is what the chapter's own `fit` puts there; nothing is trained.
    """
    nets = {}

    def answers(name, photograph, *squares):
        if name not in nets:
            nets[name] = before_training(name)
        net, model, record = nets[name]
        square = data.square(photograph, record["data"]["stored_size"])
        image = augment.prepare(net, square[None])
        images = np.repeat(image, 1 + len(squares), axis=0)
        for covered, (x, y, side) in zip(images[1:], squares, strict=True):
            top, left = y - side // 2, x - side // 2
            covered[max(top, 0) : top + side, max(left, 0) : left + side] = 0
        return keras.ops.convert_to_numpy(keras.ops.softmax(model(images, training=False)))

    return answers


def test_the_book_brings_a_network_for_every_box(live):
    boxes = {
        name: text.count('class="ilsvrc-live"')
        for name, text in ((p.stem, p.read_text()) for p in paths.CHAPTERS.glob("*.md"))
    }
    names = {name for name, boxed in boxes.items() if boxed}
    assert names == set(live.networks(paths.ROOT)) == set(NETWORKS)
    for name in names:
        assert f'"{name}"(image, weights)' in (STATIC / "network.js").read_text()
    for name, text in live.scripts(paths.ROOT).items():
        assert len(text) < 3e6, name


@pytest.mark.parametrize("name", NETWORKS)
def test_a_record_keeps_all_weights_of_its_network(name):
    there = {w.path: tuple(w.shape) for w in built(name).weights}
    kept = records.read(paths.record(name, "live")).weights
    assert {n: a.shape for n, a in kept.items()} == there


@pytest.mark.real
@pytest.mark.once
@pytest.mark.parametrize("name", NETWORKS)
def test_rounded_weights_answer_as_the_trained_ones_did(name, real_imagenette):
    if real_imagenette.name != "imagenette2-224":
        pytest.skip("no imagenette2-224, which the runs were tested on")
    net, model, record = before_training(name)
    images = data.load("imagenette2-224", record["data"]["stored_size"]).x_val[::3]
    parts = [augment.prepare(net, images[at : at + 256]) for at in range(0, len(images), 256)]
    found = [keras.ops.argmax(model(part, training=False), 1) for part in parts]
    answers = np.concatenate([keras.ops.convert_to_numpy(one) for one in found])
    published, labels = record.answers[0], record.arrays["labels"]
    assert (published == labels).mean() == pytest.approx(record["top1"]["mean"], abs=1e-6)
    assert (answers == published[::3]).mean() > 0.99


def test_a_page_says_how_much_it_will_load_and_nothing_where_there_is_nothing(live, tmp_path):
    box = '<div class="ilsvrc-live" data-network="2015_resnet">'
    assert live.announce(box, tmp_path) == box
    told = re.search(r'data-megabytes="(.*?)"', live.announce(box, paths.ROOT))[1]
    texts = live.scripts(paths.ROOT)
    loaded = len(texts["2015_resnet.js"]) + len(texts["photographs.js"])
    assert float(told) == pytest.approx(loaded / 1e6, abs=0.051)
    live.write(tmp_path, tmp_path / "live")
    assert list((tmp_path / "live").iterdir()) == []


# In a browser

SETTLED = """
const done = arguments[arguments.length - 1];
requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done)));
"""
STATE = """
const box = document.querySelector(".ilsvrc-live");
return {
  says: [...box.querySelectorAll("tr")].map((row) => Number(row.dataset.probability)),
  written: [...box.querySelectorAll("td")].map((cell) => cell.textContent),
  said: box.querySelector(".visually-hidden")?.textContent,
  fault: box.querySelector("[role=alert]")?.textContent,
  shown: box.querySelector(".panes figcaption")?.textContent,
  focus: document.activeElement.tagName,
  width: document.documentElement.scrollWidth,
};
"""
DROP = """
const bytes = Uint8Array.from(atob(arguments[0]), (letter) => letter.charCodeAt(0));
const dataTransfer = new DataTransfer();
dataTransfer.items.add(new File([bytes], arguments[1]));
const options = { dataTransfer, bubbles: true, cancelable: true };
for (const kind of ["dragover", "drop"])
  if (document.querySelector(".ilsvrc-live table").dispatchEvent(new DragEvent(kind, options)))
    throw new Error(`${kind} would leave the page`);
"""


@pytest.fixture(scope="module")
def folder(live, tmp_path_factory):
    """Return a folder with a page for each network and what the book lays beside it."""
    folder = tmp_path_factory.mktemp("book")
    shutil.copytree(STATIC, folder / "_static")
    live.write(paths.ROOT, folder / "_static" / "live")
    for name in NETWORKS:
        text = (paths.CHAPTERS / f"{name}.md").read_text()
        box = re.search(r'<div class="ilsvrc-live".*?</div>', text, re.DOTALL)[0]
        (folder / f"{name}.html").write_text(
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
            '<link rel="stylesheet" href="_static/course.css">'
            f'<script src="_static/live.js"></script></head><body><article>'
            f"{live.announce(box, paths.ROOT)}</article></body></html>"
        )
    return folder


@pytest.fixture
def opened(browser, folder):
    """Return a function that opens a network's page from the disk, on a phone, and loads it."""
    from selenium.webdriver.support.wait import WebDriverWait

    def wait(condition):
        WebDriverWait(browser, 20).until(lambda b: b.execute_script(f"return {condition}"))

    def open_page(name, load=True):
        phone = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
        browser.get((folder / f"{name}.html").as_uri())
        if load:
            browser.find_element("css selector", ".ilsvrc-live button").click()
            wait("document.querySelector('[data-probability]')")
        return open_page

    open_page.wait = wait
    browser.get_log("browser"), browser.get_log("performance")
    yield open_page
    asked = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in asked if m["method"].endswith("BeSent")]
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert [e for e in browser.get_log("browser") if e["level"] == "SEVERE"] == []


@pytest.fixture
def state(browser, opened):
    """Return a function that tells what a page shows, once it has answered."""

    def told():
        browser.execute_async_script(SETTLED)
        return browser.execute_script(STATE)

    return told


def shipped(live, name):
    """Return an open photograph as the page brings it."""
    found = json.loads(live.photographs().partition(" = ")[2].rstrip(";\n"))
    source = next(one["source"] for one in found if one["name"] == name)
    return Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))


def test_what_alexnets_page_says_of_the_photographs_is_so(live, in_keras):
    names = records.read(paths.record("2012_alexnet", "live"))["data"]["class_names"]
    church, horn = names.index("church"), names.index("French horn")
    building = [(14, 24, 17), (24, 24, 17)]
    sky = [(34, 4, 17), (44, 4, 17), (44, 14, 17), (44, 24, 17)]
    said = in_keras("2012_alexnet", shipped(live, "temple"), *building, *sky)
    assert said[0].argmax() == church and 0.45 < said[0, church] < 0.6
    assert (said[1:3, church] > said[0, church] + 0.2).all() and (said[3:, church] < 0.1).all()
    anywhere = [(x, y, 17) for x in range(4, 67, 10) for y in range(4, 67, 10)]
    said = in_keras("2012_alexnet", shipped(live, "cat"), *anywhere)
    assert said[0, horn] > 0.8 and (said.argmax(1) == horn).all()


def test_what_resnets_page_says_of_the_photographs_is_so(live, in_keras):
    names = records.read(paths.record("2015_resnet", "live"))["data"]["class_names"]
    sky = [(x, 4, 16) for x in range(4, 64, 10)]
    sky += [(x, y, 16) for x in (34, 44, 54) for y in (14, 24)]
    building = [(14, 24, 16), (24, 24, 16)]
    said = in_keras("2015_resnet", shipped(live, "temple"), *building, *sky)
    church = said[:, names.index("church")]
    assert said[0].argmax() == names.index("church") and 0.3 < church[0] < 0.45
    assert (church[1:3] > 0.6).all() and (church[3:] < 0.3).all()
    others = {names[i] for i in said[3:].argmax(1)}
    assert "church" not in others and {"chain saw", "gas pump"} <= others
    (cat,) = in_keras("2015_resnet", shipped(live, "cat"))
    assert cat.max() < 0.6


def press(browser, *keys):
    from selenium.webdriver import ActionChains

    ActionChains(browser).send_keys(*keys).perform()


@pytest.mark.browser
@pytest.mark.parametrize("name", NETWORKS)
def test_it_says_what_keras_says_of_photographs_and_with_the_square(
    browser, live, opened, state, in_keras, name
):
    from selenium.webdriver import Keys

    opened(name)
    record = records.read(paths.record(name, "live"))
    size = record["data"]["size"]
    heads = [h.text for h in browser.find_elements("css selector", ".ilsvrc-live th")]
    assert heads == record["data"]["class_names"]
    for choice in ("temple", "coffee"):
        browser.find_element("css selector", f'img[alt="{choice}"]').click()
        opened.wait(f"document.querySelector('.panes figcaption').textContent.match('{choice}')")
        (whole,) = in_keras(name, shipped(live, choice))
        np.testing.assert_allclose(state()["says"], whole, atol=1e-3)
    browser.find_element("css selector", ".ilsvrc-live canvas").click()  # in its middle
    press(browser, *[Keys.ARROW_LEFT] * 4, *[Keys.ARROW_DOWN] * 20)  # cut off below
    opened.wait("document.querySelector('.visually-hidden').textContent.match('square')")
    at = re.search(r"column (\d+), row (\d+) of", state()["said"])
    square = (*map(int, at.groups()), round(size / 4 + 1e-9))
    assert square[:2] == (size // 2 - 8, size - 1)
    _, covered = in_keras(name, shipped(live, "coffee"), square)
    np.testing.assert_allclose(state()["says"], covered, atol=1e-3)
    assert abs(covered - whole).max() > 0.01


@pytest.mark.browser
def test_a_dropped_photograph_is_turned_upright_and_seen_as_keras_sees_it(
    browser, opened, state, in_keras, tmp_path
):
    rocket = data.open_photograph("rocket").resize((431, 250))
    orientation = Image.Exif()
    orientation[0x0112] = 6  # held upright, as phones do
    file = tmp_path / "mine.jpg"
    rocket.save(file, exif=orientation, quality=95)
    (expected,), (lying,) = (in_keras("2012_alexnet", one) for one in (Image.open(file), rocket))
    assert abs(expected - lying).max() > 0.05
    opened("2012_alexnet")
    browser.execute_script(DROP, base64.b64encode(file.read_bytes()).decode(), "dropped.jpg")
    opened.wait("document.querySelector('.panes figcaption').textContent === 'dropped.jpg'")
    np.testing.assert_allclose(state()["says"], expected, atol=1e-3)
    browser.find_element("css selector", 'img[alt="cat"]').click()
    browser.find_element("css selector", "input[type=file]").send_keys(str(file))
    opened.wait("document.querySelector('.panes figcaption').textContent === 'mine.jpg'")
    np.testing.assert_allclose(state()["says"], expected, atol=1e-3)
    before = state()["says"]
    browser.execute_script(DROP, base64.b64encode(b"a poem").decode(), "poem.txt")
    opened.wait("document.querySelector('[role=alert]').textContent.match('poem.txt is no pict')")
    assert state()["says"] == before and state()["shown"] == "mine.jpg"


@pytest.mark.browser
def test_the_keyboard_alone_loads_it_and_moves_the_square(browser, opened, state):
    from selenium.webdriver import Keys

    opened("2015_resnet", load=False)
    press(browser, Keys.TAB, Keys.ENTER)
    opened.wait("document.activeElement.getAttribute('aria-label')?.startsWith('temple')")
    whole = state()["says"]
    assert sum(whole) == pytest.approx(1) and state()["width"] <= 390
    press(browser, Keys.ARROW_UP)
    covered = state()["says"]
    assert covered != whole
    best = f"{100 * max(covered):.1f} %"
    assert best in state()["written"]
    press(browser, Keys.ESCAPE)
    assert state()["says"] == whole
    opened.wait("document.querySelector('.visually-hidden').textContent.match('then')")
    assert "square" not in state()["said"] and state()["focus"] == "CANVAS"


@pytest.mark.browser
def test_the_square_follows_the_mouse_and_leaves_with_it(browser, opened, state):
    from selenium.webdriver import ActionChains

    opened("2012_alexnet")
    whole = state()["says"]
    canvas = browser.find_element("css selector", ".ilsvrc-live canvas")
    seen = []
    for across in (-80, 0, 80):
        ActionChains(browser).move_to_element_with_offset(canvas, across, 20).perform()
        seen.append(state()["says"])
    assert whole not in seen and len({tuple(one) for one in seen}) == 3
    elsewhere = browser.find_element("css selector", ".ilsvrc-live table")
    ActionChains(browser).move_to_element(elsewhere).perform()
    assert state()["says"] == whole


@pytest.mark.browser
def test_a_missing_file_is_named(browser, opened, folder):
    file = folder / "_static" / "live" / "2015_resnet.js"
    file.rename(file.with_suffix(".away"))
    try:
        opened("2015_resnet", load=False)
        button = browser.find_element("css selector", ".ilsvrc-live button")
        button.click()
        opened.wait("document.querySelector('[role=status]').textContent.match('2015_resnet.js')")
    finally:
        file.with_suffix(".away").rename(file)
    browser.get_log("browser")  # it names the file as well
    button.click()
    opened.wait("document.querySelector('[data-probability]')")
