"""A real JupyterHub with the kit's own settings: two students follow the book's link in Chromium.

`make test-hub` sets up what it needs and calls this, as root: it makes two users of the machine,
and takes them away again. Each has a password of its own, PAM lets them in, and their servers run
as them.
"""

import csv
import json
import os
import pwd
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import nbformat
import pytest
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from ilsvrc import notebooks, paths

pytestmark = [pytest.mark.hub, pytest.mark.once, pytest.mark.tools, pytest.mark.slow]

HUB = paths.ROOT / ".venv-hub" / "bin"
PROXY = paths.ROOT / "build" / "hub" / "node_modules" / ".bin" / "configurable-http-proxy"
GROUP, STUDENTS = "ilsvrc-class", ("ilsvrc-anna", "ilsvrc-ben")
COURSE, CHAPTER = notebooks.REPOSITORY.rpartition("/")[2], "2012_alexnet"
LINK = "/hub/user-redirect/git-pull?repo={}&branch=main&urlpath=lab/tree/{}/notebooks/{}.ipynb"
ITEM = (".lm-MenuBar-item", '.lm-Menu-item[data-command="runmenu:run-all"]')
SECONDS = 900  # for a chapter at smoke, on a busy machine
CLASS = """
import os, pathlib, subprocess, ilsvrc
from ilsvrc import data, paths
colours = data.load("folder", 16, path=os.environ["ILSVRC_ARRAYS"] + "/../colours")
def may(what):
    try:
        return repr(what())
    except OSError as error:
        return type(error).__name__
print("SEEN", __import__("json").dumps({
    "user": __import__("getpass").getuser(),
    "course": ilsvrc.__file__,
    "command": subprocess.run(["ilsvrc", "data"], capture_output=True, text=True).stdout,
    "array": str(colours.x_train.filename),
    "own": [str(path) for path in (paths.cache() / "arrays").glob("*")],
    "write": may(lambda: open(colours.x_train.filename, "r+b")),
    "list": {name: may(lambda: os.listdir(pathlib.Path("/home") / name)) for name in NAMES},
    "read": {name: may(lambda: open(f"/home/{name}/secret.txt").read()) for name in NAMES},
}))
"""
GIVEN = {
    "exercise_1": "from ilsvrc import ledger\n"
    "answer_1 = [ledger.ledger(net).loc['conv4', 'parameters'] for net in (paper, one_group)]",
    "exercise_2": "answer_2 = 0.19",  # right is 19
    "exercise_3": "Ahead.",
}


def call(*words, **options):
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{words}: {done.stdout[-1500:]}{done.stderr[-1500:]}"
    return done.stdout


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module", autouse=True)
def ready(request):
    """Leave this out where it is not asked for, and say what is missing where it is."""
    if "hub" not in request.config.option.markexpr:
        pytest.skip("asked by `make test-hub` alone: it makes users of this machine")
    if not HUB.exists() or not PROXY.exists():
        pytest.fail("the hub is not set up here: make test-hub")
    if os.geteuid() != 0:
        pytest.fail("A hub starts its students' servers as themselves: sudo make test-hub")
    try:
        call("runuser", "-u", "nobody", "--", HUB / "python", "-c", "import jupyterhub, keras")
    except AssertionError as error:
        pytest.fail(
            "Other users cannot run .venv-hub's Python. It and this folder must be open to all: "
            f"rm -r .venv-hub, then make PYTHON=/usr/bin/python3 test-hub. {error}"
        )


