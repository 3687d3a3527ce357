"""`/v1/models…`, `/v1/datasets…` and `/v1/specs…`: what is registered, what lies on disk, registering more, and what can be asked for."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import Field

from llmops_tui.data import datasets
from llmops_tui.engine.answering import EngineParts, answer, caller_directory, caller_path
from llmops_tui.engine.people import who_asks
from llmops_tui.specs.answers import DatasetInfo, ModelInfo, SpecForm
from llmops_tui.specs.common import StrictModel
from llmops_tui.specs.form import spec_form

router = APIRouter(tags=["catalog"])


class ImportModelRequest(StrictModel):
    path: str
    name: str
    licence: str = ""
    cwd: str = "/"


class ImportDatasetRequest(StrictModel):
    """An empty name is taken from the file's; `format` is a row format's name, or auto; `copy` keeps the rows in the state directory."""

    path: str
    name: str = ""
    format: str = "auto"
    copy_rows: bool = Field(False, alias="copy")
    licence: str = ""
    cwd: str = "/"


@router.get("/specs/{kind}", response_model=SpecForm)
async def show_form(kind: str) -> Response:
    """The fields of a job kind with their types, defaults and bounds."""
    return answer(spec_form(kind))


@router.get("/models", response_model=list[ModelInfo])
async def list_models(parts: EngineParts) -> Response:
    """Registered versions, then models found on disk."""
    return answer(await parts.slowly(parts.on_behalf.list_models, who_asks().uid))


@router.post("/models/import", response_model=ModelInfo, status_code=201)
async def import_model(parts: EngineParts, request: ImportModelRequest) -> Response:
    """Register a model where it lies."""
    path = caller_path(request.cwd, request.path)
    return answer(await parts.slowly(parts.on_behalf.import_model, who_asks().uid, request.name, path, request.licence), 201)


@router.get("/models/{reference:path}", response_model=ModelInfo)
async def show_model(parts: EngineParts, reference: str, cwd: str = "/") -> Response:
    """One model by `name`, `name@v2`, `name@alias` or a path meant from `cwd`."""
    return answer(await parts.slowly(parts.on_behalf.get_model, who_asks().uid, reference, caller_directory(cwd)))


@router.get("/datasets", response_model=list[DatasetInfo])
async def list_datasets(parts: EngineParts) -> Response:
    """Registered dataset versions."""
    return answer(await parts.slowly(datasets.list_datasets, parts.home))


@router.post("/datasets/import", response_model=DatasetInfo, status_code=201)
async def import_dataset(parts: EngineParts, request: ImportDatasetRequest) -> Response:
    """Check every row of a file and register it as the next version of its name."""
    path = caller_path(request.cwd, request.path)
    register = partial(
        parts.on_behalf.import_dataset, who_asks().uid, path, request.name, request.format, copy=request.copy_rows, licence=request.licence
    )
    return answer(await parts.slowly(register), 201)


@router.get("/datasets/{reference:path}", response_model=DatasetInfo)
async def show_dataset(parts: EngineParts, reference: str, cwd: str = "/") -> Response:
    """One dataset by `name`, `name@v2` or a path meant from `cwd`."""
    return answer(await parts.slowly(parts.on_behalf.get_dataset, who_asks().uid, reference, caller_directory(cwd)))
