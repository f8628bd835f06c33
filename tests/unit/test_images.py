"""Dockerfile and compose file, as far as they can be checked without a container engine."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PAGE = (ROOT / "docs" / "docker.md").read_text(encoding="utf-8")
PIPELINE = PurePosixPath("/home/searcher/pipeline")


def chain(target: str) -> str:
    """Return the instructions of a build stage, after those of the stages that it is built from."""
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]
    by_name = {head.split()[2]: (head.split()[0], body) for head, _, body in (one.partition("\n") for one in stages)}
    text = ""
    while target in by_name:
        target, body = by_name[target]
        text = body + text
    return text


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_an_image_ends_as_a_user_without_root(target: str) -> None:
    users = re.findall(r"^USER (\S+)", chain(target), re.MULTILINE)
    assert users == ["10001"] and "useradd --create-home --uid 10001 searcher" in chain(target)
    assert re.findall(r"^COPY (?!--chown=10001:10001)", chain(target), re.MULTILINE) == []


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_guarded_and_watched(name: str) -> None:
    service = SERVICES[name]
    assert service["build"]["target"] in ("cpu", "gpu") and service["image"].endswith(service["build"]["target"])
    assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"]
    assert "user" not in service and "privileged" not in service
    assert service["pids_limit"] > 0 and re.fullmatch(
        r"\d+g|\$\{R1SEARCHER_[A-Z]+_MEMORY:-\d+g\}", service["mem_limit"]
    )
    assert service["healthcheck"]["test"][0] == "CMD"
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:"), "the retrieval service asks for no password, and nothing here encrypts"


def test_a_service_that_writes_volumes_alone_can_write_nothing_else() -> None:
    """The others run DVC and git in the checkout."""
    unable = {name: service for name, service in SERVICES.items() if service.get("read_only")}
    assert unable.keys() == {"prefect"}
    (place,) = unable["prefect"]["tmpfs"]
    assert unable["prefect"]["environment"]["PREFECT_UI_STATIC_DIRECTORY"].startswith(place.split(":")[0] + "/")


def test_the_page_says_which_services_there_are_and_where_they_answer() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| (.*) \| (.*) \|$", PAGE, re.MULTILINE)
    said = {name: (re.findall(r"127\.0\.0\.1:\d+", what), health) for name, what, health in rows}
    assert said.keys() == SERVICES.keys()
    for name, (addresses, health) in said.items():
        published = [port.rpartition(":") for port in SERVICES[name].get("ports", [])]
        assert addresses == [host for host, _, _ in published]
        assert all(host.endswith(f":{inside}") for host, _, inside in published)
        for path in re.findall(r"`(/[\w/]+)`", health):
            assert f"{path}'" in SERVICES[name]["healthcheck"]["test"][-1]
    volumes = re.findall(r"`([\w-]+)`", re.findall(r"^Volumes: (.*?)\. Your", PAGE, re.MULTILINE)[0])
    assert set(COMPOSE["volumes"]) <= set(volumes)


def test_whoever_may_have_runs_started_needs_a_password_that_nothing_ships() -> None:
    """Compose stops if it is not set; only the server and the workers have it, in their environment."""
    wants = {"prefect": "PREFECT_SERVER_API_AUTH_STRING"} | dict.fromkeys(
        ("worker", "worker-gpu"), "PREFECT_API_AUTH_STRING"
    )
    for name, service in SERVICES.items():
        held = {key: value for key, value in service.get("environment", {}).items() if "R1SEARCHER_PASSWORD" in value}
        assert held.keys() == ({wants[name]} if name in wants else set())
        assert all(re.fullmatch(r"\$\{R1SEARCHER_PASSWORD:\?[^}]+\}", value) for value in held.values())
        assert "R1SEARCHER_PASSWORD" not in str(service["command"])
    for file in (".gitignore", ".dockerignore"):
        assert {".env", "/.env"} & set((ROOT / file).read_text(encoding="utf-8").split())


def test_the_page_asks_the_published_port_and_the_server_answers_to_its_own_name() -> None:
    prefect, worker = SERVICES["prefect"], SERVICES["worker"]
    (port,) = prefect["ports"]
    assert prefect["environment"]["PREFECT_UI_API_URL"] == f"http://{port.rpartition(':')[0]}/api"
    command = prefect["command"]
    assert command[:4] == ["python", "-m", "flows.server", "page"]
    name, inside = command[command.index("--name") + 1], command[command.index("--port") + 1]
    assert worker["environment"]["PREFECT_API_URL"] == f"http://{name}:{inside}/api" and inside == port.split(":")[-1]


def test_what_is_the_users_is_only_read() -> None:
    for service in SERVICES.values():
        assert {mount for mount in service["volumes"] if mount.startswith(".")} <= {f"./inputs:{PIPELINE}/inputs:ro"}


def test_volumes_are_folders_that_the_image_makes() -> None:
    mounted = {mount for service in SERVICES.values() for mount in service["volumes"] if not mount.startswith("./")}
    assert {mount.split(":")[0] for mount in mounted} == set(COMPOSE["volumes"])
    folders = {str(PurePosixPath(mount.split(":")[1]).relative_to(PIPELINE)) for mount in mounted}
    for target in ("cpu", "gpu"):
        made = re.search(r"mkdir -p (.*)", chain(target))
        assert made and folders == set(made[1].split())


def test_the_image_gets_what_git_has() -> None:
    """A tracked file missing from the context counts as deleted there, and workspaces would lose it."""
    import subprocess

    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    kept = {line[1:] for line in ignored if line.startswith("!")}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    lost = [
        file
        for file in tracked
        if re.match(r"(data|report|inputs/\w+)/", file) and not any(PurePosixPath(file).match(one) for one in kept)
    ]
    assert lost == []


def test_an_image_has_the_locked_packages() -> None:
    installed = {target: re.findall(r"locks/install \S+ (\S+)", chain(target)) for target in ("cpu", "gpu")}
    assert installed == {"cpu": ["base", "project"], "gpu": ["base", "vllm", "project"]}


def test_an_image_is_made_from_one_base_and_not_from_what_its_tag_becomes() -> None:
    bases = [
        name for name in re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) if not name.startswith(("cpu", "gpu"))
    ]
    assert len(bases) == 2
    for base in bases:
        assert re.fullmatch(r"[a-z/]+:\d+\.\d+\.\d+[\w.-]*@sha256:[0-9a-f]{64}", base), base
    assert all(service["image"] in ("r1-searcher:cpu", "r1-searcher:gpu") for service in SERVICES.values())
