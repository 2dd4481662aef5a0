"""Filters through training, as a slider in the page."""

import base64
import io

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import HTML

from ilsvrc.vis import style, weights

# With the script, one epoch at a time is on the screen; without it, and in print, all of them are.
STYLE = """<style>
.ilsvrc-filters {display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr));
  gap: .6rem; max-width: 42rem}
.ilsvrc-filters :is(figure, img) {margin: 0; width: 100%}
.ilsvrc-filters img {image-rendering: pixelated}
.ilsvrc-filters label {display: none}
@media screen {
  .ilsvrc-filters.live {display: block}
  .ilsvrc-filters.live label {display: flex; gap: .6rem; align-items: center; margin-bottom: .4rem}
  .ilsvrc-filters.live output {min-width: 5.5rem; font-variant-numeric: tabular-nums}
  .ilsvrc-filters.live input {flex: 1; min-width: 0}
  .ilsvrc-filters.live :is(figure:not(.shown), figcaption) {display: none}
}
</style>"""


def filter_slider(kernels, columns=16) -> HTML:
    """Draw a first layer's filters at several epochs, with a slider from the first to the last.

    One symmetric scale serves all filters and epochs, as in `filters_over_epochs`. The slider is
    made by the book's script, ``book/_static/filters.js``. Where it does not run (a notebook, a
    printed page) the epochs stand side by side.

    Args:
        kernels: {epoch: (height, width, 3 or 1, n) weights}, of one shape, such as a published
            record's ``filters``.
        columns: filters in a row.

    Returns:
        An object that a notebook shows; its ``data`` is the HTML, with the pictures inside.

    Raises:
        ValueError: if a kernel is not a first layer's, or there is none.
    """
    arrays = weights.by_epoch(kernels)
    limit = max(np.abs(array).max() for array in arrays.values())
    frames = [
        f'<figure><img alt="{array.shape[-1]} filters of the first layer at epoch {epoch}" '
        f'src="{_data_uri(style.mosaic(weights.pictures(array, limit=limit), columns))}">'
        f"<figcaption>epoch {epoch}</figcaption></figure>"
        for epoch, array in arrays.items()
    ]
    return HTML(f'{STYLE}<div class="ilsvrc-filters">{"".join(frames)}</div>')


def _data_uri(picture) -> str:
    """Write a picture (height, width, 3) of 0 to 1 as a PNG in a URI."""
    file = io.BytesIO()
    plt.imsave(file, (255 * picture).round().astype("uint8"), format="png")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
