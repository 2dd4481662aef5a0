"""What the nightly runs leave, and the table that the book shows of it.

Each night's job writes a note of the notebooks that it executed (`make run`), and the last job puts
all notes into one file (`make nightly`), in which the last green date of each chapter lives on.
"""

import html
import json
import sys
from importlib import metadata
from pathlib import Path

NOTES = "notes.json"


def note(folder: Path) -> list[dict]:
    """Write into a folder of executed notebooks a note of each, and return the notes.

    A note says chapter, backend, profile, date (of its end, UTC), minutes, versions, device, and
    whether it is green: executed to its end without an error.
    """
    import keras

    from ilsvrc import backend, profiles

    name = backend.name()
    framework = metadata.version(name)
    found = []
    for file in sorted(folder.glob("*.ipynb")):
        notebook = json.loads(file.read_text(encoding="utf-8"))
        said = notebook["metadata"].get("papermill", {})
        given = said.get("parameters", {}).get("profile")
        ended = said.get("end_time")
        found.append({
            "chapter": file.stem,
            "backend": name,
            "profile": profiles.profile(given).name,
            "date": (ended or said.get("start_time") or "")[:10],
            "minutes": round((said.get("duration") or 0) / 60, 1),
            "versions": f"{name} {framework}, Keras {keras.__version__}",
            "device": backend.device(),
            "green": bool(ended) and not said.get("exception"),
        })  # fmt: skip
    (folder / NOTES).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def merge(notes: list[dict], before: list[dict]) -> list[dict]:
    """Return the state after a night: of each chapter, backend and profile the newest note.

    Args:
        notes: Of this night's jobs.
        before: The state after the night before; its dates of the last green run live on, and so
            does a note that this night has nothing to say about.
    """
    state = {_key(one): one for one in before}
    for one in notes:
        last = one["date"] if one["green"] else state.get(_key(one), {}).get("last_green")
        state[_key(one)] = one | {"last_green": last}
    return [state[key] for key in sorted(state)]


def _key(one: dict) -> tuple[str, str, str]:
    return one["profile"], one["backend"], one["chapter"]


def table(state: list[dict]) -> str:
    """Return the state as an HTML table, a row a chapter and a column a backend and profile."""
    columns = sorted({_key(one)[:2] for one in state}, reverse=True)
    heads = "".join(f'<th scope="col">{backend}, {profile}</th>' for profile, backend in columns)
    cells = {(one["chapter"], *_key(one)[:2]): _cell(one) for one in state}
    rows = "".join(
        f'<tr><th scope="row">{html.escape(chapter)}</th>'
        + "".join(cells.get((chapter, *column), "<td>–</td>") for column in columns)
        + "</tr>\n"
        for chapter in sorted({one["chapter"] for one in state})
    )
    return (
        '<table class="ilsvrc-nightly"><caption>Each chapter by backend and profile.</caption>'
        f'<thead><tr><th scope="col">chapter</th>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )


def _cell(one: dict) -> str:
    last = one["last_green"] or "never yet"
    if one["green"]:
        said = f"{last}, {one['minutes']:g} min"
    else:
        said = f"<strong>failed on {one['date']}</strong>; last green: {last}"
    where = html.escape(f"{one['versions']}; {one['device']}")
    return f"<td{'' if one['green'] else ' class=red'}>{said}<br><small>{where}</small></td>"


def read(file: Path) -> list[dict]:
    """Return the notes in a file, none where there is no file."""
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else []


def main(what: str, folder: Path, file: Path | None = None) -> None:
    """Note a folder of executed notebooks, or put the notes below one into the state's file."""
    if what == "note":
        note(folder)
        return
    notes = [one for found in sorted(folder.rglob(NOTES)) for one in read(found)]
    state = merge(notes, read(file))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
    print(table(state))


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
