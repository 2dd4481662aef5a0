"""The set-up's files agree with each other, and name no machine and no registry."""

import re
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement

from ilsvrc import paths

pytestmark = pytest.mark.tools
PROJECT = tomllib.loads((paths.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
LOCKS = {
    "requirements.lock": ["tensorflow", "jax", "book", "test"],
    "requirements-jax.lock": ["jax", "test"],
    "requirements-gpu.lock": ["gpu"],
    "requirements-lab.lock": ["lab"],
    "requirements-hub.lock": ["tensorflow", "hub"],
}


def wanted(extras):
    """Return the requirements of the package with some extras, by name."""
    lines = PROJECT["dependencies"] + [line for extra in extras for line in EXTRAS[extra]]
    return {Requirement(line).name: Requirement(line) for line in lines}


def locked(name):
    """Return what a lock file pins: name -> requirements, one a Python version."""
    pins = {}
    for line in (paths.ROOT / name).read_text(encoding="utf-8").splitlines():
        if match := re.match(r"([a-z0-9][^\\#]*==[^\\]*)", line):
            pin = Requirement(match[1].strip())
            pins.setdefault(pin.name, []).append(pin)
    return pins


def version(pin):
    """Return the version of a pinned requirement."""
    return next(iter(pin.specifier)).version


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_every_dependency_within_its_bounds(lock):
    pins = locked(lock)
    for name, requirement in wanted(LOCKS[lock]).items():
        assert name in pins, f"{lock} lacks {name}: run `make lock`"
        for pin in pins[name]:
            assert version(pin) in requirement.specifier, f"{lock}: {pin}, wanted {requirement}"


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_gives_each_python_one_version(lock, python):
    here = {"python_version": python, "python_full_version": f"{python}.0"}
    for name, pins in locked(lock).items():
        fitting = [pin for pin in pins if not pin.marker or pin.marker.evaluate(here)]
        if name in wanted(LOCKS[lock]):
            assert len(fitting) == 1, f"{lock}, Python {python}: {name} {fitting}"


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_is_hashed_and_names_neither_torch_nor_a_place(lock):
    text = (paths.ROOT / lock).read_text(encoding="utf-8")
    pins = locked(lock)
    assert text.count("==") >= len(pins) > 50
    for block in re.split(r"\n(?=[a-z0-9])", text)[1:]:
        assert "--hash=sha256:" in block, block[:80]
    assert "torch" not in pins
    assert not re.search(r"https?:|file:|index-url|find-links|/home|/root", text)


@pytest.mark.parametrize("lock", [lock for lock in LOCKS if lock != "requirements.lock"])
def test_the_locks_agree_on_versions(lock):
    here = locked("requirements.lock")
    for name, pins in locked(lock).items():
        known = {version(pin) for pin in here.get(name, pins)}
        assert {version(pin) for pin in pins} <= known, name


def test_the_jax_lock_has_no_tensorflow_and_the_gpus_has_cuda_for_both():
    assert "tensorflow" not in locked("requirements-jax.lock")
    gpu = locked("requirements-gpu.lock")
    assert {"tensorflow", "jax-cuda12-plugin", "nvidia-cudnn-cu12", "nvidia-nccl-cu12"} <= set(gpu)
    assert not [name for name in locked("requirements.lock") if name.startswith("nvidia")]


def test_environment_yml_pins_what_the_lock_pins():
    environment = yaml.safe_load((paths.ROOT / "environment.yml").read_text(encoding="utf-8"))
    *conda, pip = environment["dependencies"]
    python = next(line for line in conda if line.startswith("python="))
    assert pip["pip"][-1] == "--editable ."
    here = {"python_full_version": f"{python.removeprefix('python=')}.0"}
    fitting = {
        name: version(next(pin for pin in pins if not pin.marker or pin.marker.evaluate(here)))
        for name, pins in locked("requirements.lock").items()
        if name in wanted(LOCKS["requirements.lock"])
    }
    listed = {pin.name: version(pin) for pin in map(Requirement, pip["pip"][:-1])}
    assert listed == fitting, "run `make lock`"


def test_dependencies_have_lower_bounds_only_and_no_framework():
    names = wanted([])
    assert not {"tensorflow", "jax", "torch"} & set(names)
    for name, requirement in names.items():
        assert [bound.operator for bound in requirement.specifier] == [">="], name
    assert {"tensorflow", "jax", "torch"} <= set(EXTRAS)


def test_the_citation_file_is_complete():
    citation = yaml.safe_load((paths.ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors", "type"} <= set(citation)
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]


def test_the_changelog_has_the_version_and_the_forms_can_be_read():
    versions = re.findall(r"^## (.+)", (paths.ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == "Not yet released" and versions[1] == PROJECT["version"]
    for file in (paths.ROOT / ".github").rglob("*.yml"):
        assert yaml.safe_load(file.read_text(encoding="utf-8")), file
    fault = (paths.ROOT / ".github" / "ISSUE_TEMPLATE" / "fault.yml").read_text(encoding="utf-8")
    assert ".venv/bin/ilsvrc doctor" in fault and "!{sys.executable} -m ilsvrc doctor" in fault


def test_the_readme_names_only_targets_that_exist():
    makefile = (paths.ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.M))
    for page in ["README.md", "CONTRIBUTING.md", ".ci/run"]:
        named = re.findall(r"\bmake ([a-z-]+)", (paths.ROOT / page).read_text(encoding="utf-8"))
        assert set(named) <= targets, page
