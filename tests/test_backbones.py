"""Detectors on the course's networks: their parts against definitions, mAP against pycocotools."""

import contextlib
import io
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from ilsvrc import chapters, paths, records

NAME = "backbones"


@pytest.fixture(scope="module")
def module():
    return chapters.chapter(NAME)


# mAP, against pycocotools


def planted_images(seed, images=6, kinds=3):
    """Draw true boxes and what a detector might find: near hits, doubles, wrong kinds, phantoms."""
    rng = np.random.default_rng(seed)
    truths, found = [], []
    for _ in range(images):
        count = rng.integers(0, 6)
        low, size = rng.uniform(0, 60, (count, 2)), rng.uniform(5, 60, (count, 2))
        boxes, own = np.concatenate([low, low + size], 1), rng.integers(kinds, size=count)
        truths.append((own, boxes))
        rows = []
        for kind, box in zip(own, boxes, strict=True):
            for _ in range(rng.integers(0, 4)):
                near = box + rng.normal(0, 0.12 * (box[2:] - box[:2]).max(), 4)
                rows.append([*near, kind if rng.random() < 0.8 else rng.integers(kinds), 0])
        low, size = rng.uniform(0, 60, (4, 2)), rng.uniform(5, 60, (4, 2))
        rows += [[*b, rng.integers(kinds), 0] for b in np.concatenate([low, low + size], 1)]
        rows = np.array(rows)
        rows[:, 2:4] = np.maximum(rows[:, 2:4], rows[:, :2] + 1)
        rows[:, 5] = rng.permutation(len(rows)) / len(rows) + rng.uniform(0, 1e-3)
        found.append(rows[rng.permutation(len(rows))])
    return found, *zip(*truths, strict=True)


