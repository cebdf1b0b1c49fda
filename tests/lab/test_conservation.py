"""Every request that was sent ends exactly once, whatever befalls the pods that serve."""

from hypothesis import given, settings
from hypothesis import strategies as st

from kflab.engine.types import Answer
from kflab.errors import KflabError
from kflab.lab.commands import Act, Kill, Scale, SetLoad
from kflab.manifest.objects import Key
from tests.lab.small_labs import S, direct, kept_rows, pods

WEB = Key("Deployment", "default", "web")

story = st.lists(
    st.tuples(
        st.integers(0, 2500),
        st.sampled_from(
            ["crash", "delete", "force", "exit", "hang", "restart", "undo", "down", "up", "crashLoop", "client"]
        ),
        st.integers(0, 9),
    ),
    min_size=1,
    max_size=6,
)
"""(ms to wait, what to do then, to which of the pods)."""


def act(lab, what, number):
    """Do one thing, if it can be done now."""
    if what in ("down", "up"):
        lab.do(Scale(WEB, number % 3 if what == "down" else 3 + number % 3))
        return
    if what in ("restart", "undo", "crashLoop"):
        lab.do(Act(what, WEB, (("for", 4 * S),) if what == "crashLoop" else ()))
        return
    there = pods(lab, "app" if what == "client" else "web")
    if there:
        key = there[number % len(there)]
        if what in ("crash", "delete", "force"):
            lab.do(Kill(key, what))
        elif what == "client":
            lab.do(Kill(key, ("crash", "delete", "force")[number % 3]))
        else:
            lab.do(Act(what, key, (("for", 3 * S),) if what == "hang" else ()))


@settings(max_examples=8, deadline=None)
@given(told=story, replicas=st.integers(1, 4), kept=st.booleans())
def test_what_was_sent_ends_exactly_once(told, replicas, kept):
    lab = direct(rate=80, replicas=replicas, client=", connections: 3" if kept else "")
    rows = kept_rows(lab)
    for wait_ms, what, number in told:
        lab.advance(lab.t_ns + wait_ms * 1_000_000)
        try:
            act(lab, what, number)
        except KflabError:
            continue
        assert len({(row.stream, row.number) for row in rows}) == len(rows)
        assert len(rows) + lab.totals.in_flight == lab.totals.sent
    lab.do(SetLoad(0))
    lab.advance(lab.t_ns + 60 * S)
    assert lab.totals.in_flight == 0
    assert sorted(row.number for row in rows) == list(range(lab.totals.sent))
    assert lab.totals.ok == sum(row.ok for row in rows)
    assert lab.totals.gone == sum(row.status == -Answer.CLIENT_GONE for row in rows)
    assert lab.totals.failed == sum(not row.ok for row in rows) - lab.totals.gone
    assert all(row.start_ns <= row.finish_ns for row in rows)
