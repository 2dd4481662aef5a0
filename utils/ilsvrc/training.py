"""Training one run with one seed: batches, callbacks, and a stopped training that goes on."""

import contextlib
import hashlib
import inspect
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
from tqdm import tqdm

from ilsvrc import augment, backend, files, keys, ledger, paths, records
from ilsvrc.data import Dataset
from ilsvrc.profiles import Plan

LONG = 1e14  # MACs of a training, some twenty minutes of a core, from which on timing pays
POLICIES = ("float32", "mixed_bfloat16")
SNAPSHOTS = (0, 1, 2, 3, 5, 8, 12, 18, 27, 40, 60, 90)  # epochs, on a log scale


@dataclass
class Trained:
    """A trained network and all that its training left.

    Attributes:
        model: The network, on the input that `prepare` makes.
        net: `model` behind its augmentation, on uint8 images.
        seed: The seed it was trained with.
        history: One list of floats a metric, one entry an epoch, as Keras names them.
        filters: Epoch -> the first convolution's kernel then, (height, width, channels, maps).
        probabilities: Of the validation images, (images, classes), float32, in their order.
        seconds: Time spent in training, over all sittings.
        dataset: What it was trained and tested on.
        precision: The dtype policy it was trained in.
        commit: The course's commit when the training began (see `commit`).
    """

    model: keras.Model
    net: keras.Model
    seed: int
    history: dict[str, list[float]]
    filters: dict[int, np.ndarray]
    probabilities: np.ndarray
    seconds: float
    dataset: Dataset
    precision: str
    commit: str | None

    def prepare(self, images: np.ndarray) -> np.ndarray:
        """Return uint8 images (N, height, width, 3) as `model` sees them at test time, float32."""
        return augment.prepare(self.net, images)

    def few(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Return n training images of all classes as `prepare` gives them, and labels (n,).

        They are taken at equal distances, since data sets lie sorted by class.
        """
        rows = np.linspace(0, len(self.dataset.x_train) - 1, n).astype(int)
        return self.prepare(self.dataset.x_train[rows]), np.asarray(self.dataset.y_train[rows])

    def sample(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Return n validation images, drawn at random and always the same, and labels (n,).

        They are as `prepare` gives them, in the data set's order; all, where it has fewer.
        """
        rows = np.sort(np.random.default_rng(0).permutation(len(self.dataset.x_val))[:n])
        return self.prepare(self.dataset.x_val[rows]), np.asarray(self.dataset.y_val[rows])

    @property
    def pixels(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean that `net` takes off grey levels, and what it divides them by."""
        (layer,) = [one for one in self.net.layers if isinstance(one, augment.Normalise)]
        return layer.mean, layer.std


class Batches(keras.utils.PyDataset):
    """Batches of uint8 images and labels, for `fit`; the order of an epoch is `reorder`'s.

    A network with several outputs gets the labels once for each.
    """

    def __init__(self, images, labels, batch, ragged, outputs=1):
        """Take images (N, size, size, 3), labels (N,); keep a last, smaller batch if `ragged`."""
        super().__init__()
        self.images, self.labels, self.batch = images, labels, batch
        self.outputs = outputs
        self.order = np.arange(len(images))
        self.steps = -(-len(images) // batch) if ragged else len(images) // batch

    def __len__(self):
        return self.steps

    def __getitem__(self, index):
        rows = np.sort(self.order[index * self.batch : (index + 1) * self.batch])
        labels = np.asarray(self.labels[rows], "int32")
        labels = labels if self.outputs == 1 else (labels,) * self.outputs
        return self.images[rows], labels

    def reorder(self, *entropy: int) -> None:
        """Shuffle all images by the seeds given."""
        self.order = np.random.default_rng(entropy).permutation(len(self.images))


def feed(dataset, batch: int, outputs: int = 1) -> SimpleNamespace:
    """Return what a chapter's `fit` is given.

    Args:
        dataset: A `data.Dataset`.
        batch: Images a training step.
        outputs: Of the network, each of which is to learn the labels.

    Returns:
        A namespace with `train` and `val` (for `Model.fit`), `images` (all training images,
        uint8), `mean` (3,) float32 of their pixels in 0..255, their side `size` in px, and `steps`
        an epoch.

    Raises:
        ValueError: There are fewer training images than one batch takes.
    """
    if len(dataset.x_train) < batch:
        raise ValueError(
            f"{dataset.title} has {len(dataset.x_train)} training images, fewer than one batch of "
            f"{batch}: add images to the folder, or choose another data set (`ilsvrc data`)."
        )
    near = backend.near(dataset.x_train, dataset.x_val)
    train = Batches(near[0], dataset.y_train, batch, ragged=False, outputs=outputs)
    train.reorder(0)  # images lie sorted by class, and a `fit` may be called without a Keeper
    val = Batches(near[1], dataset.y_val, batch, ragged=True, outputs=outputs)
    some = dataset.x_train[:: max(len(dataset.x_train) // 2000, 1)]
    mean = np.asarray(some).mean(axis=(0, 1, 2), dtype="float64").astype("float32")
    return SimpleNamespace(
        train=train,
        val=val,
        images=dataset.x_train,
        mean=mean,
        size=dataset.size,
        steps=len(train),
    )


class Progress(keras.callbacks.Callback):
    """One bar for the whole training, with the time left."""

    def __init__(self, title, steps):
        super().__init__()
        self.title, self.steps = title, steps

    def on_train_begin(self, logs=None):
        total, done = (
            self.params["epochs"] * self.steps,
            (self.model._initial_epoch or 0) * self.steps,
        )
        self.bar = tqdm(
            desc=self.title, total=total, initial=done, unit="step", mininterval=1, file=sys.stderr
        )

    def on_train_batch_end(self, batch, logs=None):
        self.bar.update()

    def on_epoch_end(self, epoch, logs=None):
        logs = of_first_output(self.model, logs or {})
        shown = {name: f"{logs[name]:.3f}" for name in ("loss", "val_accuracy") if name in logs}
        self.bar.set_postfix(shown)

    def on_train_end(self, logs=None):
        self.bar.close()


@contextlib.contextmanager
def heard():
    """Remember a Ctrl-C, in a list: Keras on JAX loses one that comes while it waits for a step."""
    pressed, before = [], signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield pressed
        return

    def press(number, frame):
        pressed.append(number)
        before(number, frame)

    signal.signal(signal.SIGINT, press)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


class Stop(keras.callbacks.Callback):
    """Stops a training whose Ctrl-C was lost."""

    def __init__(self, pressed: list):
        super().__init__()
        self.pressed = pressed

    def on_train_batch_begin(self, batch, logs=None):
        if self.pressed:
            raise KeyboardInterrupt


class Keeper(keras.callbacks.Callback):
    """Keeps the state by epoch, so that a training that was stopped goes on to the same end.

    Keras' `BackupAndRestore` keeps weights and the optimiser, but no history, and not the state
    of dropout, augmentation and shuffling. Here (seed, epoch) set these as each epoch starts.
    """

    def __init__(self, folder: Path, seed: int, batches: Batches, model: keras.Model):
        super().__init__()
        self.folder, self.seed, self.batches, self.inner = folder, seed, batches, model
        self.history, self.filters, self.seconds, self.commit = {}, {}, 0.0, commit()
        self.saved = self.saving = 0.0  # when it was last saved, and how long that took, in s

    def on_train_begin(self, logs=None):
        _refuse_probabilities(self.model)
        _build_for_training(self.model, self.batches)
        self.filters[0] = first_kernel(self.inner)
        for epoch in sorted(self.folder.glob("epoch-*"), reverse=True):
            if self._load(epoch):
                break
            print(f"What was kept in {epoch} is damaged: it is deleted.", file=sys.stderr)
            files.clear(epoch)
        self.began = time.perf_counter() - self.seconds
        self.saved = self.seconds

    def _load(self, epoch: Path) -> bool:
        """Go on from what was kept; where it is damaged, change nothing and return False."""
        earlier = (epoch / "net.weights.h5").exists()  # Keras' own format, until November 2026
        needed = ["net.weights.h5" if earlier else "net.npz", "filters.npz", "state.json"]
        if not files.sound(epoch, needed):
            return False
        state = json.loads((epoch / "state.json").read_text())
        if not _tells_all(state):
            return False
        if earlier:
            self.model.load_weights(epoch / "net.weights.h5")
        else:
            with np.load(epoch / "net.npz") as kept:
                fine = all(np.isfinite(column[-1]) for column in state["history"].values())
                pairs = list(itertools.zip_longest(self._variables(), kept.files))
                if not all(_fits(variable, kept, name, fine) for variable, name in pairs):
                    return False
                for variable, name in pairs:
                    variable.assign(kept[name])
        self.history, self.seconds, self.commit = (
            state[name] for name in ("history", "seconds", "commit")
        )
        with np.load(epoch / "filters.npz") as kept:
            self.filters = {int(name): kept[name] for name in kept.files}
        self.model._initial_epoch = state["epochs"]
        return True

    def _variables(self) -> list:
        return [*self.model.weights, *self.model.optimizer.variables]

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.reorder(self.seed, epoch)
        random.seed(f"{self.seed} {epoch}")  # Keras shuffles the order of a PyDataset's batches
        backend.reseed(self.model, 10_000 * self.seed + epoch)

    def on_epoch_end(self, epoch, logs=None):
        self.seconds = time.perf_counter() - self.began
        for name, value in of_first_output(self.model, logs or {}).items():
            self.history.setdefault(name, []).append(float(value))
        if epoch + 1 in SNAPSHOTS or epoch + 1 == self.params["epochs"]:
            self.filters[epoch + 1] = first_kernel(self.inner)
        last = epoch + 1 == self.params["epochs"]
        if last or self.seconds - self.saved >= 10 * self.saving:  # a tenth of the time at most
            self._save(epoch + 1)
            self.saved = time.perf_counter() - self.began
            self.saving = self.saved - self.seconds

    def _save(self, epochs: int) -> None:
        whole, part = self.folder / f"epoch-{epochs:04d}", self.folder / f"part-{os.getpid()}"
        for left in self.folder.glob("part-*"):  # by a killed process: we are alone
            files.clear(left)
        try:
            with files.room(self.folder, "The training is kept"):
                self._write(part, epochs)
                files.keep(part, whole)
        finally:
            files.clear(part)
        for old in self.folder.glob("epoch-*"):
            if old != whole:
                files.clear(old)

    def _write(self, part: Path, epochs: int) -> None:
        part.mkdir(parents=True)
        # HDF5, in which Keras writes, ends the process where the disk is full; `np.savez` would
        # hold all in memory once more.
        with zipfile.ZipFile(part / "net.npz", "w") as kept:
            for number, variable in enumerate(self._variables()):
                value = records.plain(keras.ops.convert_to_numpy(variable))
                with kept.open(f"{number}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, value)
        np.savez(part / "filters.npz", **{str(k): v for k, v in self.filters.items()})
        state = {
            "epochs": epochs,
            "history": self.history,
            "seconds": self.seconds,
            "commit": self.commit,
            "precision": keras.config.dtype_policy().name,
        }
        (part / "state.json").write_text(json.dumps(state))


def _tells_all(state) -> bool:
    """Return whether a state says all of a training, each metric once an epoch."""
    try:
        lengths = {len(column) for column in state["history"].values()}
        return lengths == {state["epochs"]} and {"seconds", "commit"} <= set(state)
    except (TypeError, KeyError, AttributeError):
        return False


def _fits(variable, kept, name: str | None, finite: bool) -> bool:
    """Return whether a kept array is a variable's: a loss that is a number comes from such ones."""
    if variable is None or name is None or kept[name].shape != tuple(variable.shape):
        return False
    return not finite or bool(np.isfinite(kept[name]).all())


def of_first_output(net: keras.Model, logs: dict) -> dict:
    """Return an epoch's metrics with those of the first output named as a single output's are.

    Of several outputs the first counts: its "<name>_loss" becomes "loss", so that curves and
    records of all networks compare; the sum over the outputs becomes "total_loss".
    """
    if len(net.output_names) == 1:
        return logs
    first, found = f"{net.output_names[0]}_", {}
    for name, value in logs.items():
        side = "val_" if name.startswith("val_") else ""
        metric = name.removeprefix("val_")
        metric = "total_loss" if metric == "loss" else metric.removeprefix(first)
        found[side + metric] = value
    return found


def first_kernel(model: keras.Model) -> np.ndarray:
    """Return the first convolution's kernel, (height, width, channels, maps), float32."""
    for layer in model.layers:
        if getattr(layer, "kernel", None) is not None and layer.kernel.ndim == 4:
            return np.asarray(keras.ops.convert_to_numpy(layer.kernel), "float32")
    raise ValueError(f"The network {model.name!r} has no convolution.")


def _refuse_probabilities(net: keras.Model) -> None:
    """Refuse a loss on softmax outputs: a confidently wrong answer would get no gradient on JAX."""
    losses = net.loss.values() if isinstance(net.loss, dict) else net.loss
    for loss in losses if isinstance(losses, list | tuple) else [losses]:
        if isinstance(loss, str) or _from_logits(loss) is False:
            raise ValueError(
                "`fit` compiles a loss on probabilities. Build the network with logits=True and "
                "give the loss from_logits=True."
            )


def _from_logits(loss) -> bool | None:
    """Return whether a loss takes logits; None where it does not say so."""
    if isinstance(loss, keras.losses.Loss) or not callable(loss):
        return getattr(loss, "from_logits", None)
    try:
        told = inspect.signature(loss).parameters.get("from_logits")
    except (TypeError, ValueError):
        return None
    return told.default if told else None


def _build_for_training(net: keras.Model, batches: Batches) -> None:
    """Create the variables of the optimiser, the losses and the metrics, where they are not yet.

    TensorFlow traces a step a second time if the first trace created some: half of the wait
    before GoogLeNet's first step.
    """
    if net.optimizer.built:
        return
    images, labels = batches[0]
    answers = [keras.ops.zeros((len(images), *out.shape[1:])) for out in net.outputs]
    answers = answers[0] if len(answers) == 1 else answers
    net.compute_loss(y=labels, y_pred=answers)
    net.compute_metrics(None, labels, answers)
    net.optimizer.build(net.trainable_variables)
    net.reset_metrics()


def commit() -> str | None:
    """Return the course's commit, with "+" where files were changed since, or None outside git."""
    git = ["git", "-C", str(paths.ROOT)]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True
        )
        status = [*git, "status", "--porcelain", "--", "utils", "chapters"]
        changed = subprocess.run(status, capture_output=True, text=True)
    except OSError:
        return None
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "") or None