def by_pycocotools(found, kinds, boxes):
    """Return AP, averaged over ten IoUs and at 0.5, as COCO's own program gives it."""
    coco = pytest.importorskip("pycocotools.coco")
    from pycocotools.cocoeval import COCOeval

    def as_coco(box):
        return [box[0], box[1], box[2] - box[0], box[3] - box[1]]

    truth, given = coco.COCO(), []
    truth.dataset = {"images": [{"id": i} for i in range(len(found))], "info": {}}
    truth.dataset["categories"] = [{"id": int(k)} for k in np.unique(np.concatenate(kinds))]
    truth.dataset["annotations"] = [
        {"image_id": i, "category_id": int(k), "bbox": as_coco(b), "iscrowd": 0}
        | {"area": (b[2] - b[0]) * (b[3] - b[1])}
        for i, (own, some) in enumerate(zip(kinds, boxes, strict=True))
        for k, b in zip(own, some, strict=True)
    ]
    for number, one in enumerate(truth.dataset["annotations"], 1):
        one["id"] = number
    known = {one["id"] for one in truth.dataset["categories"]}
    for i, rows in enumerate(found):
        given += [
            {"image_id": i, "category_id": int(k), "bbox": as_coco(b), "score": s}
            for *b, k, s in rows.tolist()
            if k in known
        ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(given), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[:2]


@pytest.mark.once
@pytest.mark.parametrize("seed", range(12))
def test_map_is_pycocotools_to_a_millionth(module, seed):
    found, kinds, boxes = planted_images(seed, images=3 + seed)
    ours = module.mean_average_precision(found, kinds, boxes)
    at_half = module.mean_average_precision(found, kinds, boxes, least=(0.5,))
    assert 0 < ours < at_half < 1
    np.testing.assert_allclose((ours, at_half), by_pycocotools(found, kinds, boxes), atol=1e-6)


# Boxes


def by_pixels(one, other):
    """Return IoU of two boxes with whole edges, by counting pixels."""
    grids = [np.zeros((80, 80), bool) for _ in range(2)]
    for grid, (left, top, right, bottom) in zip(grids, (one, other), strict=True):
        grid[top:bottom, left:right] = True
    return (grids[0] & grids[1]).sum() / max((grids[0] | grids[1]).sum(), 1)


def whole_boxes(rng, count):
    low = rng.integers(0, 60, (count, 2))
    return np.concatenate([low, low + rng.integers(1, 20, (count, 2))], 1)


@pytest.mark.once
def test_iou_counts_pixels(module):
    some, others = (whole_boxes(np.random.default_rng(seed), 60) for seed in (0, 1))
    expected = [by_pixels(*pair) for pair in zip(some, others, strict=True)]
    np.testing.assert_allclose(module.iou(some, others), expected, atol=1e-9)
    assert (module.iou(some, some) == 1).all()
    far = some + [100, 0, 100, 0]
    assert (module.iou(some[:, None], far) == 0).all()


@pytest.mark.once
def test_centres_and_corrections_can_be_undone(module):
    rng = np.random.default_rng(0)
    boxes, places = (whole_boxes(rng, 50).astype("float64") for _ in range(2))
    np.testing.assert_allclose(module.edges(module.centred(boxes)), boxes)
    moves = module.corrections(boxes, places)
    np.testing.assert_allclose(module.corrected(moves, places), boxes, atol=1e-9)
    assert (module.corrections(places, places) == 0).all()
    wider = module.edges(module.centred(places) * [1, 1, np.e, 1])
    np.testing.assert_allclose(module.corrections(wider, places)[:, 2], 1)


@pytest.mark.once
def test_anchors_stand_on_the_middles_of_their_cells(module):
    places = module.anchors(64, (8, 4, 2))
    assert places.shape == (9 * (64 + 16 + 4), 4)
    middles, sizes = module.centred(places)[:, :2], module.centred(places)[:, 2:]
    np.testing.assert_allclose(middles[:9], 4)  # of the first 8 x 8 pixels
    np.testing.assert_allclose(middles[9:18], [[12, 4]] * 9)  # x goes first along a row
    np.testing.assert_allclose(middles[-9:], 48)
    np.testing.assert_allclose(np.prod(sizes[1], -1) ** 0.5, 12)
    np.testing.assert_allclose(sizes[0, 0] / sizes[0, 1], 2)  # the first lies, the third stands
    np.testing.assert_allclose(sizes[2, 1] / sizes[2, 0], 2)


# The data


@pytest.mark.once
def test_a_scenes_boxes_hold_what_is_seen_to_the_pixel(module, monkeypatch):
    """Two flat squares of one colour each, the second over a corner of the first."""
    squares = [(np.full((20, 20, 4), 255.0), 10, 6), (np.full((12, 30, 4), 255.0), 4, 20)]
    squares[1][0][..., 0] = 90
    waiting = iter(squares)
    monkeypatch.setitem(module.scene.__globals__, "thrown", lambda *given: next(waiting))
    rng = SimpleNamespace(integers=lambda *given, size=None: np.zeros(2, int) if size else 2)
    things = [[None] * 3] * 6
    picture, kinds, boxes = module.scene(np.zeros((64, 64, 3), "uint8"), things, rng)
    assert list(kinds) == [0, 0]
    for value, box in zip((255, 90), boxes, strict=True):
        np.testing.assert_array_equal(box, module.extent(picture[..., 0] == value))
    np.testing.assert_array_equal(boxes, [[6, 10, 26, 30], [20, 4, 50, 16]])
    over = [(np.full((20, 20, 4), 255.0), 10, 10), (np.full((19, 19, 4), 90.0), 10, 10)]
    over[1][0][..., 3] = 255
    waiting = iter(over)
    _, kinds, boxes = module.scene(np.zeros((64, 64, 3), "uint8"), things, rng)
    assert len(kinds) == 1  # the second would hide nearly all of the first
    np.testing.assert_array_equal(boxes, [[10, 10, 30, 30]])


@pytest.mark.once
def test_scenes_are_drawn_again_alike_and_things_stay_half_visible(module):
    some, again = module.scenes(24, 8), module.scenes(24, 8)
    for split in some:
        np.testing.assert_array_equal(some[split][0], again[split][0])
        assert some[split][0].dtype == np.uint8 and some[split][0].shape[1:] == (64, 64, 3)
        for kinds, boxes in zip(*some[split][1:], strict=True):
            assert len(kinds) == len(boxes) and set(kinds) <= set(range(5))
            assert (boxes[:, :2] < boxes[:, 2:]).all()
            assert (boxes >= 0).all() and (boxes <= 64).all()
    assert {k for kinds in some["train"][1] for k in kinds} == set(range(5))


@pytest.mark.once
def test_tiny_imagenets_last_pixel_counts(module, tmp_path):
    from PIL import Image

    (tmp_path / "wnids.txt").write_text("n1\nn2\n")
    for folder in ("train/n1/images", "train/n2/images", "val/images"):
        (tmp_path / folder).mkdir(parents=True)
    for number, name in enumerate(("train/n1/images/a.JPEG", "val/images/b.JPEG")):
        Image.new("L", (64, 64), 10 * number).save(tmp_path / name)  # grey, as some are
    (tmp_path / "train/n1/n1_boxes.txt").write_text("a.JPEG\t0\t0\t63\t63\ngone.JPEG\t1\t1\t2\t2\n")
    (tmp_path / "train/n2/n2_boxes.txt").write_text("")
    (tmp_path / "val/val_annotations.txt").write_text("b.JPEG\tn2\t16\t0\t31\t63\n")
    found = module.tiny_imagenet(tmp_path)
    np.testing.assert_array_equal(found["train"][2], [[0, 0, 1, 1]])
    np.testing.assert_array_equal(found["val"][2], [[0.25, 0, 0.5, 1]])
    assert list(found["val"][1]) == [1] and found["val"][0].shape == (1, 64, 64, 3)


# The detector's parts


@pytest.mark.once
def test_anchors_learn_what_lies_on_them(module):
    places = module.anchors(64, (8, 4, 2))
    boxes, kinds = np.array([[10, 12, 30, 40], [40, 40, 43, 43]], "float32"), np.array([3, 1])
    truth = module.assigned(boxes, kinds, places)
    fit = module.iou(places[:, None], boxes[None])
    assert (truth[fit.max(1) < 0.4, 0][fit.argmax(1)[fit.max(1) < 0.4] == 0] == -1).all()
    assert (truth[fit[:, 0] >= 0.5, 0] == 3).all() and (fit[:, 0] >= 0.5).any()
    unsure = (fit.max(1) >= 0.4) & (fit.max(1) < 0.5)
    assert unsure.any() and (truth[unsure, 0] == -2).all()
    assert (truth[:, 0] == 1).sum() == 1  # too small for any anchor, it has its best one
    on = truth[:, 0] == 3
    mended = module.corrected(truth[on, 1:], places[on])
    np.testing.assert_allclose(mended, np.repeat(boxes[:1], on.sum(), 0), atol=1e-3)
    empty = module.assigned(boxes[:0], kinds[:0], places)
    assert (empty[:, 0] == -1).all()


def test_the_loss_is_the_papers_sum(module):
    """Cross-entropy, its weight and its power, anchor by anchor, in plain NumPy."""
    rng = np.random.default_rng(0)
    output = rng.normal(0, 2, (2, 30, 9)).astype("float32")
    truth = np.zeros((2, 30, 5), "float32")
    truth[..., 0] = rng.integers(-2, 5, (2, 30))
    truth[..., 1:] = rng.normal(size=(2, 30, 4))
    expected = []
    for one, wanted in zip(output.astype(float), truth, strict=True):
        total, there = 0.0, 0
        for row, (kind, *moves) in zip(one, wanted, strict=True):
            if kind == -2:
                continue
            for k, score in enumerate(row[:5]):
                p = 1 / (1 + np.exp(-score))
                p_t, alpha = (p, 0.25) if k == kind else (1 - p, 0.75)
                total -= alpha * (1 - p_t) ** 2 * np.log(p_t)
            if kind >= 0:
                there += 1
                total += np.abs(row[5:] - moves).sum()
        expected.append(total / max(there, 1))
    found = keras.ops.convert_to_numpy(module.detection_loss(truth, output))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.once
def test_suppression_keeps_the_best_of_those_that_overlap(module):
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [30, 30, 40, 40], [4, 0, 14, 10]], float)
    kept = module.suppressed(boxes, np.array([0.6, 0.9, 0.5, 0.7]))
    assert list(kept) == [1, 2]  # the fourth overlaps the second by 7 / 13, more than one half
    assert list(module.suppressed(boxes, np.array([0.6, 0.9, 0.5, 0.7]), most=0.6)) == [1, 3, 2]
    assert len(module.suppressed(boxes[:0], np.zeros(0))) == 0


