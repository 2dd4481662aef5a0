"""The one place that knows which backend runs: TensorFlow, JAX or PyTorch under Keras 3."""

import functools
import logging
import platform
import subprocess

import keras
import numpy as np

from ilsvrc.data.arrays import cores

# A look inside builds many small models, each traced once; TensorFlow takes that for a mistake.
logging.getLogger("tensorflow").addFilter(lambda record: "retracing" not in record.getMessage())


def name() -> str:
    """Return the backend's name: "tensorflow", "jax" or "torch"."""
    return keras.backend.backend()


def check_settings() -> None:
    """Refuse settings of Keras that would make other networks of the chapters' code.

    Raises:
        ValueError: Channels come first, or numbers are no float32; the message says how to set it.
    """
    for name, wanted in {"image_data_format": "channels_last", "floatx": "float32"}.items():
        found = getattr(keras.config, name)()
        if found != wanted:
            raise ValueError(
                f"Keras' setting {name} is {found!r}, and the course's networks are built for "
                f"{wanted!r}: call keras.config.set_{name}({wanted!r}), or take the line out of "
                "the file keras.json in ~/.keras."
            )


@functools.cache
def _accelerator() -> str | None:
    """Return the name of the first GPU that the backend sees, or None."""
    if name() == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        if not gpus:
            return None
        return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    if name() == "jax":
        import jax

        first = jax.devices()[0]
        return None if first.platform == "cpu" else first.device_kind
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def on_cpu() -> bool:
    """Return whether the backend computes on the processor, for want of a GPU."""
    return _accelerator() is None


def _processor() -> str:
    """Return the processor's model, as the operating system calls it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            for line in info:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def device() -> str:
    """Return what the network runs on, for people: a GPU's name, or the processor and its cores."""
    return _accelerator() or f"{_processor()}, {cores()} core{'s' * (cores() > 1)}"


def driver() -> str | None:
    """Return the NVIDIA driver's version, or None where there is no such GPU."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return None


def peak_memory() -> int | None:
    """Return the most memory used so far in bytes: the GPU's, else this process's, or None."""
    if not on_cpu():
        if name() == "tensorflow":
            import tensorflow as tf

            return int(tf.config.experimental.get_memory_info("GPU:0")["peak"])
        if name() == "jax":
            import jax

            return int(jax.devices()[0].memory_stats()["peak_bytes_in_use"])
        import torch

        return int(torch.cuda.max_memory_allocated())
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


def near(*arrays: np.ndarray) -> tuple:
    """Return arrays from which batches reach the device soonest.

    On JAX with a GPU they are copied into its memory, if they take at most a quarter of it, and
    batches are cut out there. Elsewhere they stay as they are, memory-mapped ones too: TensorFlow
    and PyTorch take batches from NumPy.
    """
    if name() != "jax" or on_cpu():
        return arrays
    import jax

    room = jax.devices()[0].memory_stats()["bytes_limit"]
    if sum(array.nbytes for array in arrays) > room / 4:
        return arrays
    return tuple(jax.device_put(np.asarray(array)) for array in arrays)


PEAKS = {  # dense half-precision operations a second, from NVIDIA's data sheets
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "T4": 65e12,
}


def peak_flops() -> float | None:
    """Return what the GPU can do at most, in half-precision operations a second, or None."""
    if on_cpu():
        return None
    words = device().replace("-", " ").split()
    named = [peak for name, peak in PEAKS.items() if set(name.split()) <= set(words)]
    return named[0] if named else None


def precision() -> str:
    """Return the dtype policy to train with: mixed bfloat16 where a GPU has it, else float32."""
    if on_cpu():
        return "float32"
    if name() == "tensorflow":
        import tensorflow as tf

        gpu = tf.config.list_physical_devices("GPU")[0]
        capability = tf.config.experimental.get_device_details(gpu).get("compute_capability", (0,))
        return "mixed_bfloat16" if capability[0] >= 8 else "mixed_float16"
    if name() == "torch":
        import torch

        return "mixed_bfloat16" if torch.cuda.is_bf16_supported() else "mixed_float16"
    return "mixed_bfloat16"


def bfloat16_on_cpu() -> bool:
    """Return whether the network runs on a processor that has arithmetic in bfloat16."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            flags = next((line for line in info if line.lower().startswith(("flags", "feat"))), "")
    except OSError:
        return False
    return on_cpu() and not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags.split())