def build(plan: Plan, classes: int) -> keras.Model:
    """Build a plan's network for training.

    Raises:
        ValueError: The image is too small for the network, or the network ends in a softmax.
    """
    try:
        model = plan.build(input_shape=(plan.size, plan.size, 3), classes=classes, logits=True)
    except ValueError as error:
        raise ValueError(
            f"{plan.network} cannot be built for images of {plan.size} px: they are too small for "
            f"its strides, or the builder refused them. Take larger images (its paper's: "
            f"{plan.run.size} px), or the slim network of profile 'laptop'.\n{error}"
        ) from error
    for name in model.output_names:
        layer = model.get_layer(name)
        activation = getattr(layer, "activation", None)
        if isinstance(layer, keras.layers.Softmax) or activation is keras.activations.softmax:
            raise ValueError(
                f"{plan.network} ignores logits=True: its layer {name!r} is a softmax."
            )
    return model


def folder(plan: Plan, dataset, chapter: str, seed: int) -> Path:
    """Return where a run's state is kept: by recipe, machine and seed."""
    machine = hashlib.sha256(repr((backend.versions(), backend.device())).encode()).hexdigest()[:8]
    name = f"{keys.recipe(plan, dataset.digest)}-{machine}-{seed}"
    return paths.runs() / chapter / plan.run.name / name