@pytest.mark.once
def test_each_kind_is_suppressed_by_itself(module):
    places = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [0, 1, 10, 11]], float)
    output = np.zeros((3, 6))
    output[:, :2] = [[4, -9], [-9, 3], [2, -9]]
    found = module.detections(output, places)
    assert [(row[4], round(float(row[5]), 3)) for row in found] == [(0, 0.982), (1, 0.953)]
    np.testing.assert_allclose(found[:, :4], places[:2])


@pytest.mark.once
@pytest.mark.parametrize("kind", ["vgg", "resnet", "mobilenet", "squeezenet"])
def test_a_detector_has_a_row_for_each_anchor(module, kind):
    run = {run.name: run for run in module.runs}[kind]
    if kind == "squeezenet":
        backbone = module.squeezenet.squeezenet("1.1", (67, 67, 3), 10, logits=True)
    else:
        backbone = run.build(logits=True)
    last = run.measure.args[0]
    model = module.detector(backbone, last)
    places = module.places_of(model)
    assert places.shape == (756, 4) and model.output_shape == (None, 756, 9)
    side = 67 if kind == "squeezenet" else 64
    middles = module.centred(places)[:, :2].mean(0)
    np.testing.assert_allclose(middles, side / 2)  # the grids lie around the middle
    deepest = max(module.levels(backbone, last))
    assert deepest == (4 if kind == "squeezenet" else 5)
    if kind == "mobilenet":
        scores = model.predict(np.zeros((1, side, side, 3), "float32"), verbose=0)[0, :, :5]
        np.testing.assert_allclose(1 / (1 + np.exp(-scores)), 0.01, atol=0.005)


