"""The shared code of *The ImageNet Winners*, a course on convolutional networks.

Importing this package imports no framework; its modules load on first use.
"""

import lazy_loader

_load, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[
        "augment",
        "backend",
        "chapters",
        "data",
        "facts",
        "lab",
        "layers",
        "ledger",
        "listing",
        "notebooks",
        "paths",
        "profiles",
        "records",
        "vis",
    ],
    submod_attrs={"chapters": ["chapter"], "lab": ["Lab"], "profiles": ["Run"]},
)
ON_KERAS = {"Lab", "augment", "backend", "chapter", "lab", "layers", "ledger", "vis"}


def __getattr__(name):
    if name in ON_KERAS:
        from ilsvrc.frameworks import choose

        choose()
    return _load(name)