class Clock(keras.callbacks.Callback):
    """Times eight training steps and stops; the first three are left out."""

    def __init__(self, batches: Batches):
        super().__init__()
        self.batches, self.times = batches, []

    def on_train_begin(self, logs=None):
        _build_for_training(self.model, self.batches)

    def on_train_batch_end(self, batch, logs=None):
        self.times.append(time.perf_counter())
        self.model.stop_training = len(self.times) >= 8

    @property
    def seconds(self) -> float:
        """Return what a step took, in s."""
        return (self.times[-1] - self.times[2]) / (len(self.times) - 3)


def _in_precision(plan: Plan, dataset, seed: int, place: Path) -> tuple[str, keras.Model]:
    """Set the dtype policy that a training goes on in, or shall begin in; build the network in it.

    That is `backend.precision`'s. But a processor with arithmetic in bfloat16 trains wide networks
    faster in it, and narrow ones not: there a long training takes what is quicker.
    """

    def built(policy):
        keras.config.set_dtype_policy(policy)
        backend.seed(seed)
        return policy, build(plan, len(dataset.class_names))

    if begun := _begun(place):
        return built(begun)
    policy, model = built(backend.precision())
    if not backend.bfloat16_on_cpu():
        return policy, model
    macs = 3 * ledger.totals(model)["macs"] * len(dataset.x_train) * plan.epochs
    return built(_quicker(plan, dataset, place)) if macs >= LONG else (policy, model)