@pytest.fixture(scope="module")
def students():
    """Make the group and the two users, with homes that others may read; return their passwords."""
    passwords = {name: secrets.token_urlsafe(16) for name in STUDENTS}
    taken = [name for name in STUDENTS if name in {user.pw_name for user in pwd.getpwall()}]
    assert not taken, f"{taken} are users of this machine already: userdel --remove them"
    call("groupadd", GROUP)
    try:
        for name, password in passwords.items():
            call("useradd", "--create-home", "--groups", GROUP, "--shell", "/bin/bash", name)
            call("chpasswd", input=f"{name}:{password}")
            home = Path("/home", name)
            home.chmod(0o755)
            (home / "secret.txt").write_text(f"{name}'s own")
            (home / "secret.txt").chmod(0o644)
        yield passwords
    finally:
        for name in STUDENTS:
            subprocess.run(["loginctl", "terminate-user", name], capture_output=True)
            subprocess.run(["userdel", "--force", "--remove", name], capture_output=True)
        subprocess.run(["groupdel", GROUP], capture_output=True)


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """Serve a bare repository of the working tree, with a notebook more, on this machine."""
    folder = tmp_path_factory.mktemp("served")
    bare = folder / COURSE  # nbgitpuller would keep ".git" in the name of the student's folder
    git = ["git", "-c", "user.name=Test", "-c", "user.email=test@localhost"]
    call("git", "clone", "--quiet", "--branch", "main", paths.ROOT, folder / "work")
    call("git", "-C", paths.ROOT, "ls-files", "--error-unmatch", "notebooks")
    for name in ("utils", "chapters", "notebooks"):  # as they are, committed or not
        shutil.copytree(paths.ROOT / name, folder / "work" / name, dirs_exist_ok=True)
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(f"NAMES = {STUDENTS}{CLASS}")],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    nbformat.write(notebook, folder / "work" / "notebooks" / "class.ipynb")
    call(*git, "-C", folder / "work", "add", "--all")
    call(*git, "-C", folder / "work", "commit", "--quiet", "-m", "As it is")
    call("git", "clone", "--quiet", "--bare", folder / "work", bare)
    port = free_port()
    daemon = ["git", "daemon", f"--base-path={folder}", "--export-all", "--reuseaddr"]
    server = subprocess.Popen([*daemon, "--listen=127.0.0.1", f"--port={port}", str(folder)])
    yield f"git://127.0.0.1:{port}/{COURSE}"
    server.terminate()
    server.wait()


@pytest.fixture(scope="module")
def shared():
    """Decode pictures once for all, as root, by the kit's command; return the settings."""
    folder = Path(tempfile.mkdtemp(prefix="ilsvrc-hub-"))
    folder.chmod(0o755)
    for number, name in enumerate(("green", "red")):
        (folder / "colours" / name).mkdir(parents=True)
        for index in range(5):
            picture = Image.new("RGB", (20, 20), (200 * number, 200 - 200 * number, index))
            picture.save(folder / "colours" / name / f"{index}.png")
    (folder / "arrays").mkdir()
    named = {"ILSVRC_ARRAYS": str(folder / "arrays")}
    decode = ["-m", "ilsvrc", "data", "decode", "folder", "--path", folder / "colours"]
    call(
        *(HUB / "python", *decode, "--size", 16),
        env=os.environ | named | {"PYTHONPATH": str(paths.ROOT / "utils")},
    )
    yield named
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def hub(tmp_path_factory, students, shared):
    """Start the hub with `hub/jupyterhub_config.py`, and return its address."""
    folder = tmp_path_factory.mktemp("hub")
    url, api = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    named = {"HUB_URL": url, "HUB_PROXY": api, "HUB_PORT": str(free_port()), "HUB_GROUP": GROUP}
    log = (folder / "log").open("w")
    command = [HUB / "jupyterhub", "--config", paths.ROOT / "hub" / "jupyterhub_config.py"]
    ours = ("PYTHONPATH", "ILSVRC_DATA")
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    kept |= named | shared | {"ILSVRC_PROFILE": "smoke", "PATH": f"{HUB}:{os.environ['PATH']}"}
    server = subprocess.Popen(
        [*map(str, command)], cwd=folder, env=kept, stdout=log, stderr=subprocess.STDOUT
    )
    try:
        for _ in range(240):
            if "JupyterHub is now running" in (folder / "log").read_text():
                break
            assert server.poll() is None, (folder / "log").read_text()[-3000:]
            time.sleep(0.5)
        yield url
    finally:
        server.terminate()  # it ends its proxy and its students' servers
        server.wait(timeout=60)
        print((folder / "log").read_text()[-3000:], file=sys.stderr)


def until(what, seconds, every=0.5):
    """Return the first true value of a function, or fail with its last one."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := what():
            return value
        time.sleep(every)
    pytest.fail(f"not within {seconds} s: {what.__name__}")


def follow(browser, hub, repository, notebook, name, password=None):
    """Follow the book's link as a student; return when the notebook stands open with a kernel."""
    browser.get(hub + LINK.format(quote(repository, safe=""), COURSE, notebook))
    if password:
        until(lambda: browser.find_elements("id", "username_input"), 60)
        browser.find_element("id", "username_input").send_keys(name)
        browser.find_element("id", "password_input").send_keys(password)
        browser.find_element("id", "login_submit").click()

    def open_notebook():
        return f"/{notebook}.ipynb" in browser.current_url and browser.find_elements(
            "css selector", ".jp-NotebookPanel .jp-Cell"
        )

    def kernel_is_idle():
        return browser.find_elements(
            "css selector", '.jp-Notebook-ExecutionIndicator[data-status="idle"]'
        )

    until(open_notebook, 240)
    until(kernel_is_idle, 120)


