"""prx.batch.Worker within the libraries that it is for, each in a program of its own: as docs/batch.md has it, and with tables that
are harder: rows that fail after many that do not, numbers and columns of answers in the way.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess

import pytest
from helpers.elsewhere import LEDGER, ROOT, demo, python_with

NAMES = sorted(name for name, row in LEDGER.items() if row.get("page") == "batch.md")
PAGE = (ROOT / "docs" / "batch.md").read_text()
PARTS = dict(re.findall(r"^### (\w+)\n\n```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
KEY = "sk-worker-0123456789"
COUNT, FAILING = 40, range(30, 35)
BEGIN = f"""
import json, logging, os, sys, warnings
from prx.batch import Worker

ROWS = [{{"id": n + 0.5, "text": "" if n in {FAILING!r} else f"row {{n}}", "lost": float("nan")}} for n in range({COUNT})]
worker = Worker("mine/words", prompt="{{text}}{{lost}}", in_flight=4)

def tell(how, rows):
    found = [[row["id"], row["answer"], row["answer_error"], row["answer_prompt_tokens"]] for row in rows]
    print("FOUND", json.dumps([how, [[None if cell != cell else cell for cell in row] for row in found]]))
"""
PROGRAMS = {
    "Ray": """
import asyncio, ray
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=True)
table = ray.data.from_items(ROWS, override_num_blocks=4)
for form in ("pyarrow", "pandas", "numpy"):
    tell(form, sorted(table.map_batches(worker, batch_format=form, batch_size=10).take_all(), key=lambda row: row["id"]))
tell("rows", sorted(table.map(worker).take_all(), key=lambda row: row["id"]))
settings = {"prompt": "{text}{lost}", "in_flight": 4}
made = table.map_batches(
    Worker, fn_constructor_args=["mine/words"], fn_constructor_kwargs=settings, compute=ray.data.ActorPoolStrategy(size=1),
)
tell("actors", sorted(made.take_all(), key=lambda row: row["id"]))

@ray.remote
class Busy:
    async def ask(self):  # on an event loop
        return worker(ROWS)

tell("event loop", ray.get(Busy.remote().ask.remote()))
table.map_batches(worker, batch_format="pyarrow", batch_size=10).write_parquet("written")
tell("files", sorted(ray.data.read_parquet("written").take_all(), key=lambda row: row["id"]))
""",
    "Dask": """
import dask.dataframe, pandas
from distributed import Client, LocalCluster

def main():
    table = dask.dataframe.from_pandas(pandas.DataFrame(ROWS), npartitions=4)
    moods = table.map_partitions(worker, meta=worker(table._meta))
    def told(how, frame):
        assert dict(frame.dtypes) == dict(moods.dtypes), (frame.dtypes, moods.dtypes)
        tell(how, frame.astype(object).where(frame.notna(), None).to_dict("records"))
    for scheduler in ("threads", "processes"):
        told(scheduler, moods.compute(scheduler=scheduler))
    with LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=None) as cluster, Client(cluster):
        told("cluster", moods.compute())
        moods.to_parquet("written")
        told("files", dask.dataframe.read_parquet("written").compute())

if __name__ == "__main__":
    main()
""",
    "datasets": """
import datasets
datasets.disable_progress_bars()
table = datasets.Dataset.from_list(ROWS)
for how in ({"batched": True, "batch_size": 10}, {"batched": True, "batch_size": 10, "num_proc": 2}, {}):
    made = table.map(worker, load_from_cache_file=False, writer_batch_size=10, **how)
    assert made.features["answer_error_status"].dtype == "int64", made.features
    tell(str(how), made)
for form in ("numpy", "pandas", "arrow"):
    few = 10 if form != "numpy" else 1000  # columns of numpy have no types
    made = table.with_format(form).map(worker, batched=True, batch_size=few, writer_batch_size=few, load_from_cache_file=False)
    tell(form, made.with_format(None))
