"""Install the course where a framework is there already: Colab, a JupyterHub.

Runs as a script, before any of the course's packages are there, so it imports the standard library
alone. What is installed stays as it is, above all the framework; only missing light packages come.
"""

import importlib.metadata
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

KEPT = ["numpy", "keras", "tensorflow", "jax", "jaxlib", "torch"]


def installed(name: str) -> str | None:
    """Return the version of an installed package, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def too_old(requirement: str) -> str | None:
    """Return the version of a package that is there and below its bound, or None."""
    name, bound = re.match(r"([\w.-]+)>=([\d.]+)", requirement).groups()
    found = installed(name)
    numbers = [[int(n) for n in re.findall(r"\d+", v)[:3]] for v in (found or bound, bound)]
    return found if numbers[0] < numbers[1] else None


def pip(*words: str) -> bool:
    """Call pip and return whether it did what was asked."""
    call = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    return subprocess.run([*call, *words], check=False).returncode == 0


def main() -> None:
    """Install the missing packages and the course, then say whether there is a GPU."""
    root = Path(__file__).resolve().parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    if not installed("keras"):
        sys.exit("Keras is not here. Install it with TensorFlow or JAX, then run this cell again.")
    wanted = project["dependencies"]
    frameworks = [project["optional-dependencies"][n][0] for n in ("tensorflow", "jax", "torch")]
    for requirement in [*wanted, *frameworks]:
        name, old = re.match(r"[\w.-]+", requirement)[0], too_old(requirement)
        if name in KEPT and old:
            sys.exit(
                f"{name} {old} is here, and the course needs {requirement}. It is "
                "left as it is. Take a newer image or server, or: pip install --upgrade "
                f"'{requirement}', restart the kernel, and run this cell again."
            )
    missing = [r for r in wanted if not installed(re.match(r"[\w.-]+", r)[0]) or too_old(r)]
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "kept.txt"
        versions = {name: installed(name) for name in KEPT}
        kept.write_text("".join(f"{n}=={v}\n" for n, v in versions.items() if v))
        if missing and not pip("--constraint", str(kept), *missing):
            sys.exit(
                f"These packages could not be installed: {' '.join(missing)}. If it says above "
                "that the environment cannot be written, ask whoever runs this server to install "
                f"them for all, and the course: pip install --no-deps --editable {root}"
            )
    course = ["--no-deps", "--editable", str(root)]
    # Where nothing can be fetched, setuptools may still be here to build with.
    if not pip(*course) and not pip("--no-build-isolation", *course):
        print(f"The course is used from {root}; after a restart, run this cell again.")
    if (
        shutil.which("nvidia-smi")
        and subprocess.run(["nvidia-smi", "-L"], check=False).returncode == 0
    ):
        print("The course is installed. A GPU is here.")
    else:
        print("The course is installed. No GPU is here: training will be small and slow.")
        print("On Colab: Runtime > Change runtime type > T4 GPU, then run this cell again.")
        print("On a JupyterHub: stop the server and start one with a GPU, if yours offers it.")


if __name__ == "__main__":
    main()