def keep_compiled(folder) -> None:
    """Keep what JAX compiles for a GPU in a folder, where later seeds and processes find it.

    To compile a network may take as long as to train it. Where `JAX_COMPILATION_CACHE_DIR` names
    another folder, that is taken. Elsewhere nothing is done: TensorFlow and PyTorch have no such
    store, and processors that share a home may differ in what they run.
    """
    if name() == "jax" and not on_cpu():
        import jax

        if not jax.config.jax_compilation_cache_dir:
            jax.config.update("jax_compilation_cache_dir", str(folder))
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that the device's memory ran out."""
    text = f"{type(error).__name__} {error}"
    signs = ("ResourceExhausted", "RESOURCE_EXHAUSTED", "OutOfMemory", "out of memory", "OOM")
    return isinstance(error, MemoryError) or any(sign in text for sign in signs)


def seed(number: int) -> None:
    """Set the seeds of Python, NumPy and the backend, from which weights are drawn."""
    keras.utils.set_random_seed(number)


def reseed(model: keras.Model, number: int) -> None:
    """Set every random generator inside a model (dropout, augmentation), so that an epoch repeats.

    Args:
        model: Any Keras model; sub-models are searched too.
        number: From 0 to 2**32 - 1. Each generator gets a stream of its own, by its place.
    """
    generators = {
        id(layer.seed_generator): layer.seed_generator
        for layer in model._flatten_layers()
        if getattr(layer, "seed_generator", None) is not None
    }
    for place, generator in enumerate(generators.values()):
        stream = np.random.SeedSequence([number, place]).generate_state(2)
        generator.state.assign(stream.astype(generator.state.dtype))


def forward(model: keras.Model, images, training: bool = False):
    """Return what a model puts out for one batch; its variables stay as they are.

    Compiled on JAX, once for all batches of a shape, where each operation by itself would be.

    Args:
        model: Any built Keras model.
        images: (n, ...) as the model takes them.
        training: Whether dropout drops and batch norm takes this batch's statistics.

    Returns:
        Tensors of the backend, float32, nested as the model's outputs are.
    """
    learned, fixed = (
        [v.value for v in variables]
        for variables in (model.trainable_variables, model.non_trainable_variables)
    )
    images = keras.ops.convert_to_tensor(images)
    outputs, _ = _stateless(model, training)(learned, fixed, images)
    return keras.tree.map_structure(lambda one: keras.ops.cast(one, "float32"), outputs)


@functools.lru_cache(maxsize=1)
def _stateless(model, training):
    """Return a model as a function of its weights, its other variables and images."""
    call = functools.partial(model.stateless_call, training=training)
    if name() == "jax":
        import jax

        return jax.jit(call)
    return call


def value_and_grad(f):
    """Return a function that gives f(x, ...) and the gradient of f at x.

    Args:
        f: A function of a float tensor, and of any further ones, written with `keras.ops`. It
            returns a scalar, or several values, such as one an image: their sum is differentiated.

    Returns:
        A function of arrays, the first converted to float32, that returns (value, gradient) as
        tensors of the backend, the gradient in the shape of x. It is compiled on JAX and
        TensorFlow, once for all arrays of the same shapes and dtypes.
    """
    if name() == "tensorflow":
        import tensorflow as tf

        def derive(x, *rest):
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = f(x, *rest)
            return value, tape.gradient(value, x, unconnected_gradients="zero")

        def compiled(*arrays):  # called by itself, tf.function warns of the fifth network's trace
            return tf.function(derive).get_concrete_function(*arrays)

    elif name() == "jax":
        import jax

        def summed(x, *rest):
            value = f(x, *rest)
            return keras.ops.sum(value), value

        def compiled(*arrays):
            # A network's weights become arguments. As constants, which jax.jit alone would make of
            # them, they would lie in memory twice and take longer to compile.
            closed = jax.make_jaxpr(jax.value_and_grad(summed, has_aux=True))(*arrays)
            run = jax.jit(functools.partial(jax.core.eval_jaxpr, closed.jaxpr))
            return lambda *arrays: run(closed.consts, *arrays)[1:]

    else:
        import torch

        def derive(x, *rest):
            x = x.detach().requires_grad_()
            value = f(x, *rest)
            return value.detach(), torch.autograd.grad(value.sum(), x)[0]

        def compiled(*arrays):
            return derive

    ready = {}

    def value_and_gradient(x, *rest):
        arrays = [keras.ops.convert_to_tensor(x, "float32")]
        arrays += [keras.ops.convert_to_tensor(array) for array in rest]
        kind = tuple((tuple(array.shape), array.dtype) for array in arrays)
        if kind not in ready:
            ready[kind] = compiled(*arrays)
        return ready[kind](*arrays)

    return value_and_gradient


def versions() -> dict[str, str]:
    """Return the versions of Keras, NumPy and the backend."""
    framework = __import__(name())
    return {
        "keras": keras.__version__,
        name(): framework.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
