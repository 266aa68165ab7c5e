"""The files in docs/deploy: each is held against what it is for by the tool that reads it, where that is installed, and against prx."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from prx.accounts.config import Serve
from prx.serve.drain import IDLE
from prx.serve.process import _AFTER_GRACE

FOLDER = Path(__file__).parents[1] / "docs" / "deploy"
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
ANALYZE = shutil.which("systemd-analyze")
KUBERNETES = "1.31"
MARGIN = 5  # seconds in which a process must end once its connections have


def text(name):
    return (FOLDER / name).read_text()


def run(*arguments):
    return subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)


def checked(folder, *arguments):
    """What `prx serve … --check` says, with keys in its environment."""
    env = {"HOME": str(folder), "PATH": os.environ["PATH"], "CALLER_KEY": "k", "GROQ_API_KEY": "k"}
    program = [sys.executable, "-m", "prx", "serve", *arguments, "--check"]
    done = subprocess.run(program, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done
    return done.stdout


def least_time_to_end(grace):
    return grace + _AFTER_GRACE + IDLE + MARGIN


# ------------------------------------------------------------------ Kubernetes


@pytest.fixture(scope="module")
def kinds():
    return {f"{each['kind']}/{each['metadata']['name']}": each for each in yaml.safe_load_all(text("kubernetes.yml"))}


@pytest.fixture(scope="module")
def pod(kinds):
    return kinds["Deployment/prx"]["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def config(kinds):
    return kinds["ConfigMap/prx"]["data"]["config.toml"]


def test_kubernetes_knows_every_word(kinds):
    judge = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate brings the judge")
    for manifest in kinds.values():
        judge.validate(manifest, KUBERNETES, strict=True)
    wrong = kinds["PodDisruptionBudget/prx"] | {"spec": {"minAvailible": 1}}
    with pytest.raises(judge.ValidationError):
        judge.validate(wrong, KUBERNETES, strict=True)


def test_a_pod_has_the_time_that_its_calls_have(pod, config):
    waits = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    grace = tomllib.loads(config)["serve"]["grace"]
    assert pod["terminationGracePeriodSeconds"] >= waits + least_time_to_end(grace)
    ready = pod["containers"][0]["readinessProbe"]
    assert waits >= ready["periodSeconds"], "the pod ends before its address is taken off"


def test_a_pod_is_asked_at_the_right_places(kinds, pod):
    container = pod["containers"][0]
    assert [container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")] == ["/ready", "/ready", "/health"]  # fmt: skip
    labels = kinds["Deployment/prx"]["spec"]["template"]["metadata"]["labels"]
    for name in ("Service/prx", "PodDisruptionBudget/prx"):
        selector = kinds[name]["spec"]["selector"]
        assert selector.get("matchLabels", selector).items() <= labels.items()
    assert kinds["PodDisruptionBudget/prx"]["spec"]["minAvailable"] < kinds["Deployment/prx"]["spec"]["replicas"]


def test_a_config_map_is_mounted_so_that_it_is_updated(kinds, pod):
    mounts = pod["containers"][0]["volumeMounts"]
    assert not [mount for mount in mounts if "subPath" in mount]
    volumes = {each["name"]: each.get("configMap", {}).get("name") for each in pod["volumes"]}
    assert {mount["mountPath"]: volumes[mount["name"]] for mount in mounts if volumes[mount["name"]]} == {
        "/etc/prx": "prx",
        "/etc/prx-providers": "prx-providers",
    }
    assert {"ConfigMap/prx", "ConfigMap/prx-providers"} <= kinds.keys()


def test_prx_takes_the_configuration_and_every_key_has_its_secret(tmp_path, kinds, config):
    (tmp_path / "config.toml").write_text(config)
    (tmp_path / "providers").mkdir()
    for name, content in kinds["ConfigMap/prx-providers"]["data"].items():
        (tmp_path / "providers" / name).write_text(content)
    assert "model: fast" in checked(tmp_path, "--config", "config.toml", "--providers", "providers")
    assert set(re.findall(r"\$\{(\w+)\}", config)) == kinds["Secret/prx-keys"]["stringData"].keys()


# ------------------------------------------------------------------ systemd


def unit():
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters="=", comment_prefixes="#")
    parser.optionxform = str
    parser.read_string(text("prx@.service"))
    return parser["Service"]


def test_the_unit_ends_and_reloads_as_prx_does():
    service = unit()
    assert int(service["TimeoutStopSec"]) >= least_time_to_end(Serve().grace)
    assert (service["KillMode"], service["ExecReload"]) == ("mixed", "/bin/kill -HUP $MAINPID")


def test_a_redis_that_is_away_keeps_the_unit_from_nothing():
    assert "ExecStartPre" not in unit(), "a check asks Redis, without which the service starts all the same"


def test_prx_knows_what_the_unit_starts(tmp_path):
    program, *arguments = shlex.split(unit()["ExecStart"].replace("%i", "8081").replace("/etc/prx", str(tmp_path)))
    assert (program, arguments[0]) == ("/opt/prx/bin/prx", "serve")
    (tmp_path / "config.toml").write_text("")
    assert "127.0.0.1:8081" in checked(tmp_path, *arguments[1:])


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze, of Debian's package systemd, is not installed")
def test_systemd_knows_every_word(tmp_path):
    here = text("prx@.service").replace("/opt/prx/bin/prx", str(Path(sys.executable).parent / "prx"))
    for name, content, good in (("prx", here, True), ("wrong", here.replace("KillMode=", "KilMode="), False)):
        (tmp_path / f"{name}@.service").write_text(content)
        done = run(ANALYZE, "verify", str(tmp_path / f"{name}@8081.service"))
        assert (done.returncode == 0 and "Unknown key" not in done.stderr) is good, done


# ------------------------------------------------------------------ nginx


def test_nginx_lets_go_of_connections_before_prx_does():
    (kept,) = re.findall(r"(?m)^\s*keepalive_timeout (\d+)s;", text("nginx.conf"))
    assert int(kept) <= IDLE / 2
    assert "non_idempotent" not in re.sub("#.*", "", text("nginx.conf"))
    (most,) = re.findall(r"client_max_body_size (\d+)m;", text("nginx.conf"))
    assert int(most) << 20 == Serve().max_body


@pytest.mark.skipif(NGINX is None, reason="nginx, of Debian's package nginx-light, is not installed")
def test_nginx_knows_every_word(tmp_path):
    own = (
        text("nginx.conf")
        .replace("/var/log/nginx", str(tmp_path))
        .replace("listen 80;", f"listen unix:{tmp_path}/port;")
    )
    for content, good in ((own, True), (own.replace("least_conn", "leastconn"), False)):
        (tmp_path / "prx.conf").write_text(content)
        main = f"pid {tmp_path}/pid; events {{}} http {{ client_body_temp_path {tmp_path}/b; proxy_temp_path {tmp_path}/p; include {tmp_path}/prx.conf; }}"
        (tmp_path / "main").write_text(main)
        done = run(NGINX, "-t", "-c", str(tmp_path / "main"), "-e", str(tmp_path / "errors"))
        assert (done.returncode == 0) is good, done.stderr


# ------------------------------------------------------------------ Docker


def test_the_image_is_not_root_and_starts_prx(tmp_path):
    lines = re.sub(r"\\\n", " ", re.sub("(?m)^#.*\n", "", text("Dockerfile"))).splitlines()
    last = [line.split(maxsplit=1) for line in lines if line.strip()]
    last = last[max(place for place, (word, _) in enumerate(last) if word == "FROM") :]
    said = dict(last)
    assert said["USER"].split(":")[0].isdigit()
    assert said["USER"].split(":")[0] != "0"
    program, word, *arguments = yaml.safe_load(said["ENTRYPOINT"])
    assert (program, word) == ("prx", "serve")
    (tmp_path / "config.toml").write_text('[serve]\nkeys = ["${CALLER_KEY}"]\n')
    assert "0.0.0.0:8080" in checked(tmp_path, *arguments, "--config", "config.toml")
    check = yaml.safe_load(said["HEALTHCHECK"].partition("CMD ")[2])
    compile(check[2], "HEALTHCHECK", "exec")
    assert "never built" in text("Dockerfile")
