import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
from scipy import stats

from ilsvrc import records

pytestmark = pytest.mark.once

FACTS = {
    "chapter": "1999_small",
    "run": "small",
    "headline": True,
    "network": {"name": "small", "parameters": 10, "macs": 100},
    "data": {
        **{"title": "Imagenette, squashed", "size": 64, "squashed": True, "standin": False},
        **{"class_names": ["a", "b"], "digest": "0"},
    },
    "recipe": {"epochs": 3, "batch": 32, "key": "0", "profile": "laptop"},
    "views": {"1": 0.5},
    "backend": {"name": "jax"},
    "device": {"name": "a processor"},
    "top1": {"mean": 0.5, "spread": None, "seeds": 1},
    "cost": {"seconds": 9.0},
    "date": "2026-01-31",
    "seeds": [{"seed": 0, "history": {"loss": [2.0, 1.0]}}],
}


@pytest.fixture
def record():
    kernels = np.zeros((2, 3, 3, 3, 4), "float16")
    return records.Record(FACTS, {"filters": kernels, "filter_epochs": np.array([0, 3])})


def test_a_record_comes_back_as_it_was_written(record, tmp_path):
    path = records.write(record, tmp_path)
    back = records.read(tmp_path / "1999_small" / "small.json")
    assert back.facts == record.facts
    assert path == tmp_path / "1999_small" / "small.json"
    assert list(back.filters) == [0, 3] and back.filters[3].dtype == np.float32
    assert {file.name for file in path.parent.iterdir()} == {"small.json", "small.npz"}


def test_an_unpublished_run_is_none(tmp_path):
    assert records.read(tmp_path / "1999_small" / "other.json") is None


def test_a_failed_write_leaves_the_old_record(record, tmp_path):
    records.write(record, tmp_path)
    broken = records.Record(FACTS | {"date": object()}, record.arrays)
    with pytest.raises(TypeError):
        records.write(broken, tmp_path)
    unwritable = records.Record(FACTS, {"filters": np.array([(n for n in ()), None], object)})
    with pytest.raises(TypeError):  # while the file is being written
        records.write(unwritable, tmp_path)
    back = records.read(tmp_path / "1999_small" / "small.json")
    assert back["date"] == "2026-01-31" and list(back.filters) == [0, 3]
    assert len(list((tmp_path / "1999_small").iterdir())) == 2


def test_the_title_says_what_was_squashed_and_where_it_ran(record):
    assert "squashed at 64 px" in record.title and "jax on a processor" in record.title


def test_scores_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
    found = records.scores(np.array([0, 1, 1]), probabilities)
    assert found == {"top1": pytest.approx(2 / 3), "per_class": [1.0, 0.5]}


def test_top5_is_scored_beyond_ten_classes_only():
    probabilities = np.tile(np.arange(20.0), (3, 1))  # class 19 first, then 18, ...
    found = records.scores(np.array([19, 15, 14]), probabilities)
    assert (found["top1"], found["top5"]) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert "top5" not in records.scores(np.array([0]), np.eye(10)[:1])


def test_spread_needs_two_seeds():
    assert records.spread([0.5]) is None
    assert records.spread([0.4, 0.6]) == pytest.approx(0.1414, abs=1e-4)


def test_the_scoreboard_lists_headline_runs_best_first(record, tmp_path):
    for name, top1, headline in [("a", 0.6, True), ("b", 0.9, True), ("c", 0.95, False)]:
        scored = {"run": name, "headline": headline, "top1": FACTS["top1"] | {"mean": top1}}
        records.write(records.Record(FACTS | scored, record.arrays), tmp_path)
    board = records.scoreboard(tmp_path)
    assert list(board.run) == ["b", "a"]
    assert board.data[0] == "Imagenette, squashed"
    assert list(board.network) == ["small (b)", "small (a)"]  # one network trained twice
    (tmp_path / "1999_small" / "a.json").unlink()
    assert list(records.scoreboard(tmp_path).network) == ["small"]


def test_an_empty_scoreboard_has_its_columns(tmp_path):
    assert list(records.scoreboard(tmp_path).columns) == list(records.COLUMNS)


