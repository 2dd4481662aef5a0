"""Looking at a network: training, weights, activations, mistakes, and the network's diagram.

Arrays go in; arrays or Matplotlib figures come out. A figure is returned closed, so that a notebook
shows it once: as the last value of a cell, or with ``display``. A network that was trained in mixed
precision is looked at in float32.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "attribution": [
            "class_activation_map",
            "grad_cam",
            "integrated_gradients",
            "occlusion",
            "overlay",
            "saliency",
            "smoothgrad",
        ],
        "deconv": ["contrast", "deconvnet", "guided_backprop"],
        "features": ["feature_ablation", "feature_visualisation", "gallery"],
        "gradients": ["gradient_norms"],
        "graph": ["diagram", "diagrams"],
        "maps": ["activation_maps", "activations"],
        "results": ["confusion", "curves", "mistakes"],
        "slider": ["filter_slider"],
        "twins": ["randomised", "similarity", "with_twin"],
        "units": [
            "crops",
            "dead_units",
            "duplicate_units",
            "patches",
            "strongest_units",
            "top_patches",
        ],
        "weights": [
            "filter_colour",
            "filter_memory",
            "filter_smoothness",
            "filters",
            "filters_over_epochs",
        ],
    },
)
