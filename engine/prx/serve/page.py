"""The page at `/`, for people who look: what is served, what runs, and what is wrong. It needs nothing from elsewhere."""

from __future__ import annotations

from html import escape

from prx.serve.service import Service

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="10"><title>prx</title><style>
:root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }}
body {{ max-width: 60rem; margin: 2rem auto; padding: 0 1rem }}
table {{ border-collapse: collapse; width: 100% }}
td, th {{ text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #8884; overflow-wrap: anywhere }}
h2 {{ margin-top: 2rem; font-size: 1.1rem }}
</style></head><body><h1>prx</h1><p>{state}; {running} calls run.</p>{problems}{resting}
<h2>Models</h2><table><tr><th>model</th></tr>{models}</table>
<h2>Dialects</h2><table><tr><th>dialect</th><th>asked at</th></tr>{faces}</table></body></html>
"""


def page(app: Service) -> bytes:
    models = "".join(f"<tr><td>{escape(name)}</td></tr>" for name in app.names())
    faces = "".join(
        f"<tr><td>{escape(face.id)}</td><td>{'<br>'.join(escape(entrance.at) for entrance in face.entrances)}</td></tr>"
        for face in app.faces
    )
    return _PAGE.format(
        state="Draining" if app.draining else "Ready",
        running=len(app.running),
        problems=_listed("Faults of the last reload", app.problems),
        resting=_listed("Targets that rest", [f"{ref} for {left:.0f} s" for ref, left in app.resting().items()]),
        models=models,
        faces=faces,
    ).encode()


def _listed(title: str, rows: object) -> str:
    found = [escape(str(row)) for row in rows] if isinstance(rows, list | tuple) else []
    return f"<h2>{title}</h2><ul>{''.join(f'<li>{row}</li>' for row in found)}</ul>" if found else ""
