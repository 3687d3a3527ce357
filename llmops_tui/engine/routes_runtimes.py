"""`/v1/runtimes…`: the serving engines and quantizers of this box, each in an environment of its own: which there are, asked, made."""

from __future__ import annotations

import os
import pwd
import sys

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import Field

from llmops_tui.engine.answering import EngineParts, answer
from llmops_tui.engine.people import who_asks
from llmops_tui.engine.serving.runtimes.check import Check
from llmops_tui.engine.serving.runtimes.find import Found, find, known
from llmops_tui.engine.serving.runtimes.installing import find_uv, require_python, source_of
from llmops_tui.engine.serving.runtimes.table import RUNTIMES
from llmops_tui.errors import ConflictError, NotFoundError, PermissionDeniedError, UsageError
from llmops_tui.specs.answers import RunSummary
from llmops_tui.specs.answers_requests import RuntimeInfo
from llmops_tui.specs.command import CommandSpec
from llmops_tui.specs.common import Resources, StrictModel
from llmops_tui.specs.states import ENDED

_PROGRAM = "llmops_tui.engine.serving.runtimes.install"
router = APIRouter(tags=["runtimes"])


class InstallRequest(StrictModel):
    """`wheels`: a directory of wheels in place of the package index; then nothing is fetched from anywhere."""

    wheels: str = Field("", max_length=4096)


@router.get("/runtimes", response_model=list[RuntimeInfo])
async def list_runtimes(parts: EngineParts) -> Response:
    """Every runtime this program knows, and where it is. Nothing is run to find out."""

    def look() -> list[RuntimeInfo]:
        gpu = bool(parts.gpus.snapshot())
        found = []
        for name in RUNTIMES:
            try:
                there, problem = find(name, parts.home, parts.settings.runtimes), ""
            except NotFoundError as error:
                there, problem = None, str(error)
            found.append(_info(name, there, parts.abilities.known(there, box_has_gpu=gpu) if there else None, problem))
        return found

    return answer(await parts.slowly(look))


@router.post("/runtimes/{name}/check", response_model=RuntimeInfo)
async def check_runtime(parts: EngineParts, name: str) -> Response:
    """Ask one what it is and can, in its own environment."""

    def ask() -> RuntimeInfo:
        there = find(name, parts.home, parts.settings.runtimes)
        if there is None:
            raise NotFoundError(f"{name} is not installed", f"llmops-tui runtimes install {name}")
        return _info(name, there, parts.abilities.of(there, box_has_gpu=bool(parts.gpus.snapshot()), afresh=True))

    return answer(await parts.slowly(ask))


@router.post("/runtimes/{name}/install", response_model=RunSummary, status_code=201)
async def install_runtime(parts: EngineParts, name: str, request: InstallRequest) -> Response:
    """Make its environment, as a run that ends with the check; what is in use stays as it is."""
    runtime = known(name)
    if request.wheels and (not os.path.isabs(request.wheels) or "\0" in request.wheels):
        raise UsageError(f"wheels: {request.wheels!r} is not an absolute path", fields=[{"field": "wheels", "message": "must be absolute"}])
    if request.wheels and os.geteuid() == 0 and who_asks().uid != 0:
        # What lies there is run with the engine's rights, and others may be able to write it.
        raise PermissionDeniedError("wheels: this engine is root's, and only root may install from a directory", "ask root to install it")
    if place := parts.settings.runtimes.get(name):
        raise ConflictError(f"the settings say where {name} is: {place}", f"take runtimes.{name} out of them, or install it there")
    busy = next((run for run in parts.scheduler.runs() if run.state not in ENDED and _is_install(run.spec_values, name)), None)
    if busy is not None:
        raise ConflictError(f"{name} is being installed already: {busy.id}", f"watch it: llmops-tui runs watch {busy.id}")
    await parts.slowly(require_python, find_uv(os.environ))
    await parts.slowly(source_of, runtime, request.wheels)
    argv = [sys.executable, "-P", "-m", _PROGRAM, name, "--home", str(parts.home.root.absolute())]
    argv += ["--wheels", request.wheels] if request.wheels else []
    argv += ["--gpu"] if parts.gpus.snapshot() else []
    spec = CommandSpec(
        name=f"install-{name}"[:40], argv=argv, logs="none", tags=["runtime"], notes=f"{runtime.told}: its environment",
        resources=Resources(gpus=0, cpu_slots=0, disk_bytes=runtime.disk_bytes), allow_network=not request.wheels,
    )  # fmt: skip
    # The environments are the engine's own, whoever of its admins asks.
    uid, cwd = os.geteuid(), parts.home.root.absolute()
    prepared = await parts.prepare(uid, spec, cwd)
    return answer(await parts.scheduler.submit(spec, owner=_name_of(uid), uid=uid, cwd=str(cwd), prepared=prepared), 201)


def _is_install(spec: dict[str, object], name: str) -> bool:
    argv = spec.get("argv")
    return isinstance(argv, list) and _PROGRAM in argv and name in argv


def _info(name: str, there: Found | None, seen: Check | None, problem: str = "") -> RuntimeInfo:
    runtime = RUNTIMES[name]
    return RuntimeInfo(
        name=name,
        purpose=runtime.purpose,
        told=runtime.told,
        source=there.source if there else "",
        python=str(there.python) if there else "",
        version=there.version if there else "",
        wanted=list(runtime.requirements),
        checked=seen is not None,
        gpu=seen.gpu if seen else False,
        devices=seen.devices if seen else [],
        problem=seen.problem if seen else problem,
        warning=seen.warning if seen else "",
    )


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
