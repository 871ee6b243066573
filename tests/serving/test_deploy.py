"""The files for containers: they parse, their flags exist, and their parts refer to each other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from google.protobuf import text_format

from serving.flags import make_parser
from serving.messages import BatchingParameters, MonitoringConfig

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "serving" / "deploy"
COMPOSE = ("compose.yaml", "embedded-compose.yaml")
KUBERNETES = ("kubernetes.yaml", "embedded-kubernetes.yaml")


def documents(name):
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def of_kind(name, kind):
    return [document for document in documents(name) if document["kind"] == kind]


def check_flags(arguments, *, known_to_both):
    parsed = make_parser().parse_args([re.sub(r"\$\(\w+\)", "1", argument) for argument in arguments])
    own = ("host", "demo", "shutdown_grace_seconds")
    if known_to_both:
        assert not [argument for argument in arguments if argument.lstrip("-").split("=")[0] in own]
    return parsed


def test_every_file_is_looked_at():
    assert {path.name for path in FOLDER.iterdir()} == {*COMPOSE, *KUBERNETES, "Dockerfile"}


@pytest.mark.parametrize("name", COMPOSE)
def test_compose(name):
    ((service_name, service),) = documents(name)[0]["services"].items()
    stock = service_name == "tensorflow-serving"
    flags = service["command"] if not stock else [*service["command"], "--model_base_path=/models"]
    parsed = check_flags(flags, known_to_both=stock)
    published = {int(port.rpartition(":")[2]) for port in service["ports"]}
    assert published == {8500, 8501}
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    if not stock:
        assert {parsed.port, parsed.rest_api_port} == published
        assert (
            FOLDER / service["build"]["context"] / service["build"]["dockerfile"]
        ).resolve() == FOLDER / "Dockerfile"
        assert int(service["stop_grace_period"].removesuffix("s")) > parsed.shutdown_grace_seconds
        # What the health check runs has to be Python.
        compile(service["healthcheck"]["test"][-1], name, "exec")
    for volume in service["volumes"]:
        assert (FOLDER / volume.split(":")[0]).is_dir()


@pytest.mark.parametrize("name", KUBERNETES)
def test_kubernetes(name):
    every = documents(name)
    assert all({"apiVersion", "kind", "metadata"} <= set(document) for document in every)
    names = [(document["kind"], document["metadata"]["name"]) for document in every]
    assert len(set(names)) == len(names)
    deployments = {document["metadata"]["name"]: document for document in of_kind(name, "Deployment")}
    assert deployments
    for title, deployment in deployments.items():
        spec = deployment["spec"]
        labels = spec["template"]["metadata"]["labels"]
        assert spec["selector"]["matchLabels"] == labels
        pod = spec["template"]["spec"]
        (container,) = pod["containers"]
        stock = container["name"] == "tensorflow-serving"
        parsed = check_flags(container["args"], known_to_both=stock)
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert ports == {"grpc": parsed.port, "rest": parsed.rest_api_port}
        for probe in ("readinessProbe", "livenessProbe"):
            target = container[probe].get("tcpSocket") or container[probe]["grpc"]
            assert target["port"] in (*ports, ports["grpc"])
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert set(mounts.values()) == set(volumes)
        assert str(parsed.model_base_path).startswith("/models")
        files = {document["metadata"]["name"]: document["data"] for document in of_kind(name, "ConfigMap")}
        data = files[volumes["config"]["configMap"]["name"]]
        for file, message in (
            (parsed.batching_parameters_file, BatchingParameters),
            (parsed.monitoring_config_file, MonitoringConfig),
        ):
            assert str(file.parent) == "/config"
            text_format.Parse(data[file.name], message())
        claims = {document["metadata"]["name"] for document in of_kind(name, "PersistentVolumeClaim")}
        assert volumes["saved-models"]["persistentVolumeClaim"]["claimName"] in claims
        if not stock:
            before = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
            assert pod["terminationGracePeriodSeconds"] > before + parsed.shutdown_grace_seconds
        (service,) = (one for one in of_kind(name, "Service") if one["metadata"]["name"] == title)
        assert service["spec"]["selector"] == labels
        assert {port["name"]: port["port"] for port in service["spec"]["ports"]} == ports
        (scaler,) = (one for one in of_kind(name, "HorizontalPodAutoscaler") if one["metadata"]["name"] == title)
        assert scaler["spec"]["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": title}
        # Utilization is a share of what is requested.
        assert "cpu" in container["resources"]["requests"]
        (budget,) = (one for one in of_kind(name, "PodDisruptionBudget") if one["metadata"]["name"] == title)
        assert budget["spec"]["selector"]["matchLabels"] == labels
        assert budget["spec"]["minAvailable"] < scaler["spec"]["minReplicas"] == spec["replicas"]


def test_shards_differ_in_nothing_but_their_number():
    texts = {}
    for document in documents("embedded-kubernetes.yaml"):
        shard = document["metadata"]["name"].rpartition("-")[2]
        if shard in ("1", "2"):
            text = (
                yaml.safe_dump(document).replace(f"photos-{shard}", "photos-K").replace(f"shard: '{shard}'", "shard: K")
            )
            texts.setdefault(document["kind"], set()).add(text)
    assert {kind: len(found) for kind, found in texts.items()} == {
        "Deployment": 1,
        "Service": 1,
        "HorizontalPodAutoscaler": 1,
        "PodDisruptionBudget": 1,
    }


def test_image_copies_what_is_there_and_starts_with_known_flags():
    lines = (FOLDER / "Dockerfile").read_text().splitlines()
    instructions = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    assert instructions[0][0] == "FROM"
    for name, rest in instructions:
        if name == "COPY":
            *sources, _ = rest.split()
            assert all((ROOT / source).exists() for source in sources)
    given = dict(instructions)
    assert yaml.safe_load(given["ENTRYPOINT"]) == ["python", "-m", "serving.server"]
    check_flags(yaml.safe_load(given["CMD"]), known_to_both=False)
    assert given["USER"].split(":")[0] != "0"
