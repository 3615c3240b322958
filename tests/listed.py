"""The lists of ``pages/_rows.py`` as AppTest sees them."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
from streamlit.testing.v1 import AppTest


def lists(app: AppTest) -> list[pd.DataFrame]:
    """Each list of the page as a table: findings by their words."""
    return [_table(e.proto) for e in app.get("bidi_component") if e.proto.component_name == "rows"]


def viewers(app: AppTest) -> list[Any]:
    return [e for e in app.get("bidi_component") if e.proto.component_name == "viewer"]


def _table(proto: Any) -> pd.DataFrame:
    data = json.loads(proto.json)
    cells = [[c["word"] if isinstance(c, dict) else c for c in r["cells"]] for r in data["rows"]]
    return pd.DataFrame(cells, columns=[c["name"] for c in data["columns"]])
