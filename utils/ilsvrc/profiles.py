"""How large a run is: the three profiles, a chapter's runs, and what both settle together."""

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ilsvrc import data, paths
from ilsvrc.hints import did_you_mean, whole_number


@dataclass(frozen=True)
class Profile:
    """What a machine can bear. A chapter's recipe (optimiser, schedule) is not part of it."""

    name: str
    data: tuple[
        str, ...
    ]  # data sets in order of preference; the last is fetched where none is there
    slim: bool  # whether networks are trained as their slim siblings, where they have one
    claim_size: int | None  # input of the full networks in runs that test a claim, in px
    images: int | None  # training images at most
    epochs: int
    seeds: int  # at most so many seeds a run
    batch: int


PROFILES = {
    "smoke": Profile("smoke", ("photographs",), True, None, 320, 1, 1, 32),
    "laptop": Profile("laptop", ("imagenette", "photographs"), True, None, None, 5, 1, 64),
    "gpu": Profile("gpu", ("imagenette",), False, 128, None, 80, 3, 128),
}


@dataclass(frozen=True)
class Run:
    """One training run of a chapter, as plain data.

    Attributes:
        name: Unique in the chapter.
        build: A builder, f(input_shape=, classes=, logits=) -> keras.Model, with the paper's sizes.
        fit: f(model, data, epochs, callbacks) -> keras.callbacks.History; it compiles, too.
        small: The builder's slim sibling, trained where the profile has no room for `build`.
        small_size: The slim sibling's input, in px.
        size: The paper's input, in px.
        headline: Whether the chapter's page leads with this run.
        claim: Which claim of the paper the run tests, such as "relu".
        seeds: How many seeds the run wants; a profile may grant fewer.
        images: Training images at most (None: all), for claims about the data.
        longer: How many times the profile's epochs, so that fewer images make as many steps.
        keep: Prefix of the layers whose weights are published with the record; "" for all.
        measure: f(trained) -> {name: array}, what the chapter's own pictures need, published
            with the record.
        probabilities: Whether a claim's record keeps them, and not its answers alone.
        story: Whether the course's story stands on the run: such runs are trained first.
    """

    name: str
    build: Callable
    fit: Callable
    small: Callable | None = None
    small_size: int = 64
    size: int = 224
    headline: bool = False
    claim: str | None = None
    seeds: int = 1
    images: int | None = None
    longer: int = 1
    keep: str | None = None
    measure: Callable | None = None
    probabilities: bool = False
    story: bool = False


@dataclass(frozen=True)
class Plan:
    """What a run and a profile settle together: all that the outcome depends on, but code."""

    run: Run
    profile: str
    build: Callable
    data: str
    size: int
    images: int | None
    epochs: int
    seeds: tuple[int, ...]
    batch: int

    @property
    def stored_size(self) -> int:
        """Return the side of the stored images in px: 256 for crops of 224, and in that ratio."""
        return round(self.size * 256 / 224)

    @property
    def network(self) -> str:
        """Return the name of the network that is trained."""
        return getattr(self.build, "func", self.build).__name__


def profile(name: str | None = None) -> Profile:
    """Return a profile: the one named, else `ILSVRC_PROFILE`, else "gpu" where there is one.

    Args:
        name: "smoke", "laptop" or "gpu", or None.

    Raises:
        ValueError: There is no such profile.
    """
    asked = os.environ.get("ILSVRC_PROFILE") if name is None else name
    if name is None and not asked:
        from ilsvrc import backend

        asked = "laptop" if backend.on_cpu() else "gpu"
    if not isinstance(asked, str) or asked not in PROFILES:
        raise ValueError(
            f"No profile is called {asked!r}.{did_you_mean(asked, PROFILES)} "
            f"There are: {', '.join(PROFILES)}. "
            "Set the notebook's parameter `profile`, or ILSVRC_PROFILE, to one of them."
        )
    return PROFILES[asked]


BOUNDS = {  # what a reader may set, on a page or on the command line, and between which numbers
    "epochs": (1, 10_000),
    "seed": (0, 2**31 - 1_000),
    "size": (16, 2_048),
    "seeds": (1, 1_000),
    "batch": (1, 65_536),
}


def check(**given) -> None:
    """Refuse parameters that mean nothing, for notebooks and the command line alike.

    Args:
        given: Those of `Lab`, by name; None stands for the profile's own.

    Raises:
        ValueError: A number is none, no whole one, or out of bounds; `claims` is neither True nor
            False; or there is no such profile. The message says what would do.
    """
    if "profile" in given:
        profile(given["profile"])
    if not isinstance(given.get("claims", False), (bool, np.bool_)):
        raise ValueError(f"claims is {given['claims']!r}; it must be True or False.")
    for name, (least, most) in BOUNDS.items():
        whole_number(name, given.get(name), least, most, "what the profile has")


def best_data(profile: Profile) -> str:
    """Return the data set to take: the first preferred one that is here, else the last.

    Raises:
        FileNotFoundError: ``ILSVRC_DATA`` names a folder that holds none of those preferred.
    """
    found = next((name for name in profile.data[:-1] if data.find(name)), profile.data[-1])
    place = paths.data_folder()
    if found == "photographs" and len(profile.data) > 1 and place:  # no stand-in without a word
        raise FileNotFoundError(
            f"ILSVRC_DATA names {place}, and no Imagenette is there. Set it to the folder that "
            "holds imagenette2-160, or fetch that: ilsvrc data fetch imagenette2-160. Unset it to "
            "work with the embedded photographs."
        )
    return found


def settle(
    run: Run, profile: Profile, *, epochs=None, seed=None, size=None, seeds=None, batch=None
) -> Plan:
    """Settle what a run does at a profile.

    Args:
        run: A chapter's run.
        profile: Where it runs.
        epochs: Overrides the profile's epochs.
        seed: The first seed (0).
        size: Overrides the input's side, in px; the network is then `run.build`.
        seeds: Overrides the number of seeds.
        batch: Overrides the images a training step.
    """
    slim = profile.slim and run.small is not None and size is None
    full_size = (profile.claim_size if run.claim else None) or run.size
    images = [n for n in (run.images, profile.images) if n is not None]
    first = 0 if seed is None else int(seed)
    count = min(run.seeds, profile.seeds) if seeds is None else int(seeds)
    return Plan(
        run=run,
        profile=profile.name,
        build=run.small if slim else run.build,
        data=best_data(profile),
        size=(run.small_size if slim else full_size) if size is None else int(size),
        images=min(images, default=None),
        epochs=(profile.epochs if epochs is None else int(epochs)) * run.longer,
        seeds=tuple(range(first, first + count)),
        batch=profile.batch if batch is None else int(batch),
    )
