"""More callers than xt_recent's lists hold: the module told line by line and the engine's lists agree."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kflab.draws import Draws
from kflab.engine import caller_lists
from kflab.engine.affinity import Affinity
from kflab.engine.caller_lists import CallerLists
from kflab.engine.engine import Engine
from kflab.engine.types import Fan, Pick, Server, Stream, Timing

S = 1_000_000_000
ROOM = 3


class Module:
    """xt_recent as its source has it: a table per endpoint, entries in order of their last stamp."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        self.tables: dict[int, list[list[int]]] = {}

    def connection(self, caller: int, now: int, endpoints: tuple[int, ...], drawn: int) -> int:
        chosen = drawn
        for endpoint in endpoints:
            table = self.tables.setdefault(endpoint, [])
            entry = next((e for e in table if e[0] == caller), None)
            if entry is None:
                continue
            matches = not entry[1] < now - self.seconds
            if table[0][1] < now - self.seconds:
                table.pop(0)
            if matches:
                chosen = endpoint
                break
        table = self.tables.setdefault(chosen, [])
        entry = next((e for e in table if e[0] == caller), None)
        if entry is not None:
            table.remove(entry)
        elif len(table) >= ROOM:
            table.pop(0)
        table.append([caller, now])
        return chosen


connections = st.lists(
    st.tuples(st.integers(0, 11), st.integers(0, 4), st.integers(0, 2)), min_size=1, max_size=120
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(connections, st.integers(1, 40))
def test_the_lists_do_what_the_module_does(asked: list[tuple[int, int, int]], seconds: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(caller_lists, "MOST", ROOM)
        module, endpoints = Module(seconds), (0, 1, 2)
        kept = {caller: Affinity(seconds) for caller in range(12)}
        lists = CallerLists(dict.fromkeys(range(12)))
        for caller in range(12):
            lists.learn(caller, 0, endpoints)
        assert lists.crowded
        times = np.cumsum([gap for _, gap, _ in asked])
        drawn = np.array([word for _, _, word in asked])
        callers = [caller for caller, _, _ in asked]
        got: list[int] = []
        half = len(asked) // 2
        for part in (slice(0, half), slice(half, None)):
            got += lists.take(callers[part], times[part], drawn[part], [endpoints] * len(callers[part]), kept)
        assert got == [
            module.connection(caller, int(now), endpoints, int(word))
            for caller, now, word in zip(callers, times, drawn, strict=True)
        ]
        for caller, now, server in zip(callers, times.tolist(), got, strict=True):
            held = kept[caller].held_at(now)
            assert callers.count(caller) > 1 or (held is not None and held.server == server)


def crowd(n_callers: int, slab_ns: int = S // 10, in_lists: bool = True) -> list[tuple[int, int, int]]:
    """(stream, start, server) of callers who come about twice a second each to four pods."""
    servers = [Server(f"p{n}", 0, 16) for n in range(4)]
    streams = [Stream(n, "pod", 2.0, place=0, entries=((0, n),)) for n in range(n_callers)]
    engine = Engine(Draws(5), Timing(), streams, servers, 1, slab_ns=slab_ns)
    for n in range(n_callers):
        entry = engine.add_affinity(60 * S)
        if in_lists:
            engine.share_lists(entry, 0)
        engine.set_pick(n, Pick.SCHEDULED, entry)
        engine.learn(n, 0, Fan((0, 1, 2, 3), (1,) * 4))
        engine.list_endpoints(entry, 0, (0, 1, 2, 3))
    engine.advance(12 * S)
    rows = engine.take_finished()
    found = zip(rows.stream.tolist(), rows.start_ns.tolist(), rows.try_server[:, 0].tolist(), strict=True)
    return sorted(found, key=lambda row: (row[1], row[0]))


def moves(rows: list[tuple[int, int, int]]) -> float:
    """Share of connections, but each caller's first, that went elsewhere than the one before."""
    last: dict[int, int] = {}
    moved = total = 0
    for stream, _, server in rows:
        if stream in last:
            total, moved = total + 1, moved + (last[stream] != server)
        last[stream] = server
    return moved / total


def test_up_to_a_hundred_callers_all_stay() -> None:
    assert moves(crowd(100)) == 0.0


def test_a_crowd_that_the_lists_have_no_room_for_is_drawn_anew() -> None:
    rows = crowd(800)
    assert 0.3 < moves(rows) < 0.75  # 400 of 800 are remembered at a time; three of four draws go elsewhere
    assert moves(crowd(800, in_lists=False)) == 0.0


def test_it_does_not_depend_on_slabs() -> None:
    assert crowd(450, S // 10) == crowd(450, S // 7)
