"""Pictures of runs that the pages of a table show: those of each row's run with the first seed.

Kept are pictures of data that this library draws; those of other data stay in the reports of the runs, since the
photographs in them are not ours to publish.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import PIL.Image

from training.files import replacing
from training.reproduction.edition import Edition
from training.reproduction.execution import run_folder
from training.reproduction.store import Record, ResultStore
from training.reproduction.table import Row

FOLDER = "pictures"
WIDEST = 800
_QUALITY = 85


def picture_path(store: ResultStore, record: Record, name: str) -> Path:
    """Return where picture `name` of a run lies, if it is kept."""
    return store.root / FOLDER / record.method / f"{record.stem}-{name}.jpg"


def pictures_of(edition: Edition, row: Row, store: ResultStore) -> dict[str, Path]:
    """Return the kept pictures that the pages of `edition` show for `row`, by name."""
    planned = edition.planned(row)
    record = store.find(planned[0]) if planned else None
    if record is None or record.kind != "run":
        return {}
    paths = {name: picture_path(store, record, name) for name in edition.table.pictures}
    return {name: path for name, path in paths.items() if path.exists()}


def keep_pictures(edition: Edition, store: ResultStore, runs_root: Path) -> None:
    """Keep what the pages of `edition` show of the run directories below `runs_root`, in place of what was kept before.

    A row whose run directory is gone keeps the pictures that it has.
    """
    for row in edition.table.rows:
        planned = edition.planned(row)
        record = store.find(planned[0]) if planned else None
        if record is None or record.kind != "run" or planned[0].request.data_dir is not None:
            continue
        first = run_folder(planned[0].request, runs_root, again=False)
        for name in edition.table.pictures:
            for folder in _existing(first):
                if (folder / "pictures" / f"{name}.png").is_file():
                    _keep(folder / "pictures" / f"{name}.png", picture_path(store, record, name))


def _existing(first: Path) -> Iterator[Path]:
    """Yield a run's folder and those of its repetitions, the latest last."""
    names = itertools.chain([first], (first.with_name(f"{first.name}-{number}") for number in itertools.count(2)))
    return itertools.takewhile(Path.is_dir, names)


def _keep(drawn: Path, kept: Path) -> None:
    """Write a drawing as a JPEG of at most `WIDEST` pixels."""
    with PIL.Image.open(drawn) as opened:
        picture = PIL.Image.new("RGB", opened.size, "white")
        picture.paste(opened, mask=opened.getchannel("A") if "A" in opened.getbands() else None)
    if picture.width > WIDEST:
        picture = picture.resize((WIDEST, round(picture.height * WIDEST / picture.width)), PIL.Image.Resampling.LANCZOS)
    kept.parent.mkdir(parents=True, exist_ok=True)
    with replacing(kept) as file:
        picture.save(file, "JPEG", quality=_QUALITY, optimize=True)