again = [table.map(worker, batched=True)._fingerprint for _ in range(2)]
assert again[0] == again[1], "asked again"
tell("iterated", table.to_iterable_dataset().map(worker, batched=True, batch_size=10))
""",
    "Spark": """
from pyspark.sql import SparkSession
spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
spark.sparkContext.setLogLevel("ERROR")
spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", 10)
schema = f"id double, text string, lost double, {worker.sql_columns}"
table = spark.createDataFrame(ROWS, "id double, text string, lost double").repartition(3)
tell("pandas", sorted(table.mapInPandas(worker, schema).collect(), key=lambda row: row["id"]))
tell("arrow", sorted(table.mapInArrow(worker, schema).collect(), key=lambda row: row["id"]))
""",
}


@pytest.fixture(scope="module")
def url():
    with demo() as url:
        yield url


@pytest.fixture
def run(url, tmp_path):
    """Runs a program by the Python that has a library: gives its standard output; nothing that it prints may have the key."""
    folder = tmp_path / ".config" / "prx" / "providers.d"
    folder.mkdir(parents=True)
    text = f"spec: 1\nid: mine\nextends: openai-chat\nbase_url: {url}/v1\nauth: {{style: bearer, env: WORKER_KEY}}\n"
    (folder / "mine.yaml").write_text(text)
    (tmp_path / "reviews.csv").write_text('id,text\n1,I like it.\n2,"Not, really, for me."\n')

    def running(name, program):
        python = python_with(name)
        if name == "Spark" and not (shutil.which("java") or os.environ.get("JAVA_HOME")):
            pytest.skip("Spark needs Java, which is not here")
        (tmp_path / "program.py").write_text(program)
        kept = {"JAVA_HOME", "LANG", "PATH", "PYTHONPATH", "TMPDIR"} & os.environ.keys()
        env = {variable: os.environ[variable] for variable in kept} | {
            "HOME": str(tmp_path), "WORKER_KEY": KEY, "PYSPARK_PYTHON": python, "RAY_USAGE_STATS_ENABLED": "0", "RAY_ADDRESS": "local",
        }  # fmt: skip
        done = subprocess.run(
            [python, "program.py"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert done.returncode == 0, said[-4000:]
        assert KEY not in said
        return done.stdout

    return running


def test_the_page_has_all_of_them():
    assert set(PARTS) == set(PROGRAMS) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_page_runs_as_it_stands(name, run, tmp_path):
    arrow = pytest.importorskip("pyarrow.parquet", reason="what the page writes is Parquet: pip install '.[batch]'")
    run(name, PARTS[name])
    files = list(tmp_path.glob("moods*/**/*.parquet")) or [tmp_path / "moods.parquet"]
    rows = [row for path in files for row in arrow.ParquetFile(path).read().to_pylist()]
    assert sorted(str(row["id"]) for row in rows) == ["1", "2"]
    assert all(row["answer"] and row["answer_error"] is None for row in rows), rows


@pytest.mark.parametrize("name", NAMES)
def test_each_row_has_its_answer_or_its_error(name, run):
    said = [
        line.partition(" ")[2] for line in run(name, BEGIN + PROGRAMS[name]).splitlines() if line.startswith("FOUND ")
    ]
    assert len(said) >= PROGRAMS[name].count("tell(") - 1
    for how, rows in map(json.loads, said):
        wanted = [
            [place + 0.5, None, "config"] if place in FAILING else [place + 0.5, f"You said: row {place}", None]
            for place in range(COUNT)
        ]
        assert [row[:3] for row in rows] == wanted, how
        assert all(isinstance(row[3], int) for row in rows if row[2] is None), how


def test_a_failure_shows_what_was_printed(run, monkeypatch):
    monkeypatch.setitem(LEDGER, "none", {"modules": ["json"], "install": "", "reason": ""})
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        run("none", "1 / 0")