def test_a_detector_learns_a_scene_by_heart(module):
    from ilsvrc import backend

    backend.seed(0)
    image = maps = keras.Input((64, 64, 3))
    for i in range(5):
        maps = keras.layers.Conv2D(24, 3, 2, "same", activation="relu", name=f"c{i}")(maps)
    pictures, kinds, boxes = (one[:2] for one in module.scenes(8, 8)["train"])
    x = module.prepared(pictures, 64, (np.float32([110, 90, 85]), 58))
    model = module.detector(keras.Model(image, maps), "c4")
    truth = module.told(model, kinds, boxes)
    loss = module.fit_detector(model, x, truth, 100, batch=2).history["loss"]
    assert loss[-1] < loss[0] / 4
    found = module.detected(model, x)
    assert module.mean_average_precision(found, kinds, boxes, least=(0.5,)) > 0.8


# Localisation


def test_two_ends_learn_where_and_what_but_an_average_forgets_where(module):
    """A bright square on black: its place can be learned from maps, and not from their mean."""
    from ilsvrc import backend

    rng = np.random.default_rng(0)
    where = rng.integers(0, 4, (256, 2))
    maps = np.zeros((256, 4, 4, 8), "float32")
    maps[np.arange(256), where[:, 1], where[:, 0]] = 1
    boxes = np.concatenate([where / 4, where / 4 + 0.25], 1).astype("float32")
    kinds = np.zeros(256, int)
    right = {}
    for averaged in (False, True):
        backend.seed(0)
        image = keras.Input((4, 4, 8))
        model = module.localiser(image, [image], 2, averaged)
        module.fit_localiser(model, maps, kinds, boxes, epochs=40, rate=5e-3)
        fit, ranks = module.localised(model, maps, kinds, boxes)
        assert fit.dtype == np.float16 and (ranks == 0).all()
        right[averaged] = (fit >= 0.5).mean()
    assert right[False] > 0.9 and right[True] < 0.3


def test_the_box_loss_is_one_less_generalised_iou(module):
    some, others = (whole_boxes(np.random.default_rng(seed), 60) for seed in (0, 1))
    some[:20] = others[:20] + 1  # these touch, most others do not
    low, high = np.minimum(some, others)[:, :2], np.maximum(some, others)[:, 2:]
    hull, (area, other) = (
        np.prod(high - low, 1),
        (np.prod(b[:, 2:] - b[:, :2], 1) for b in (some, others)),
    )
    fit = module.iou(some, others)
    union = (area + other) / (1 + fit)
    ends = (module.centred(boxes).astype("float32") for boxes in (some, others))
    loss = keras.ops.convert_to_numpy(module.box_loss(*ends))
    np.testing.assert_allclose(loss, 1 - (fit - (hull - union) / hull), atol=1e-4)


