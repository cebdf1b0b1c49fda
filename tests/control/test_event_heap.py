"""The event heap gives events by time and order of pushing, whatever was dropped or discarded meanwhile."""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from kflab.cluster.checkpoint import clone
from kflab.control.heap import Event, EventHeap


@dataclass(frozen=True, slots=True)
class Numbered(Event):
    n: int


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.integers(0, 6)),
        st.tuples(st.just("pop"), st.just(0)),
        st.tuples(st.just("drop"), st.integers(0, 40)),
        st.tuples(st.just("discard"), st.integers(2, 4)),
        st.tuples(st.just("copy"), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_as_a_sorted_list_would(steps: list[tuple[str, int]]) -> None:
    heap, due = EventHeap(), list[tuple[int, int, Numbered]]()
    now, made = 0, 0
    for what, number in steps:
        if what == "push":  # never before now, as the control plane does
            made += 1
            event = Numbered(made)
            due.append((now + number, heap.push(now + number, event), event))
        elif what == "pop" and due:
            first = min(due, key=lambda entry: entry[:2])
            due.remove(first)
            now = first[0]
            assert heap.pop() is first[2]
        elif what == "drop" and due:
            dropped = due.pop(number % len(due))
            heap.drop(dropped[1])
        elif what == "discard":
            due = [entry for entry in due if entry[2].n % number]
            heap.discard(lambda event, of=number: isinstance(event, Numbered) and event.n % of == 0)
        elif what == "copy":
            heap = clone(heap)
        assert len(heap) == len(due)
        assert heap.next_ns() == min((entry[0] for entry in due), default=None)
        assert heap.pending() == tuple((t_ns, event) for t_ns, _, event in sorted(due, key=lambda entry: entry[:2]))
