"""Networks that run in the reader's browser: scripts of their weights, written beside the book.

A chapter with a published run called "live", whose record keeps all weights, places its network by

    <div class="ilsvrc-live" data-network="2012_alexnet">...</div>

`live.js` makes the rest of it, once the reader has asked; `network.js` computes the network.
"""

import base64
import functools
import io
import json
import re
from pathlib import Path

from PIL import Image

from ilsvrc import data, records
from ilsvrc.data.photographs import PHOTOGRAPHS

NAMES = ("temple", "flower", "cat", "coffee", "rocket", "astronaut")
SIDE = 224  # of the photographs, in px
BOX = re.compile(r'class="ilsvrc-live" data-network="(\w+)"')


def networks(root: Path) -> dict[str, records.Record]:
    """Return the records that keep a network for the browser, by chapter."""
    found = {
        path.parent.name: records.read(path) for path in (root / "results").glob("*/live.json")
    }
    return dict(sorted(found.items()))


def weights(record: records.Record) -> str:
    """Return the script that brings a record's network: what it is, and its weights in base64."""
    facts = record.facts
    network, images = facts["network"], facts["data"]
    arrays = []  # name, shape and, of int8, each filter's scale; others are float32
    content = b""
    for name in (key[len("weights/") :] for key in record.arrays if key.startswith("weights/")):
        kept, scales = record.arrays[f"weights/{name}"], record.arrays.get(f"scales/{name}")
        arrays.append((name, kept.shape, None if scales is None else scales.tolist()))
        content += kept.astype("<f4" if scales is None else "i1").tobytes()
    told = {
        "about": (
            f"{network['name']}, {network['parameters']:,} parameters, trained for "
            f"{facts['recipe']['epochs']} epochs on {images['title']}. It names "
            f"{facts['top1']['mean']:.1%} of {images['val']:,} validation images rightly. It knows "
            f"{len(images['class_names'])} classes and takes whatever it sees for one of them."
        ),
        "classes": images["class_names"],
        "size": images["size"],
        "stored": images["stored_size"],
        "mean": images["mean"],
        "arrays": arrays,
        "weights": _base64(content),
    }
    return f"ilsvrcNetwork.records[{json.dumps(facts['chapter'])}] = {json.dumps(told)};\n"


def photographs() -> str:
    """Return the script that brings six open photographs, squares of `SIDE` px, with credits."""
    found = []
    for one in (p for name in NAMES for p in PHOTOGRAPHS if p.name == name):
        image = Image.fromarray(data.square(data.open_photograph(one.name), SIDE))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=90, subsampling=0)
        source = f"data:image/jpeg;base64,{_base64(file.getvalue())}"
        found.append({"name": one.name, "credit": f"{one.name}: {one.credit}", "source": source})
    return f"ilsvrcNetwork.photographs = {json.dumps(found)};\n"


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def scripts(root: Path) -> dict[str, str]:
    """Return the scripts that a book at `root` needs, by file name: none without a network."""
    found = {f"{chapter}.js": weights(record) for chapter, record in networks(root).items()}
    return found | ({"photographs.js": photographs()} if found else {})


def write(root: Path, folder: Path) -> None:
    """Write the scripts into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in scripts(root).items():
        (folder / name).write_text(text, encoding="utf-8")


@functools.cache
def megabytes(root: Path) -> dict[str, float]:
    """Return how much each network's page loads, its weights and the photographs, by chapter."""
    size = {name: len(text) / 1e6 for name, text in scripts(root).items()}
    pictures = size.pop("photographs.js", 0)
    return {name.removesuffix(".js"): one + pictures for name, one in size.items()}


def announce(text: str, root: Path) -> str:
    """Return a page's source, its box saying how much it loads if `root` has its network."""

    def told(match):
        size = megabytes(root).get(match[1])
        return match[0] + (f' data-megabytes="{size:.1f}"' if size else "")

    return BOX.sub(told, text)


# In the build


def _announce(app, page, source) -> None:
    source[0] = announce(source[0], Path(app.srcdir))


def _write(app, exception) -> None:
    if not exception and app.builder.format == "html":
        write(Path(app.srcdir), Path(app.outdir, "_static", "live"))


def setup(app) -> dict:
    """Connect the above to the build."""
    app.connect("source-read", _announce)
    app.connect("build-finished", _write)
    return {"version": "1", "parallel_read_safe": False}
