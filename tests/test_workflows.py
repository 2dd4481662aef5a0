"""The workflows call what the Makefile has: nothing that only a service's runner would find out."""

import json
import re
import subprocess

import pytest
import yaml

from ilsvrc import chapters, paths

pytestmark = [pytest.mark.once, pytest.mark.tools]

WORKFLOWS = sorted((paths.ROOT / ".github" / "workflows").glob("*.yml"))
ALLOWED = ("sudo apt-get ", ".venv/bin/ilsvrc ", 'rm -rf "$HOME/.cache/ilsvrc/runs"')
MAKEFILE = (paths.ROOT / "Makefile").read_text(encoding="utf-8")


def jobs(file):
    return yaml.safe_load(file.read_text(encoding="utf-8"))["jobs"]


def commands(file):
    """Return a workflow's shell commands, one a value of the job's matrix."""
    found = []
    for job in jobs(file).values():
        matrix = job.get("strategy", {}).get("matrix", {})
        for step in job["steps"]:
            wanted = [step["run"]] if "run" in step else []
            for name, values in matrix.items():
                values = values if isinstance(values, list) else ["2012_alexnet"]
                place = f"${{{{ matrix.{name} }}}}"
                wanted = [
                    one.replace(place, v)
                    for one in wanted
                    for v in (values if place in one else [""])
                ]
            found += wanted
    return found


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_every_step_is_a_command_that_there_is(file):
    for command in commands(file):
        assert "${{" not in command, command
        made = re.findall(r"make (?:--silent )?((?:[\w-]+(?:=[\w/.]+)? ?)+)", command)
        for words in made:
            call = ["make", "--dry-run", *words.split()]
            done = subprocess.run(call, cwd=paths.ROOT, capture_output=True, text=True)
            assert done.returncode == 0, f"{command}: {done.stderr}"
        assert made or command.startswith(ALLOWED), command


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_jobs_have_a_limit_and_actions_a_version_and_needs_are_met(file):
    for name, job in jobs(file).items():
        assert job.get("timeout-minutes"), f"{file.name}: {name}"
        needs = job.get("needs", [])
        assert set([needs] if isinstance(needs, str) else needs) <= set(jobs(file))
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step)
            assert "@v" in step.get("uses", "@v"), step


def test_the_nightly_runs_every_chapter_by_itself():
    listed = subprocess.check_output(["make", "--silent", "chapters"], cwd=paths.ROOT, text=True)
    assert sorted(json.loads(listed)) == sorted(chapters.names())
    one = ["make", "--dry-run", "run", "CHAPTER=2015_resnet", "PROFILE=smoke"]
    said = subprocess.check_output(one, cwd=paths.ROOT, text=True)
    assert "in 2015_resnet;" in said and "--profile smoke" in said


@pytest.mark.parametrize(("year", "pin"), [(2025, "tensorflow==2.19.*"), (2026, "keras==3.13.*")])
def test_colabs_versions_are_asked_for(year, pin):
    call = ["make", "--dry-run", "test-colab", f"COLAB={year}"]
    said = subprocess.check_output(call, cwd=paths.ROOT, text=True)
    assert pin in said and "--resolution highest" in said


def test_every_target_that_is_named_is_phony_or_a_file():
    named = set(re.findall(r"^([a-z][\w-]*):", MAKEFILE, re.MULTILINE))
    phony = re.search(r"\.PHONY: ((?:.*\\\n)*.*)", MAKEFILE)[1].replace("\\\n", " ").split()
    assert named <= set(phony)
