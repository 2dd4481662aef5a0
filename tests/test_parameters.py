"""What a reader may set, refused alike by the lab, papermill and the command line."""

import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from click.testing import CliRunner

from ilsvrc import Lab, chapters, cli, frameworks, notebooks, paths, queue

CHAPTER = "2012_alexnet"
WRONG = [
    *[("epochs", value) for value in (0, -1, 2.5, 1e9, "abc", "3", [3], True, 10**9, float("nan"))],
    *[("seed", value) for value in (-1, 0.5, "abc", {"a"}, 2**31, False)],
    *[("size", value) for value in (0, -64, 15, 1e3, "64")],
    *[("seeds", value) for value in (0, -3, 1.0)],
    *[("batch", value) for value in (0, -1, "all")],
    *[("claims", value) for value in ("maybe", "no", 1, 0, None, [])],
    *[("profile", value) for value in ("", "laptp", 3, ["gpu"], "GPU")],
]


@pytest.mark.parametrize(("name", "value"), WRONG, ids=lambda value: repr(value)[:20])
def test_what_means_nothing_is_refused_by_name(name, value):
    named = "No profile" if name == "profile" else f"{name} is"
    with pytest.raises(ValueError, match=named):
        Lab(CHAPTER, **{"profile": "smoke"} | {name: value})
    if name in ("epochs", "seed", "claims", "profile"):
        with pytest.raises(ValueError, match=named):
            notebooks.execute(CHAPTER, "smoke", {name: value}) if name != "profile" else (
                notebooks.execute(CHAPTER, value)
            )


def test_what_means_something_is_taken():
    lab = Lab(
        CHAPTER, "smoke", epochs=np.int64(3), seed=7, seeds=2, batch=16, claims=np.bool_(True)
    )
    plan = lab.plan("alexnet")
    assert (plan.epochs, plan.seeds, plan.batch) == (3, (7, 8), 16)
    assert Lab(CHAPTER, "smoke", size=96).plan("alexnet").size == 96


