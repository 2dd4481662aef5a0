"""The look of every figure: type that stays legible in the book, colours all can tell apart."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.font_manager import get_font_names

WIDTH = 7.0  # inches: the book's column, so that a point of type is about a point on the page
# Okabe and Ito's colours (2008), darkest first; yellow is left out, it is too faint on white.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000"]

HANGUL_AND_HAN = [  # fonts for names that the first has no letters for, where a system has one
    *("Noto Sans CJK KR", "Noto Sans KR", "NanumGothic", "Apple SD Gothic Neo", "Malgun Gothic"),
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "Arial Unicode MS"),
]

STYLE = {
    "font.family": ["DejaVu Sans", *(f for f in HANGUL_AND_HAN if f in get_font_names())],
    "text.parse_math": False,  # a class may be called "$5"
    "figure.dpi": 144,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "axes.titlelocation": "left",
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": plt.cycler(color=COLOURS),
    "axes.facecolor": "white",
    "text.color": "black",
    "axes.labelcolor": "black",
    "axes.edgecolor": "#444444",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "image.interpolation": "nearest",
}


def subplots(rows=1, columns=1, height=2.6, **options):
    """Return a figure of the book's width, already closed, and its axes."""
    fig, axes = plt.subplots(
        rows, columns, figsize=(WIDTH, height), layout="constrained", **options
    )
    plt.close(fig)  # or the notebook would show it twice: when drawn and when returned
    return fig, axes


def mosaic(pictures, columns) -> np.ndarray:
    """Lay pictures (n, height, width, 3) of 0 to 1 out in rows, a white pixel between them."""
    n, height, width, _ = pictures.shape
    columns = min(columns, n)
    rows = -(-n // columns)
    laid = np.ones((rows * (height + 1) - 1, columns * (width + 1) - 1, 3))
    for i, picture in enumerate(pictures):
        top, left = i // columns * (height + 1), i % columns * (width + 1)
        laid[top : top + height, left : left + width] = picture
    return laid


def drawable(picture) -> np.ndarray:
    """Return a picture or map as every Matplotlib draws it: half precision becomes float32."""
    picture = np.asarray(picture)
    return picture.astype("float32") if picture.dtype.itemsize == 2 else picture
