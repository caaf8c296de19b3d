from benchmarks.pipeline_overhead import plain
from musclelora.config_file import load_config
from pipelines.launch import prepare
from tests.pipelines.deliveries import aliases_of


def test_the_functions_of_the_steps_do_in_plain_python_what_the_pipeline_does(delivery, monkeypatch):
    monkeypatch.chdir(delivery)
    plain(prepare(load_config(delivery / "run.yaml", ("recipe.epochs=2",))))
    assert aliases_of(delivery) == {"challenger": "1", "champion": "1"}