def run_all(browser, file):
    """Run all cells by the menu; return them from the student's disk when the last is done."""
    [menu] = [m for m in browser.find_elements("css selector", ITEM[0]) if m.text.strip() == "Run"]
    for dialog in browser.find_elements("css selector", ".jp-Dialog"):
        pytest.fail(f"JupyterLab asks something: {dialog.text}")
    menu.click()
    [item] = until(lambda: browser.find_elements("css selector", ITEM[1]), 30)
    ActionChains(browser).move_to_element(item).pause(1).click().perform()

    def finished():
        ActionChains(browser).key_down(Keys.CONTROL).send_keys("s").key_up(Keys.CONTROL).perform()
        cells = [one for one in nbformat.read(file, as_version=4).cells if one.cell_type == "code"]
        for cell in cells:
            for output in cell.outputs:
                assert output.output_type != "error", output
        return cells[-1].execution_count and cells

    return until(finished, SECONDS, every=3)


def memory(name):
    """Return the peak memory of a student's kernel and server, in GiB."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.owner() == name:
                words = (process / "cmdline").read_bytes().decode().replace("\0", " ")
                peak = int(re.search(r"VmHWM:\s+(\d+)", (process / "status").read_text())[1])
                kind = (
                    "kernel" if "ipykernel" in words else "server" if "singleuser" in words else ""
                )
                found[kind] = max(found.get(kind, 0), peak / 2**20)
        except (OSError, TypeError, KeyError):
            continue
    return found


def size(folder):
    return sum(file.lstat().st_size for file in folder.rglob("*")) / 2**20


@pytest.mark.parametrize("name", STUDENTS)
def test_a_student_runs_a_chapter_and_is_alone_in_it(
    name, own_browser, hub, repository, students, shared
):
    home, browser = Path("/home", name), own_browser
    began = time.time()
    follow(browser, hub, repository, CHAPTER, name, students[name])
    opened = time.time() - began
    cells = run_all(browser, home / COURSE / "notebooks" / f"{CHAPTER}.ipynb")
    ended = time.time() - began
    pictures = [o for cell in cells for o in cell.outputs if "image/png" in o.get("data", {})]
    assert len(pictures) > 5
    seen = "return [...document.querySelectorAll('.jp-OutputArea img')].map(i => i.naturalWidth)"
    browser.execute_script("document.querySelector('.jp-NotebookPanel').scrollIntoView()")
    assert any(width > 100 for width in browser.execute_script(seen)), "no figure can be seen"
    (paths.ROOT / "build" / "hub" / f"{name}.png").write_bytes(browser.get_screenshot_as_png())
    records = (home / ".cache" / "ilsvrc" / "runs").rglob("*.*")
    first = min(file.stat().st_mtime for file in records) - began
    peak = memory(name)

    follow(browser, hub, repository, "class", name)
    [output] = run_all(browser, home / COURSE / "notebooks" / "class.ipynb")[0].outputs
    found = json.loads(output.text.partition("SEEN ")[2])
    [other] = set(STUDENTS) - {name}
    assert found["user"] == name
    assert found["course"] == str(home / COURSE / "utils" / "ilsvrc" / "__init__.py")
    assert found["command"].startswith("photographs")
    assert found["array"].startswith(shared["ILSVRC_ARRAYS"])
    assert found["own"] == [] and found["write"] == "PermissionError"
    assert found["list"][other] == found["read"][other] == "PermissionError"
    assert found["read"][name] == repr(f"{name}'s own")
    assert home.stat().st_mode & 0o777 == 0o700
    print(
        f"\n{name}: {CHAPTER} at smoke in the hub: open {opened:.0f} s after the click, first "
        f"training kept after {first:.0f} s, all run after {ended:.0f} s; at most "
        f"{peak['kernel']:.1f} GiB in the kernel, {peak['server']:.2f} in the server; "
        f"{size(home / COURSE):.0f} MiB for the course, {size(home / '.cache'):.0f} for the cache"
    )


def test_nbgrader_makes_the_students_form_and_marks_it(tmp_path):
    call(sys.executable, paths.ROOT / "hub" / "assignments.py", tmp_path / "made")
    course = tmp_path / "course"
    shutil.copytree(tmp_path / "made" / "source", course / "source")
    for assignment in list((course / "source").iterdir()):
        if assignment.name != CHAPTER:
            shutil.rmtree(assignment)
    source = course / "source" / CHAPTER / f"{CHAPTER}.ipynb"
    notebook = nbformat.read(source, as_version=4)  # its exercises alone: no chapter runs here
    notebook.cells = [cell for cell in notebook.cells if "nbgrader" in cell.metadata]
    nbformat.write(notebook, source)
    named = os.environ | {"HOME": str(tmp_path), "PATH": f"{HUB}:{os.environ['PATH']}"}

    def nbgrader(*words):
        return call(HUB / "nbgrader", *words, cwd=course, env=named)

    nbgrader("generate_assignment", CHAPTER, "--create")
    given = nbformat.read(course / "release" / CHAPTER / f"{CHAPTER}.ipynb", as_version=4)
    assert "BEGIN" not in nbformat.writes(given) and "663936" not in nbformat.writes(given)
    for name, first in [("anna", "answer_1 = [663_936, 1_327_488]"), ("ben", "answer_1 = [1, 2]")]:
        for cell in given.cells:
            if cell.metadata.nbgrader.grade_id == "exercise_1":
                cell.source = first
        handed = course / "submitted" / name / CHAPTER / f"{CHAPTER}.ipynb"
        handed.parent.mkdir(parents=True)
        nbformat.write(given, handed)
    nbgrader("autograde", CHAPTER, "--create")
    nbgrader("export")
    rows = (course / "grades.csv").read_text().splitlines()
    column = rows[0].split(",").index("score")
    student = rows[0].split(",").index("student_id")
    scores = {row.split(",")[student]: float(row.split(",")[column]) for row in rows[1:]}
    assert scores == {"anna": 2, "ben": 0}


def test_an_assignment_goes_out_and_comes_back(students):
    """The first student teaches, the second answers one exercise rightly and one not."""
    teacher, student = STUDENTS
    exchange = Path(tempfile.mkdtemp(prefix="ilsvrc-exchange-"))
    exchange.chmod(0o1777)
    settings = [f"JUPYTER_CONFIG_PATH={paths.ROOT / 'hub' / 'nbgrader'}", "ILSVRC_PROFILE=smoke",
                f"PATH={HUB}:/usr/bin:/bin", f"PYTHONPATH={paths.ROOT / 'utils'}"]  # fmt: skip

    def user(name, *words):
        own = [f"HOME=/home/{name}", f"USER={name}", f"LOGNAME={name}"]
        return call(
            "runuser", "-u", name, "--", "env", *own, *settings, *words, cwd=f"/home/{name}"
        )

    def nbgrader(name, command, *words):
        return user(name, HUB / "nbgrader", command, f"--Exchange.root={exchange}", *words)

    try:
        for name in STUDENTS:
            Path("/home", name).chmod(0o700)
        made = f"/home/{teacher}/grading"
        user(teacher, HUB / "python", paths.ROOT / "hub" / "assignments.py", made)
        shutil.rmtree(f"{made}/release")  # nbgrader writes its own
        nbgrader(teacher, "generate_assignment", CHAPTER, "--create")
        nbgrader(teacher, "release_assignment", CHAPTER)
        nbgrader(student, "fetch_assignment", CHAPTER)
        file = Path("/home", student, CHAPTER, f"{CHAPTER}.ipynb")
        notebook = nbformat.read(file, as_version=4)
        for cell in notebook.cells:
            cell.source = GIVEN.get(cell.metadata.get("nbgrader", {}).get("grade_id"), cell.source)
        nbformat.write(notebook, file)
        nbgrader(student, "submit", CHAPTER)
        with pytest.raises(AssertionError, match="Permission denied"):
            user(student, "ls", exchange / COURSE / "inbound")
        nbgrader(teacher, "collect", CHAPTER)
        nbgrader(teacher, "autograde", CHAPTER)
        nbgrader(teacher, "export", "--to", f"{made}/grades.csv")
        grades = list(csv.DictReader(Path(made, "grades.csv").read_text().splitlines()))
        [(name, score)] = [(row["student_id"], float(row["score"])) for row in grades]
        assert (name, score) == (student, 2.0)
    finally:
        shutil.rmtree(exchange)