def _begun(place: Path) -> str | None:
    """Return the dtype policy of a training that is kept, or None."""
    for epoch in sorted(place.glob("epoch-*"), reverse=True):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            state = json.loads((epoch / "state.json").read_text())
            return state.get("precision", backend.precision())  # not told until November 2026
    return None


def _quicker(plan: Plan, dataset, place: Path) -> str:
    """Return the policy in which a step takes less time, timed once a machine and network.

    What came of it is kept beside `place`, for later seeds.
    """
    told = place.with_name(f"{place.name.rpartition('-')[0]}-seconds.json")
    with files.alone(told.with_suffix(".lock"), "times this network"):
        seconds = _told(told)
        if not seconds:
            print("Is it faster in bfloat16? Timing a few steps of both.", file=sys.stderr)
            seconds = {policy: _step(plan, dataset, policy) for policy in POLICIES}
            text = json.dumps(seconds).encode()
            with files.room(told.parent, "What a step takes is kept"):
                records.write_whole(told, lambda file: file.write(text))
    return min(seconds, key=seconds.get)


def _told(file: Path) -> dict | None:
    """Return what a step takes in each policy, in s, or None where it was not timed or is lost."""
    try:
        seconds = json.loads(file.read_text())
        return {policy: float(seconds[policy]) for policy in POLICIES}
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _step(plan: Plan, dataset, policy: str) -> float:
    """Set a dtype policy, and return how long a training step takes in it, in s."""
    keras.config.set_dtype_policy(policy)
    model = build(plan, len(dataset.class_names))
    given = feed(dataset, plan.batch, len(model.outputs))
    given.val.steps = 1
    clock = Clock(given.train)
    plan.run.fit(model, given, plan.epochs, [clock])
    return clock.seconds


