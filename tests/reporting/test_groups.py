import pytest

from uda.config import config_dir
from uda.reporting.groups import group_runs, names_of, nearest_option, read_options, short
from uda.reporting.runs import Run, Status, flat_settings, read_runs
from uda.run_directory import FREE_KEYS


@pytest.fixture
def grouped(tmp_path):
    def grouped() -> dict[str, list[str]]:
        groups = group_runs(read_runs(tmp_path / "runs"), read_options(config_dir()), FREE_KEYS)
        return {group.name: [run.path for run in group.runs] for group in groups}

    return grouped


def test_runs_that_differ_in_the_seed_are_one_group(make_run, grouped) -> None:
    for seed in (0, 1):
        make_run(f"u{seed}", "objective=uda_weak_start", seed=seed)
        make_run(f"s{seed}", "objective=supervised", seed=seed)
    make_run("s2", "objective=supervised", "train.log_every=3", "name=other", seed=2)  # which enter no number
    assert grouped() == {"objective=supervised": ["s0", "s1", "s2"], "objective=uda_weak_start": ["u0", "u1"]}


def test_one_group_has_a_name_too(make_run, grouped) -> None:
    make_run("a")
    assert grouped() == {"all runs": ["a"]}


def test_names_are_what_tells_groups_apart(make_run, grouped) -> None:
    make_run("a", "objective=supervised", "data.num_labeled=100")
    make_run("b", "objective=uda", "data.num_labeled=20", "objective.temperature=0.5")
    make_run("c", "objective=uda", "data.num_labeled=20")
    make_run("d", "objective=supervised", "data.num_labeled=20")
    assert list(grouped()) == [  # the keys of uda are no difference to supervised, which has none
        "objective=supervised data.num_labeled=20",
        "objective=supervised data.num_labeled=100",
        "objective=uda data.num_labeled=20 objective.temperature=0.5",
        "objective=uda data.num_labeled=20 objective.temperature=0.85",
    ]


def test_several_runs_on_each_draw_are_a_group_a_draw(make_run, grouped) -> None:
    for draw in (5, 6):
        for seed in (0, 1):
            make_run(f"d{draw}s{seed}", f"data.seed={draw}", seed=seed)
    assert grouped() == {"data.seed=5": ["d5s0", "d5s1"], "data.seed=6": ["d6s0", "d6s1"]}


def test_one_draw_or_a_draw_each_is_one_group(make_run, grouped) -> None:
    for seed in (0, 1):
        make_run(f"same/{seed}", "data.seed=5", seed=seed)
        make_run(f"own/{seed}", f"data.seed={seed}", "objective=uda", seed=0)
    assert [len(paths) for paths in grouped().values()] == [2, 2]


def test_a_run_done_twice_counts_once(make_run, tmp_path) -> None:
    make_run("a", seed=1, accuracy=None)
    make_run("b", seed=1)
    make_run("c", seed=1, accuracy=0.1)
    make_run("d", seed=1, split={"labeled": [], "test": []})  # the data were others
    [group] = group_runs(read_runs(tmp_path / "runs"), read_options(config_dir()), FREE_KEYS)
    assert [run.path for run in group.runs] == ["a", "b", "d"]
    assert [run.path for run in group.repeats] == ["c"]
    assert group.count(Status.unfinished) == 1


def test_every_option_is_its_own_nearest() -> None:
    options = read_options(config_dir())
    assert set(options) == {"objective", "data", "augment", "model"}
    for group in ("objective", "augment"):
        assert {path.stem for path in (config_dir() / group).glob("*.yaml")} == set(options[group])
        for name, values in options[group].items():
            assert nearest_option(values, group, options[group]) == name


def test_an_option_with_keys_of_its_own_is_still_recognised() -> None:
    options = read_options(config_dir())["objective"]
    changed = {**options["uda_weak_start"], "objective.temperature": "0.7", "objective.kept_share": "0.9"}
    assert nearest_option(changed, "objective", options) == "uda_weak_start"
    assert nearest_option({"objective._target_": "mine.New"}, "objective", options) == "New"
    assert nearest_option({"data.source": "elsewhere"}, "data", read_options(config_dir())["data"]) == "custom"


def test_where_much_differs_the_fewest_settings_are_named() -> None:
    groups = [
        {
            **dict.fromkeys(("objective", "data", "augment", "model"), "x"),
            "train.a": str(number // 2),
            "train.b": str(number % 2),
            **{f"train.c{key}": str(number // 2) for key in range(4)},
        }
        for number in range(4)
    ]
    assert names_of(groups)[1] == "train.a=0 train.b=1"
    assert names_of(groups[:2]) == ["train.b=0", "train.b=1"]


def test_a_series_is_named_without_the_number_of_labels() -> None:
    groups = [
        {
            **dict.fromkeys(("data", "augment", "model"), "x"),
            "objective": objective,
            "data.num_labeled": str(labels),
            "train.num_steps": str(10 * labels),  # which follows from it
        }
        for objective in ("a", "b")
        for labels in (2, 4)
    ]
    assert names_of(groups, without="data.num_labeled") == ["objective=a"] * 2 + ["objective=b"] * 2
    assert names_of(groups)[0] == "objective=a data.num_labeled=2 train.num_steps=20"


def test_values_that_are_alike_when_cut_are_numbered() -> None:
    def run(path: str, value: str) -> Run:
        return Run(path, Status.unfinished, "", flat_settings({"data": {"labeled": value}, "seed": 0}), {}, None)

    options = read_options(config_dir())
    names = [group.name for group in group_runs([run("a", "A" + 40 * "x"), run("b", "B" + 40 * "x")], options, ())]
    assert names == [f"data.labeled=…{27 * 'x'} #1", f"data.labeled=…{27 * 'x'} #2"]
    assert short("/a/path/to/the/folder/of/labels_20.csv") == "…the/folder/of/labels_20.csv"


def test_of_options_equally_near_the_plainest_is_taken() -> None:
    """uda_topics changes three numbers of uda_weak_start; with others in their place both are as near."""
    options = read_options(config_dir())["objective"]
    assert list(options).index("uda_weak_start") < list(options).index("uda_topics")
    changed = {"objective.supervised_steps": "3", "objective.memory_rows": "24", "objective.prefill_rows": "16"}
    assert nearest_option(options["uda_topics"] | changed, "objective", options) == "uda_weak_start"
    assert nearest_option(options["uda_topics"], "objective", options) == "uda_topics"
