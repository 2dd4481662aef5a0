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


def main() -> None:
    """Install the missing packages and the course, then say whether there is a GPU."""
    root = Path(__file__).resolve().parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    if not installed("keras"):
        sys.exit("Keras is not here. Install it with TensorFlow or JAX, then run this cell again.")
    missing = [
        requirement
        for requirement in project["dependencies"]
        if not installed(re.match(r"[\w.-]+", requirement)[0])
    ]
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    if missing:
        with tempfile.TemporaryDirectory() as folder:
            kept = Path(folder) / "kept.txt"
            versions = {name: installed(name) for name in KEPT}
            kept.write_text("".join(f"{n}=={v}\n" for n, v in versions.items() if v))
            subprocess.run([*pip, "--constraint", str(kept), *missing], check=True)
    subprocess.run([*pip, "--no-deps", "--editable", str(root)], check=True)
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