def test_published_records_hold_what_the_architecture_asks():
    from ilsvrc import paths

    for path in paths.RESULTS.glob("*/*.json"):
        facts = json.loads(path.read_text(encoding="utf-8"))
        missing = {
            *("chapter", "run", "network", "data", "recipe", "backend", "device", "commit"),
            *("date", "cost", "seeds", "top1"),
        } - set(facts)
        assert not missing, f"{path.name}: {missing}"
        arrays = records.read(path).arrays
        if facts["headline"]:
            assert {"probabilities", "filters"} <= set(arrays), path.name
        else:
            assert "filters" not in arrays, path.name
        right = records.read(path).answers == arrays["labels"]
        assert right.mean() == pytest.approx(facts["top1"]["mean"], abs=2e-3), path.name
    size = {file: file.stat().st_size for file in paths.RESULTS.rglob("*") if file.is_file()}
    live = sum(size.pop(file) for file in [*size] if file.stem == "live")  # what a browser runs
    assert sum(size.values()) < 16 * 2**20 and live < 4 * 2**20


def run_of(right, labels=None):
    """Return a record whose seeds answer an image rightly where `right` (seeds, images) is true."""
    right = np.asarray(right, bool)
    labels = np.zeros(right.shape[1], int) if labels is None else labels
    said = np.where(right, labels, 1 - labels)
    return records.Record({"run": "a run"}, {"labels": labels, "probabilities": np.eye(2)[said]})


def test_a_comparison_by_hand():
    one, other = run_of([[1, 1, 1, 0]] * 3), run_of([[1, 0, 1, 0]] * 2 + [[0, 0, 1, 0]])
    row = records.compare(one, other)
    assert row["here (points)"] == pytest.approx(100 * (1 + 1 + 2) / 12) and row["seeds"] == 3
    images, seeds = np.array([1 / 3, 1, 0, 0]), np.array([1, 1, 2]) / 4
    parts = [seeds.var(ddof=1) / 3, images.var(ddof=1) / 4]
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 2 + parts[1] ** 2 / 3)
    t = stats.t.ppf(0.975, freedom)
    assert row["smallest to be seen"] == pytest.approx(100 * t * sum(parts) ** 0.5)
    assert row["spread"] == pytest.approx(100 * seeds.std(ddof=1))


def test_three_seeds_alone_ask_for_student_s_t():
    ends = [np.array([0.1, 0.2, 0.3]), np.array([0.5, 0.6, 0.7])]
    histories = [[{"history": {"accuracy": [0.0, end]}} for end in run] for run in ends]
    one, other = (records.Record({"seeds": seeds}) for seeds in histories)
    row = records.compare_training(other, one)
    assert row["here (points)"] == pytest.approx(40) and row["seeds"] == 3
    found = stats.ttest_ind(*ends, equal_var=False)
    low, high = found.confidence_interval(0.95)
    assert row["smallest to be seen"] == pytest.approx(100 * (high - low) / 2)
    assert row["verdict"] == "holds"
    assert records.compare_training(one, other)["verdict"] == "the opposite"


def test_a_verdict_needs_a_difference_beyond_chance():
    rng = np.random.default_rng(0)
    low, high = rng.random((3, 2000)) < 0.5, rng.random((3, 2000)) < 0.6
    assert records.compare(run_of(high), run_of(low))["verdict"] == "holds"
    assert records.compare(run_of(low), run_of(high))["verdict"] == "the opposite"
    close = records.compare(run_of(low), run_of(rng.random((3, 2000)) < 0.5))
    assert close["verdict"] == "too small to see here"
    assert records.compare(run_of(high[:1]), run_of(low[:1]))["verdict"] == "too small to see here"


def test_a_difference_just_above_its_error_is_too_small():
    ratios = []
    for more in range(0, 60, 4):  # of 400 images, in all three seeds
        low, high = np.zeros((3, 400)), np.zeros((3, 400))
        low[:, :50], high[:, 50 : 100 + more] = 1, 1
        row = records.compare(run_of(high), run_of(low))
        ratios.append(row["here (points)"] / row["smallest to be seen"])
        assert row["verdict"] == ("holds" if ratios[-1] >= 1 else "too small to see here")
    assert any(0.5 < ratio < 1 for ratio in ratios) and ratios[-1] > 1


def test_runs_on_other_images_are_not_compared():
    right = [[1, 0, 1]]
    with pytest.raises(ValueError, match="other images"):
        records.compare(run_of(right), run_of(right, labels=np.array([0, 1, 0])))
    with pytest.raises(ValueError, match="number of seeds"):
        records.compare(run_of(right), run_of(right * 2))


# What is read is checked


def spoiled(path, **changes):
    facts = json.loads(path.read_text())
    for place, value in changes.items():
        *outer, name = place.split("__")
        member = facts
        for one in outer:
            member = member[one]
        if value is None:
            member.pop(name)
        else:
            member[name] = value
    path.write_text(json.dumps(facts))


