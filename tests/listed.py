"""The lists of ``pages/_rows.py`` and the viewers as AppTest sees them."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
from streamlit.testing.v1 import AppTest


def lists(app: AppTest) -> list[pd.DataFrame]:
    """Each list of the page as a table: findings by their words."""
    return [_table(e.proto) for e in app.get("bidi_component") if e.proto.component_name == "rows"]


def viewers(app: AppTest) -> list[dict[str, Any]]:
    """What each viewer that has a picture is told."""
    return [header for header in _told(app) if header["key"]]


def keys(app: AppTest) -> list[dict[str, Any]]:
    """And each that stands where a picture could not be read."""
    return [header for header in _told(app) if not header["key"]]


def _told(app: AppTest) -> list[dict[str, Any]]:
    found = [e.proto for e in app.get("bidi_component") if e.proto.component_name == "viewer"]
    ends = [4 + int.from_bytes(proto.bytes[:4], "little") for proto in found]
    return [json.loads(proto.bytes[4:end]) for proto, end in zip(found, ends, strict=True)]


def _table(proto: Any) -> pd.DataFrame:
    data = json.loads(proto.json)
    cells = [[c["word"] if isinstance(c, dict) else c for c in r["cells"]] for r in data["rows"]]
    return pd.DataFrame(cells, columns=[c["name"] for c in data["columns"]])
