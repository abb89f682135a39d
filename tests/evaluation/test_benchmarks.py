from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from spice.errors import InputError
from spice.evaluation import benchmarks, data_sets
from spice.evaluation.benchmarks import Benchmark, Suite

CONF = Path(__file__).parents[2] / "conf"
README = """---
license: mit
configs:
- config_name: main
  data_files:
  - split: test
    path: data/*.jsonl
---
# a data set
"""


def make_mirror(root, hub_id="org/name", readme=README):
    folder = root / hub_id
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text(readme)
    (folder / "data" / "test.jsonl").write_text('{"x": 1}\n')
    return root


def a_task(folder, name="mine"):
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.yaml").write_text(f"task: {name}\n")
    return str(folder)


def a_suite(tmp_path, benchmark=None, **options):
    settings = {"task": "mine", "shots": 0, "metric": "acc,none", "datasets": ("org/name",)}
    settings |= {"include_path": a_task(tmp_path / "tasks")} | (benchmark or {})
    return Suite(tasks={"mine": Benchmark(name="mine", **settings)}, **options)


def test_a_complete_mirror_is_accepted(tmp_path):
    a_suite(tmp_path, mirror=str(make_mirror(tmp_path / "mirror"))).check()


def test_no_mirror_means_the_hub(tmp_path):
    a_suite(tmp_path).check()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mirror": "/no/such/folder"}, "no such folder"),
        ({"limit": 0}, "limit=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"max_new_tokens": -1}, "max_new_tokens=-1"),
        ({"only": ["mime"]}, "Did you mean 'mine'"),
        ({"only": "other"}, "no benchmark 'other'"),
    ],
)
def test_settings_that_cannot_be_meant(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        a_suite(tmp_path, **options).check()


@pytest.mark.parametrize(
    ("benchmark", "message"),
    [
        ({"task": "mime"}, "Did you mean 'mine'"),
        ({"shots": -1}, "shots=-1"),
        ({"metric": "acc"}, "metric,filter"),
        ({"include_path": "/no/such/folder"}, "no such folder"),
        ({"include_path": "no.such.package:tasks"}, "no package"),
    ],
)
def test_benchmarks_that_cannot_be_meant(tmp_path, benchmark, message):
    with pytest.raises(InputError, match=message):
        a_suite(tmp_path, benchmark).check()


def test_a_benchmark_missing_from_the_mirror_is_named_with_the_path_expected(tmp_path):
    (tmp_path / "mirror").mkdir()
    with pytest.raises(InputError) as error:
        a_suite(tmp_path, mirror=str(tmp_path / "mirror")).check()
    assert "lacks mine" in str(error.value)
    assert str(tmp_path / "mirror" / "org" / "name") in str(error.value)


@pytest.mark.parametrize(
    ("readme", "message"),
    [
        ("# nothing in front\n", "lists no configs"),
        ("---\nlicense: mit\n---\n", "lists no configs"),
        ("---\nconfigs: [\n---\n", "broken front matter"),
        ("---\nconfigs: 3\n---\n", "must list configs"),
        ("---\nconfigs: [3]\n---\n", "must list configs"),
        ("---\nconfigs: main\n---\n", "must list configs"),
        ("---\nconfigs: [{data_files: 3}]\n---\n", "must list configs"),
        ("---\nconfigs: [{data_files: [{split: test}]}]\n---\n", "must list configs"),
        ("---\nconfigs: [{data_files: [3]}]\n---\n", "must list configs"),
        ("---\nconfigs: [{data_files: /etc/*}]\n---\n", r"lacks /etc/\*"),
        ("---\n- a list\n---\n", "lists no configs"),
        (README.replace("*.jsonl", "*.parquet"), r"lacks data/\*.parquet"),
    ],
)
def test_a_mirror_that_datasets_could_not_read(tmp_path, readme, message):
    mirror = make_mirror(tmp_path / "mirror", readme=readme)
    with pytest.raises(InputError, match=message):
        a_suite(tmp_path, mirror=str(mirror)).check()


@pytest.mark.parametrize(
    ("data_files", "expected"),
    [
        ("a.csv", ["a.csv"]),
        (["a.csv", "b.csv"], ["a.csv", "b.csv"]),
        ([{"split": "test", "path": "a"}, {"split": "dev", "path": ["b", "c"]}], ["a", "b", "c"]),
    ],
)
def test_the_ways_to_list_data_files(data_files, expected):
    assert data_sets.file_patterns(data_files) == expected


def test_only_picks_in_the_suites_order():
    tasks = {n: Benchmark(n, n, 0, "acc,none") for n in "abc"}
    assert Suite(tasks).names == ["a", "b", "c"]
    assert Suite(tasks, only=("c", "a")).names == ["a", "c"]
    assert Suite(tasks, only="b").names == ["b"]


@pytest.mark.parametrize(
    "name", ["../../x", "..", ".hidden", "-o", "a/b", "a\\b", "", " ", "a b", "a\n", "ü", "x" * 300]
)
def test_a_name_that_is_no_file_of_the_run_folder_is_refused(name):
    with pytest.raises(InputError, match=r"letters, digits|and not empty") as caught:
        Suite({name: Benchmark(name, "mine", 0, "acc,none")}).check()
    assert "\n" not in str(caught.value)


def test_a_benchmark_bears_the_name_that_it_is_listed_under():
    with pytest.raises(InputError, match=r"benchmarks\.tasks\.a\.name='b': must be 'a'"):
        Suite({"a": Benchmark("b", "mine", 0, "acc,none")}).check()


def test_code_runs_only_with_consent_and_a_sandbox(tmp_path, monkeypatch):
    code = {"runs_code": True}
    assert a_suite(tmp_path).skip_reason("mine") is None
    reason = a_suite(tmp_path, code).skip_reason("mine")
    assert "benchmarks.allow_code_execution=true" in reason
    monkeypatch.setattr(benchmarks, "sandbox_available", lambda: "no such kernel")
    assert (
        a_suite(tmp_path, code, allow_code_execution=True).skip_reason("mine") == "no such kernel"
    )


def test_a_skipped_benchmark_needs_no_data(tmp_path):
    (tmp_path / "mirror").mkdir()
    a_suite(tmp_path, {"runs_code": True}, mirror=str(tmp_path / "mirror")).check()


class TestFingerprint:
    def test_everything_that_decides_a_score_is_in_it(self, tmp_path):
        base = a_suite(tmp_path).fingerprint("mine")
        assert base == a_suite(tmp_path).fingerprint("mine")
        changes = [
            a_suite(tmp_path, {"shots": 1}),
            a_suite(tmp_path, {"metric": "acc_norm,none"}),
            a_suite(tmp_path, {"split": "dev"}),
            a_suite(tmp_path, {"runs_code": True}),
            a_suite(tmp_path, limit=3),
            a_suite(tmp_path, chat=True),
            a_suite(tmp_path, max_new_tokens=9),
            a_suite(tmp_path, mirror=str(make_mirror(tmp_path / "mirror"))),
        ]
        prints = [str(s.fingerprint("mine")) for s in changes]
        assert len({str(base), *prints}) == len(changes) + 1

    def test_what_does_not_decide_it_is_not(self, tmp_path):
        base = a_suite(tmp_path).fingerprint("mine")
        assert a_suite(tmp_path, batch_size=99).fingerprint("mine") == base

    def test_a_mirror_and_tasks_are_known_by_their_bytes(self, tmp_path):
        first, second = (make_mirror(tmp_path / ".hidden" / n) for n in ("one", "two"))
        prints = [a_suite(tmp_path, mirror=str(m)).fingerprint("mine") for m in (first, second)]
        assert prints[0] == prints[1]
        (second / "org" / "name" / "data" / "test.jsonl").write_text('{"x": 2}\n')
        assert a_suite(tmp_path, mirror=str(second)).fingerprint("mine") != prints[0]
        (tmp_path / "tasks" / "helper.py").write_text("x = 1\n")
        assert a_suite(tmp_path, mirror=str(first)).fingerprint("mine") != prints[0]

    def test_missing_punkt_is_part_of_it(self, tmp_path, monkeypatch):
        monkeypatch.setenv("NLTK_DATA", str(tmp_path / "elsewhere"))
        monkeypatch.setattr(Path, "home", lambda: tmp_path)
        suite = a_suite(tmp_path, {"punkt": ("one", "two")})
        if suite.left_out("mine"):  # unless the machine has it in its system folders
            assert suite.fingerprint("mine")["left_out"] == ["one", "two"]
        (tmp_path / "elsewhere" / "tokenizers" / "punkt_tab").mkdir(parents=True)
        assert suite.fingerprint("mine")["left_out"] == []


def test_punkt_is_looked_for_where_nltk_looks():
    import nltk

    source = Path(benchmarks.__file__).read_text(encoding="utf-8")
    assert "nltk_data" in source
    assert bool(_nltk_finds(nltk)) == benchmarks._find_punkt(None)


def _nltk_finds(nltk):
    try:
        return nltk.data.find("tokenizers/punkt_tab")
    except LookupError:
        return None


@pytest.mark.parametrize("name", ["paper", "sandbox", "none"])
def test_every_suite_is_composed_and_accepted(name):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        suite = instantiate(compose(overrides=[f"+benchmarks={name}"]).benchmarks, _convert_="all")
    suite.check()
    assert len(suite.names) == (0 if name == "none" else 8)
    for key, benchmark in suite.tasks.items():
        assert benchmark.name == key
        assert suite.fingerprint(key)["task"] == benchmark.task


def test_every_benchmark_file_belongs_to_a_suite():
    texts = [(CONF / "benchmarks" / f"{n}.yaml").read_text() for n in ("paper", "sandbox")]
    for path in (CONF / "benchmarks" / "task").glob("*.yaml"):
        assert any(f": {path.stem}\n" in text for text in texts), path