SPOILED = {
    "cut off": lambda path: path.write_text(path.read_text()[:200]),
    "empty": lambda path: path.write_bytes(b""),
    "a list": lambda path: path.write_text("[]"),
    "no accuracy": lambda path: spoiled(path, top1=None),
    "accuracy in words": lambda path: spoiled(path, top1__mean="high"),
    "a flag for a number": lambda path: spoiled(path, top1__seeds=True),
    "a script in a title": lambda path: spoiled(path, data__title="<script>alert(1)</script>"),
    "a link in a device": lambda path: spoiled(path, device__name="<a href=x>GPU</a>"),
    "markup in a class": lambda path: spoiled(path, data__class_names=["`x`"]),
    "a program in a device": lambda path: spoiled(path, device__name="{{ open('x', 'w') }}"),
    "a file in a title": lambda path: spoiled(path, data__title="a\n\n:::{include} x\n:::"),
    "a heading in a device": lambda path: spoiled(path, device__name="GPU\n\n# Ours"),
    "a picture in a title": lambda path: spoiled(path, data__title="![x](//evil/x.png)"),
    "a formula in a device": lambda path: spoiled(path, device__name="$\\href{x}{y}$"),
    "accuracy of no number": lambda path: spoiled(path, top1__mean=float("nan")),
    "accuracy in percent": lambda path: spoiled(path, top1__mean=75.4),
    "no test views": lambda path: spoiled(path, views=None),
    "test views in words": lambda path: spoiled(path, views={"1": 0.5, "10": "high"}),
    "no classes": lambda path: spoiled(path, data__class_names=None),
    "classes by number": lambda path: spoiled(path, data__class_names=[1, 2]),
    "no word on squashed": lambda path: spoiled(path, data__squashed=None),
    "no key": lambda path: spoiled(path, recipe__key=None),
    "a batch in words": lambda path: spoiled(path, recipe__batch="32"),
    "parameters below none": lambda path: spoiled(path, network__parameters=-1),
    "time without end": lambda path: spoiled(path, cost__seconds=float("inf")),
    "another run's": lambda path: spoiled(path, run="large"),
    "nested without end": lambda path: path.write_text("[" * 10**5),
    "arrays that are one": lambda path: np.save(path.with_suffix(".npz").open("wb"), np.ones(3)),
    "arrays cut off": lambda path: path.with_suffix(".npz").write_bytes(b"PK\x03\x04"),
    "arrays gone": lambda path: path.with_suffix(".npz").unlink(),
    "other arrays": lambda path: np.savez(path.with_suffix(".npz"), labels=np.zeros(3)),
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_bad_record_is_named_with_what_to_do_and_stops_no_scoreboard(record, tmp_path, how):
    records.write(records.Record(FACTS | {"run": "good"}, record.arrays), tmp_path)
    bad = records.write(record, tmp_path)
    SPOILED[how](bad)
    with pytest.raises(ValueError, match=r"small\.json cannot be used: .*git checkout -- ") as said:
        records.read(bad)
    assert "Traceback" not in str(said.value)
    with pytest.warns(UserWarning, match=r"small\.json cannot be used"):
        board = records.scoreboard(tmp_path)
    assert board.run.tolist() == ["good"]


def test_a_link_that_leads_nowhere_is_no_record(record, tmp_path):
    path = records.write(record, tmp_path)
    path.with_name("other.json").symlink_to(tmp_path / "nowhere")
    assert len(records.scoreboard(tmp_path)) == 1


def test_a_hidden_file_is_no_record(record, tmp_path):
    path = records.write(record, tmp_path)
    path.with_name("._small.json").write_bytes(b"\x00\x05\x16\x07")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no word is lost on it
        assert len(records.scoreboard(tmp_path)) == 1


def test_a_record_is_on_the_disk_before_it_has_its_name(record, tmp_path, monkeypatch):
    done, fsync, replace = [], records.os.fsync, records.os.replace
    monkeypatch.setattr(records.os, "fsync", lambda file: (done.append("disk"), fsync(file)))
    monkeypatch.setattr(
        records.os, "replace", lambda one, other: (done.append("name"), replace(one, other))
    )
    records.write(record, tmp_path)
    assert done == ["disk", "name"] * 2


def test_pickles_are_not_opened(record, tmp_path):
    path = records.write(record, tmp_path)
    np.savez(path.with_suffix(".npz"), labels=np.array([{"a": 1}], object))
    content = path.with_suffix(".npz").read_bytes()
    spoiled(path, arrays=records.hashlib.sha256(content).hexdigest())
    with pytest.raises(ValueError, match="cannot be used"):
        records.read(path)


def test_records_need_no_other_module_of_the_course():
    code = "import sys, ilsvrc.records; print(*(m for m in sys.modules if m.startswith('ilsvrc')))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["ilsvrc", "ilsvrc.records"]
