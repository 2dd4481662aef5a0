"""A notebook on Colab: the framework is there, the course is not, the folder is empty."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import nbformat
import pytest

from ilsvrc import notebooks, paths

pytestmark = [pytest.mark.slow, pytest.mark.tools]
# What the machine lacks: the course, one of its light dependencies, and what only the book needs.
ABSENT = ("pip", "ilsvrc", "__editable__", "papermill", "myst", "sphinx", "jupyter_book")
VERSIONS = """
import importlib.metadata, json
names = ["numpy", "keras", "tensorflow", "jax", "jaxlib", "pandas", "matplotlib"]
print(json.dumps({name: importlib.metadata.version(name) for name in names}))
"""


GIT = ["git", "-c", "user.name=Test", "-c", "user.email=test@localhost"]
EXECUTE = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for source in json.loads(sys.argv[1]):
    if not shell.run_cell(source).success:
        sys.exit(source)
import ilsvrc
print("ran", ilsvrc.__file__)
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """Return a folder with what every test here begins with, to be copied: made once.

    It has a repository of the working tree as it is, committed or not, and a Python environment
    where the framework is all there is.
    """
    folder = tmp_path_factory.mktemp("bare")
    git = [*GIT, f"--git-dir={folder / 'course' / '.git'}", f"--work-tree={paths.ROOT}"]
    (folder / "course").mkdir()
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "-m", "As it is"]):
        subprocess.run([*git, *command], check=True)
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    [site] = (folder / "env").glob("lib/python*/site-packages")
    framework = folder / "framework"
    framework.mkdir()
    for package in os.scandir(sysconfig.get_path("purelib")):
        if not package.name.startswith(ABSENT):
            (framework / package.name).symlink_to(package.path)
    (site / "framework.pth").write_text(f"{framework}\n")
    return folder


@pytest.fixture
def repository(tmp_path, bare):
    """Return the repository, for one test."""
    return Path(shutil.copytree(bare / "course", tmp_path / "course"))


@pytest.fixture
def colab(tmp_path, repository, bare):
    """Return a function that runs code in an empty folder, where the framework is all there is."""
    shutil.copytree(bare / "env", tmp_path / "env", symlinks=True)
    (tmp_path / "content").mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def run(code, *arguments, where="content", **environment):
        course = {"ILSVRC_REPOSITORY": str(repository), "ILSVRC_PROFILE": "smoke"}
        return subprocess.run(
            [tmp_path / "env" / "bin" / "python", "-c", code, *arguments],
            cwd=tmp_path / where,
            env=kept | course | environment,
            capture_output=True,
            text=True,
        )

    return run


TRAIN = 'from ilsvrc import Lab\n\nLab("2012_alexnet").train("alexnet")'


def test_a_page_and_a_training_run_where_the_framework_is_all_there_is(colab, repository, tmp_path):
    assert colab("import keras, ilsvrc").stderr.endswith("No module named 'ilsvrc'\n")
    before = json.loads(colab(VERSIONS).stdout)

    file = paths.ROOT / "notebooks" / "scoreboard.ipynb"
    cells = [cell.source for cell in nbformat.read(file, as_version=4).cells if "outputs" in cell]
    assert cells[0] == notebooks.FIRST_CELL
    done = colab(EXECUTE, json.dumps([*cells, TRAIN]))

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "The course is installed." in done.stdout
    assert f"ran {tmp_path / 'content' / 'imagenet-winners'}" in done.stdout
    assert json.loads(colab(VERSIONS).stdout) == before
    assert colab(notebooks.FIRST_CELL).stdout == ""  # it is there now: nothing to do
    news = [
        *GIT,
        "-C",
        str(repository),
        "commit",
        "--quiet",
        "--allow-empty",
        "-m",
        "A mended page",
    ]
    subprocess.run(news, check=True)
    assert colab(notebooks.FIRST_CELL).stdout == ""
    log = ["git", "-C", str(tmp_path / "content" / "imagenet-winners"), "log", "-1", "--format=%s"]
    assert subprocess.check_output(log, text=True) == "A mended page\n"  # it is brought up to date
    repository.rename(tmp_path / "gone")
    done = colab(notebooks.FIRST_CELL)
    assert done.returncode == 0 and "could not be brought up to date" in done.stdout
    done = colab(f"import os\nos.environ['PATH'] = '/nowhere'\n{notebooks.FIRST_CELL}")
    assert done.returncode == 0 and "there is no git here" in done.stdout, done.stderr[-2500:]
    assert colab("import papermill").returncode == 0  # a light dependency that was missing


def test_where_nothing_can_be_fetched_it_is_said_what_is_missing(colab):
    done = colab(notebooks.FIRST_CELL, PIP_NO_INDEX="1", PIP_CONFIG_FILE=os.devnull)
    assert done.returncode == 1
    assert "could not be installed: papermill" in done.stderr
    assert "ask whoever runs this server" in done.stderr


def test_the_checkout_that_a_notebook_lies_in_is_taken(colab, repository, tmp_path):
    clone = ["git", "clone", "--quiet", str(repository), str(tmp_path / "pulled")]
    subprocess.run(clone, check=True)
    (tmp_path / "pulled" / "notebooks").mkdir(exist_ok=True)
    code = notebooks.FIRST_CELL + "\nimport ilsvrc\nprint(ilsvrc.__file__)"
    done = colab(code, where="pulled/notebooks")
    assert str(tmp_path / "pulled" / "utils") in done.stdout, done.stderr
    assert not (tmp_path / "pulled" / "notebooks" / "imagenet-winners").exists()


OLD = """
import importlib.metadata, runpy, sys
real = importlib.metadata.version
importlib.metadata.version = lambda name: "2.15.0" if name == "keras" else real(name)
runpy.run_path(sys.argv[1], run_name="__main__")
"""


def test_a_framework_too_old_is_named_and_left_as_it_is(colab):
    before = json.loads(colab(VERSIONS).stdout)
    done = colab(OLD, str(paths.ROOT / "utils" / "ilsvrc" / "install.py"))
    assert done.returncode == 1 and "The course is installed" not in done.stdout
    assert "keras 2.15.0 is here, and the course needs keras>=" in done.stderr
    assert json.loads(colab(VERSIONS).stdout) == before


@pytest.mark.parametrize(("hidden", "backend"), [("tensorflow", "jax"), ("nothing", None)])
def test_the_first_cell_takes_the_framework_that_is_there(hidden, backend):
    code = (
        "import importlib.util as u\nreal = u.find_spec\n"
        f"u.find_spec = lambda name: None if name == {hidden!r} else real(name)\n"
        f"{notebooks.FIRST_CELL}\nprint(os.environ.get('KERAS_BACKEND'))"
    )
    kept = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    kept["KERAS_HOME"] = os.devnull
    done = subprocess.run([sys.executable, "-c", code], env=kept, capture_output=True, text=True)
    assert done.stdout.strip() == str(backend), done.stderr
    kept["KERAS_BACKEND"] = "theano"
    done = subprocess.run([sys.executable, "-c", code], env=kept, capture_output=True, text=True)
    assert "ValueError: KERAS_BACKEND is 'theano', and no such backend" in done.stderr


def test_the_first_cell_takes_a_backend_and_a_folder_for_runs(tmp_path):
    assert (
        notebooks.FIRST_CELL.count('backend = ""') == notebooks.FIRST_CELL.count('runs = ""') == 1
    )
    asked = notebooks.FIRST_CELL.replace('backend = ""', 'backend = "jax"')
    asked = asked.replace('runs = ""', 'runs = "/content/drive/MyDrive/ilsvrc"')
    code = (  # Colab has imported this when a notebook begins
        "import sys, types\n"
        "sys.modules['google.colab'] = types.SimpleNamespace(\n"
        "    drive=types.SimpleNamespace(mount=lambda place: print('mounted', place)))\n"
        f"{asked}\nfrom ilsvrc import paths\nprint(os.environ['KERAS_BACKEND'], paths.runs())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    told = ["mounted /content/drive", "jax /content/drive/MyDrive/ilsvrc"]
    assert done.stdout.splitlines() == told, done.stderr


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"PATH": "/nowhere"}, "There is no git here: install it"),
        ({"ILSVRC_REPOSITORY": "/nowhere/course"}, "could not be fetched from /nowhere/course"),
        (
            {"ILSVRC_REPOSITORY": "http://127.0.0.1:1/course"},
            "could not be fetched from http://127",
        ),
    ],
)
def test_where_the_course_cannot_be_fetched_it_is_said_why(tmp_path, settings, said):
    code = (
        "import importlib.util as u\nreal = u.find_spec\n"
        "u.find_spec = lambda name: None if name == 'ilsvrc' else real(name)\n"
        f"{notebooks.FIRST_CELL}"
    )
    call = [sys.executable, "-c", code]
    done = subprocess.run(
        call, cwd=tmp_path, env=os.environ | settings, capture_output=True, text=True
    )
    assert done.returncode == 1 and said in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and list(tmp_path.iterdir()) == []
