"""How large a run is: the three profiles, a chapter's runs, and what both settle together."""

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass

from ilsvrc import data


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
        keep: Prefix of the layers whose weights are published with the record.
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
    asked = name or os.environ.get("ILSVRC_PROFILE")
    if not asked:
        from ilsvrc import backend

        asked = "laptop" if backend.on_cpu() else "gpu"
    if asked not in PROFILES:
        near = difflib.get_close_matches(asked, PROFILES, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"No profile is called {asked!r}.{hint} There are: {', '.join(PROFILES)}. "
            "Set the notebook's parameter `profile`, or ILSVRC_PROFILE, to one of them."
        )
    return PROFILES[asked]


def best_data(profile: Profile) -> str:
    """Return the data set to take: the first preferred one that is here, else the last."""
    return next((name for name in profile.data[:-1] if data.find(name)), profile.data[-1])


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
    first = 0 if seed is None else seed
    return Plan(
        run=run,
        profile=profile.name,
        build=run.small if slim else run.build,
        data=best_data(profile),
        size=size or (run.small_size if slim else full_size),
        images=min(images, default=None),
        epochs=(epochs or profile.epochs) * run.longer,
        seeds=tuple(range(first, first + (seeds or min(run.seeds, profile.seeds)))),
        batch=batch or profile.batch,
    )