@pytest.mark.once
def test_mirrored_boxes_hold_the_mirrored_thing(module):
    images, boxes = np.zeros((1, 8, 8, 3), "uint8"), np.array([[0.25, 0.5, 0.5, 1]], "float32")
    images[0, 4:8, 2:4] = 255
    both, kinds, found = module.with_mirrored(images, np.array([3]), boxes)
    assert list(kinds) == [3, 3]
    for image, box in zip(both, found, strict=True):
        np.testing.assert_array_equal(module.extent(image[..., 0] > 0), 8 * box)


@pytest.mark.once
def test_the_fixed_box_is_the_one_that_fits_most(module):
    boxes = np.array([[0.25, 0.25, 0.75, 0.75]] * 6 + [[0, 0, 0.1, 0.1]] * 5)
    np.testing.assert_array_equal(module.fixed_box(boxes), [0.25, 0.25, 0.75, 0.75])


@pytest.mark.once
def test_a_weight_too_large_for_half_precision_is_kept_whole():
    from ilsvrc import weights

    image = keras.Input((2,))
    model = keras.Model(image, keras.layers.BatchNormalization(name="norm")(image))
    model.get_layer("norm").moving_variance.assign([2.4e6, 1])
    kept = weights.kept(model, "")
    assert {str(v.dtype) for v in kept.values()} == {"float16", "float32"}
    model.get_layer("norm").moving_variance.assign([0, 0])
    weights.restore(model, records.Record({}, kept).weights)
    assert np.asarray(model.get_layer("norm").moving_variance).tolist() == [2.4e6, 1]


# What the page says of its records


@pytest.fixture(scope="module")
def published(module):
    found = {name: records.read(paths.record(NAME, name)) for name in module.NAMES}
    return {name: record for name, record in found.items() if record}


@pytest.mark.once
def test_localisation_has_the_order_that_the_page_tells(module, published):
    wrong = {name: module.box_errors(record, "maps") for name, record in published.items()}
    averaged = {name: module.box_errors(record, "averaged") for name, record in published.items()}
    fixed = module.box_errors(published["squeezenet"], "fixed")
    assert set(wrong) == set(module.NAMES) and all(len(one) == 3 for one in wrong.values())
    middle = np.concatenate([wrong["resnet"], wrong["vgg"]])
    assert wrong["squeezenet"].max() < min(fixed - 3, middle.min() - 1)
    assert middle.max() < min(fixed - 1, wrong["mobilenet"].min() - 1)
    spread = max(np.std(wrong[name], ddof=1) for name in ("vgg", "resnet"))
    assert abs(wrong["vgg"].mean() - wrong["resnet"].mean()) < spread
    assert abs(wrong["mobilenet"] - fixed).max() < 0.1
    for name in wrong:
        assert 0.8 < averaged[name].mean() - wrong[name].mean() < 2.5
        missed = 100 * (published[name].arrays["rank/maps"] >= 5).mean()  # the class alone
        assert 60 < module.challenge_errors(published[name], "maps").min() < 2 * missed
    assert all(abs(averaged[name].mean() - fixed) < 0.3 for name in ("vgg", "resnet"))


@pytest.mark.once
def test_detection_has_the_order_that_the_page_tells(module, published):
    reached = {
        name: module.mean_average_precision(
            module.rows_of(record), *module.apart(record), least=(0.5,)
        )
        for name, record in published.items()
    }
    assert module.SCENES == (4000, 200)
    assert all(record.arrays["detector/loss"].shape == (1, 8) for record in published.values())
    assert max(reached, key=reached.get) == "squeezenet" and reached["squeezenet"] > 0.6
    assert min(reached, key=reached.get) == "mobilenet" and reached["mobilenet"] < 0.1
    assert all(0.45 < published[n]["top1"]["mean"] < 0.55 for n in ("mobilenet", "squeezenet"))
    ends = {
        name: module.precision_by_recall(module.rows_of(record), *module.apart(record))
        for name, record in published.items()
    }
    assert round(ends["mobilenet"][0][-1], 1) == 0.6 and ends["mobilenet"][1][:20].max() < 0.5
    assert all(ends[name][1][:5].min() == 1 for name in ("vgg", "resnet", "squeezenet"))
    assert all(0.66 < published[name]["top1"]["mean"] < 0.74 for name in ("resnet", "vgg"))
    assert abs(reached["resnet"] - reached["vgg"]) < 0.03
    assert min(published, key=lambda name: published[name]["top1"]["mean"]) == "mobilenet"