def train(plan: Plan, dataset, chapter: str, seed: int) -> Trained:
    """Train a plan's network with one seed, or pick up where an earlier training was stopped.

    Raises:
        ValueError: What was asked cannot be trained; the message says why.
        MemoryError: The device's memory ran out; the message says what to change.
    """
    backend.keep_compiled(paths.cache() / "compiled")
    place = folder(plan, dataset, chapter, seed)
    files.writable(place)
    with files.alone(place / "lock", "trains this run"):
        return _train(plan, dataset, seed, place)


def _train(plan: Plan, dataset, seed: int, place: Path) -> Trained:
    """Train in a folder that no other process uses."""
    before = keras.config.dtype_policy()
    try:
        policy, model = _in_precision(plan, dataset, seed, place)
        given = feed(dataset, plan.batch, len(model.outputs))
        keeper = Keeper(place, seed, given.train, model)
        progress = Progress(f"{plan.run.name}, seed {seed}", given.steps)
        with heard() as pressed:
            history = plan.run.fit(model, given, plan.epochs, [keeper, progress, Stop(pressed)])
        net = history.model
        outputs = net.predict(given.val, verbose=0)
    except Exception as error:
        if backend.out_of_memory(error):
            raise MemoryError(
                f"{backend.device()} ran out of memory with batches of {plan.batch} images of "
                f"{plan.size} px. Restart the kernel (another notebook may hold the memory), or "
                "take a smaller profile: profile = 'laptop'."
            ) from error
        raise
    finally:
        keras.config.set_dtype_policy(before)
    logits = outputs[0] if isinstance(outputs, list) else outputs
    logits = next(iter(outputs.values())) if isinstance(outputs, dict) else logits
    probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(logits.astype("float32")))
    return Trained(
        model,
        net,
        seed,
        keeper.history,
        keeper.filters,
        probabilities,
        keeper.seconds,
        dataset,
        policy,
        keeper.commit,
    )


def few_steps(model: keras.Model, images: np.ndarray, labels: np.ndarray, steps=20) -> list[float]:
    """Show a compiled model the same images again and again; return its loss before each step.

    Args:
        model: On inputs like `images`, compiled.
        images: (n, ...) prepared for the model.
        labels: (n,) of integers.
        steps: How many.
    """
    losses = []
    for _ in range(steps):
        model.reset_metrics()  # else Keras returns the mean so far
        losses.append(float(model.train_on_batch(images, labels)))
    return losses