@pytest.mark.parametrize(
    "words",
    [
        *(["train", CHAPTER, f"--{name}", "0"] for name in ("epochs", "seeds", "size")),
        ["train", CHAPTER, "--epochs", "-1"],
        *(
            ["run", CHAPTER, "-p", "epochs", value]
            for value in ("abc", "1e9", "2.5", "0", "1" * 5000)
        ),
        *(["run", CHAPTER, "-p", "seed", value] for value in ("abc", "{'a','b'}", "(" * 300)),
        ["run", CHAPTER, "-p", "claims", "maybe"],
        ["run", CHAPTER, "--profile", ""],
    ],
    ids=lambda words: " ".join(words)[:40],
)
def test_the_command_line_says_it_in_one_line_and_trains_nothing(words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["ilsvrc", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == 1 and said.startswith("Error: ") and len(said.splitlines()) == 1


@pytest.mark.parametrize(("text", "meant"), [("no", False), ("off", False), ("YES", True)])
def test_the_words_for_yes_and_no_are_known(text, meant):
    assert cli._parameters([("claims", text)]) == {"claims": meant}


def test_wrong_names_are_refused_before_anything_is_trained(monkeypatch):
    trained = []
    monkeypatch.setattr(Lab, "record", lambda self, name: trained.append(name))
    done = CliRunner().invoke(cli.cli, ["train", CHAPTER, "alexnet", "nosuch"])
    assert "no run 'nosuch'" in str(done.exception) and trained == []


def test_a_page_that_trains_nothing_says_so():
    done = CliRunner().invoke(cli.cli, ["train", "scoreboard"])
    assert done.exit_code == 2 and "trains nothing" in done.output


def test_profile_gpu_without_one_wants_the_epochs_said():
    for lab in (Lab(CHAPTER, "gpu"), Lab(CHAPTER, "gpu", size=96)):
        with pytest.raises(ValueError, match=r"for 80 epochs, and \w+ sees no GPU here"):
            lab.train("alexnet")
        with pytest.raises(ValueError, match="--epochs 1"):  # it would fetch all of Imagenette
            lab.dataset(lab.plan("alexnet"))
    with pytest.raises(ValueError, match="sees no GPU"):
        queue.run_all("gpu", say=lambda line: None)


def test_profile_gpu_trains_on_a_processor_if_told(monkeypatch):
    found = []
    monkeypatch.setattr("ilsvrc.lab.load", lambda *given, **options: found.append(given))
    lab = Lab(CHAPTER, "gpu", epochs=1)
    assert lab.dataset(lab.plan("alexnet")) is None and found == [("imagenette", 259)]


def test_a_backend_that_is_not_here_is_named_in_one_line():
    here = os.environ["KERAS_BACKEND"]
    for given, hint in [(here.title(), f" Did you mean {here!r}?"), ("theano", "")]:
        done = command("scoreboard", KERAS_BACKEND=given)
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
        assert f"KERAS_BACKEND is {given!r}, and no such backend is installed.{hint} Here" in (
            done.stderr
        )
    assert command("--help", KERAS_BACKEND="theano").returncode == 0


ASK = "import sys, ilsvrc; getattr(ilsvrc, sys.argv[1])"


@pytest.mark.parametrize("name", ["Lab", "chapter", "vis"])
def test_a_backend_that_is_not_here_is_named_in_a_notebook_too(name):
    call = [sys.executable, "-c", ASK, name]
    done = subprocess.run(
        call, env=os.environ | {"KERAS_BACKEND": "theano"}, capture_output=True, text=True
    )
    assert "KERAS_BACKEND is 'theano', and no such backend is installed" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("ValueError: ")


def test_a_backend_in_keras_own_file_that_is_not_here_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND")
    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    for text in ('{"backend": "tensorflow"}', "{", "[]", ""):  # Keras writes the first unasked
        (tmp_path / "keras.json").write_text(text)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "jax" or None)
        frameworks.choose()
        assert os.environ.pop("KERAS_BACKEND") == "jax"
    (tmp_path / "keras.json").write_text('{"backend": "theano"}')
    with pytest.raises(ValueError, match=rf"backend in {tmp_path}.* is 'theano'.*Here are: jax"):
        frameworks.choose()


@pytest.mark.parametrize("imported", [True, False])
def test_tensorflow_takes_its_faster_kernels_unless_told_otherwise_or_too_late(
    imported, monkeypatch
):
    name = "TF_ENABLE_ONEDNN_OPTS"
    if not imported:
        monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.setenv(name, "0")
    frameworks.choose()
    assert os.environ.pop(name) == "0"
    frameworks.choose()  # where Keras is imported, no process started from here computes otherwise
    assert os.environ.get(name) == (None if imported else "1")


def test_a_backend_that_is_named_too_late_is_refused(monkeypatch):
    frameworks.choose()
    other = {"tensorflow": "jax", "jax": "tensorflow"}[os.environ["KERAS_BACKEND"]]
    monkeypatch.setenv("KERAS_BACKEND", other)
    with pytest.raises(ValueError, match=rf"is '{other}', and Keras runs on .* already: restart"):
        frameworks.choose()


@pytest.mark.parametrize(
    ("setting", "value"), [("image_data_format", "channels_first"), ("floatx", "float16")]
)
def test_settings_of_keras_that_make_other_networks_are_refused(setting, value):
    set_to = getattr(keras.config, f"set_{setting}")
    before = getattr(keras.config, setting)()
    chapters.chapter.cache_clear()
    set_to(value)
    try:
        for ask in (lambda: Lab(CHAPTER, "smoke"), lambda: chapters.chapter(CHAPTER)):
            with pytest.raises(ValueError, match=rf"{setting} is '{value}'.*set_{setting}\('"):
                ask()
    finally:
        set_to(before)
    assert Lab(CHAPTER, "smoke").runs


@pytest.mark.parametrize(
    "words",
    [
        ["-p", "epochs", "3", "-p", "epochs", "5"],
        ["--profile", "smoke", "-p", "profile", "laptop"],
    ],
)
def test_what_is_given_twice_is_refused(words):
    done = CliRunner().invoke(cli.cli, ["run", CHAPTER, *words])
    assert done.exit_code == 2 and "is given twice" in done.output


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("a folder", r"is to be '.*a folder': name a file that ends in \.ipynb"),
        ("page.txt", r"is to be '.*page\.txt': name a file that ends in \.ipynb"),
        ("file/page.ipynb", r"The folder .*file cannot be written: .*another one"),
    ],
)
def test_a_notebook_that_cannot_be_written_is_refused_before_it_runs(tmp_path, output, said):
    (tmp_path / "a folder").mkdir()
    (tmp_path / "file").write_text("no folder")
    with pytest.raises((ValueError, OSError), match=said):
        notebooks.execute("scoreboard", "smoke", output=tmp_path / output)


def test_records_that_cannot_be_written_are_refused_before_the_training(
    tiny_course, tmp_path, monkeypatch
):
    monkeypatch.setattr(Lab, "_all_seeds", lambda *_: pytest.fail("it trains"))
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match=r"folder of the records .*file cannot be written"):
        Lab("2099_tiny", "smoke").publish("one", tmp_path / "file")
    with pytest.raises(OSError, match=r"The folder .*file cannot be written.*Name another"):
        queue.run_all("smoke", tmp_path / "file", lambda line: None)


def test_the_backend_that_is_here_is_taken(monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND")
    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.setenv("KERAS_HOME", os.devnull)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "jax" or None)
    CliRunner().invoke(cli.cli, ["data"])
    assert os.environ.pop("KERAS_BACKEND") == "jax"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    CliRunner().invoke(cli.cli, ["data"])
    assert "KERAS_BACKEND" not in os.environ


def command(*words, **environment):
    """Run the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "ilsvrc", *words],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_ctrl_c_says_that_the_training_goes_on(tiny_course):
    code = (
        "from pathlib import Path; from ilsvrc import cli, paths; "
        f"paths.CHAPTERS = Path({str(paths.CHAPTERS)!r}); cli.main()"
    )
    words = ["train", "2099_tiny", "one", "--profile", "smoke", "--epochs", "10000"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words],
        stderr=subprocess.PIPE,
        text=True,
        # A shell in the background lets its children ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 200
    cache = os.environ["XDG_CACHE_HOME"]
    while not any(name.startswith("epoch-") for _, names, _ in os.walk(cache) for name in names):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Stopped. The same command goes on" in said and "Traceback" not in said
