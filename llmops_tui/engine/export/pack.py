"""An export as one archive: made in a directory of its own, and sent to whoever asked, who may sit at another machine."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import Literal

from llmops_tui.data.store import Store
from llmops_tui.engine.export.content import Content, curves
from llmops_tui.engine.export.mlflow import write_mlflow
from llmops_tui.engine.export.table import write_csv
from llmops_tui.engine.export.tensorboard import write_tensorboard

ExportForm = Literal["tensorboard", "mlflow", "csv"]


def pack(store: Store, content: Content, form: ExportForm, cache: Path) -> Path:
    """A gzipped tar of the export below `cache`; the caller deletes it. Blocking. Raises OSError (full disk): nothing is left then."""
    work = Path(tempfile.mkdtemp(prefix="export-", dir=cache))
    target = work / "files"
    try:
        target.mkdir()
        write = {"tensorboard": write_tensorboard, "mlflow": write_mlflow, "csv": write_csv}[form]
        store.read(lambda con: write(content, curves(con, content.run["id"], every_attempt=form == "csv"), target))
        with tarfile.open(work / "export.tar.gz", "w:gz", compresslevel=3) as archive:
            archive.add(target, ".", filter=_nobodys)
        shutil.rmtree(target)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return work / "export.tar.gz"


def _nobodys(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
