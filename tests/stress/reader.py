"""``python -m tests.stress.reader``: two readers decide without end, to be killed at any moment.

*bob* presses the buttons of the page Review, *ann* calls the store as fast as a page could. Each
decision that was answered (the page says "Saved", the store returns) is a line of JSON on the
standard output: reader, study, revision, verdict, comment.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from itertools import count

from streamlit.runtime.context import ContextProxy
from streamlit.testing.v1 import AppTest

from core.settings import ROOT, Settings
from core.store import Opinion, Store, Verdict
from core.types import BodyPart, Finding

ContextProxy.cookies = {}  # as in conftest: where Streamlit has a mock
VERDICTS = (Verdict.AGREE, Verdict.DISAGREE, Verdict.SECOND_LOOK)
PAUSE = 0.03
_saying = threading.Lock()


def say(**answered: object) -> None:
    with _saying:
        sys.stdout.write(json.dumps(answered) + "\n")
        sys.stdout.flush()


def revisions(store: Store, reader: str) -> dict[str, int]:
    """This reader's newest revision on each study."""
    return {
        r.id: max((d.revision for d in r.history if d.reader == reader), default=0)
        for r in store.studies()
    }


def by_the_store(store: Store) -> None:
    at, rng = revisions(store, "ann"), random.Random()
    for number in count():
        study, verdict = rng.choice(list(at)), rng.choice(VERDICTS)
        opinion = Opinion(verdict, BodyPart.HAND, Finding.DOUBTFUL, f"ann {number}")
        at[study] = store.decide(study, "ann", opinion, at[study]).revision
        what = {"verdict": verdict, "comment": opinion.comment}
        say(reader="ann", study=study, revision=at[study], **what)
        time.sleep(PAUSE)


def by_the_page(store: Store) -> None:
    """Another verdict than the last one with every press, and now and then a comment."""
    at, rng = revisions(store, "bob"), random.Random()
    for number in count():
        study = rng.choice(list(at))
        app = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=180)
        app.switch_page("pages/review.py")
        app.session_state["reader"] = "bob"
        app.query_params["study"] = study
        app.run()
        for verdict in rng.sample(VERDICTS, 3):
            mine = [d.opinion for d in store.study(study).history if d.reader == "bob"]
            if mine and mine[-1] is not None and mine[-1].verdict is verdict:
                continue  # it is said already, and is not saved twice
            app.button(f"verdict-{verdict}-{study}").click().run()
            at[study] = answered(app, study, at[study], verdict, None)
        comment = f"bob {time.time()} {number}"
        app.text_area[0].input(comment).run()
        at[study] = answered(app, study, at[study], None, comment)


def answered(
    app: AppTest, study: str, before: int, verdict: Verdict | None, comment: str | None
) -> int:
    """Say what the page told its reader; the revision that it stands for."""
    shown = "\n".join(str(e.proto.body) for e in app.get("html"))
    if app.exception or "Saved at " not in shown or 'class="notice"' in shown:
        raise SystemExit(f"The page did not say that it saved:\n{shown[-2000:]}")
    say(reader="bob", study=study, revision=before + 1, verdict=verdict, comment=comment)
    return before + 1


def main() -> None:
    store = Store.open(Settings.from_environment())
    threading.Thread(target=by_the_store, args=(store,), daemon=True).start()
    by_the_page(store)


if __name__ == "__main__":
    main()
