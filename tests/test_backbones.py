"""Detectors on the course's networks: their parts against definitions, mAP against pycocotools."""

import contextlib
import io

import keras
import numpy as np
import pytest

from ilsvrc import chapters

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
