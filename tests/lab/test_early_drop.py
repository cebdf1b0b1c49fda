"""A full conntrack table makes room: at once from entries that are not ASSURED, and when its collector scans."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from kflab.control.facts import What
from kflab.lab import early_drop
from kflab.lab.commands import Act
from kflab.lab.early_drop import KILLED_MOST
from kflab.lab.handle import Tab
from kflab.lab.records import Record, record, status_text
from kflab.lab.running import Lab
from kflab.lab.spec import ClientSpec, LabSpec
from kflab.manifest.objects import Key
from kflab.scenario.format import load_text

S = 1_000_000_000
STATSD = (Path(__file__).resolve().parents[2] / "scenarios/udp-stale/statsd.yaml").read_text()

SCANS_EARLY = 9
"""A seed with which the node's collector scans at 10.8 s, and then once a minute."""


class Story:
    """A pod that sends datagrams, or opens connections, from a new port each, to a pod of its own node."""

    def __init__(
        self, protocol: str, most: int, buckets: int, rate: float = 40.0, slab_ns: int = S // 2, seed: int = 7
    ) -> None:
        text = STATSD if protocol == "udp" else STATSD.replace("UDP", "TCP")
        client = ClientSpec(f"{protocol}://statsd:8125", rate, from_pod="default/Deployment/app")
        spec = LabSpec("s", (Tab("a.yaml", text, None),), clients=(client,), nodes=1, conntrack_max=most, seed=seed)
        self.lab = Lab(replace(spec, conntrack_buckets=buckets), slab_ns)
        self.rows: list[Record] = []
        self.lab.watch_rows(lambda found: self.rows.extend(record(found, i) for i in range(len(found))))

    def advance(self, to_s: int) -> None:
        self.lab.advance(to_s * S)

    def endings(self, from_s: float, to_s: float) -> Counter[str]:
        return Counter(status_text(one.status) for one in self.rows if from_s * S <= one.start_ns < to_s * S)

    def counted(self) -> int:
        return self.lab.conntrack.count("node-1")

    def run(self, command: str) -> str:
        return self.lab.terminal.run(f"{command} --node node-1").text


def test_short_exchanges_of_udp_give_way_to_one_another() -> None:
    story = Story("udp", most=300, buckets=64)
    story.advance(30)
    assert set(story.endings(0, 30)) == {"200"}
    assert 300 <= story.counted() < 305
    printed = story.run("conntrack -S")
    evicted = int(printed.partition("early_drop=")[2].split()[0])
    sent = len(story.rows)
    assert sent - 300 - 10 < evicted <= sent - 300  # as many as came after the table was full
    assert "drop=0 early_drop" in printed


def test_in_a_hash_table_much_larger_than_the_maximum_they_are_seldom_found() -> None:
    story = Story("udp", most=300, buckets=262_144)
    story.advance(25)
    # 8 of 262,144 buckets hold one of 300 entries, each in two chains, once in 55 times.
    late = story.endings(8, 14)
    assert late["timeout"] > 20 * late["200"] > 0


def test_connections_in_time_wait_are_assured_and_stay() -> None:
    story = Story("tcp", most=300, buckets=64)
    story.advance(25)
    assert set(story.endings(0, 7)) == {"200"}
    assert set(story.endings(8.5, 20)) == {"timeout"}
    printed = story.run("conntrack -S")
    assert "early_drop=0" in printed
    lost = next(one for one in story.rows if not one.ok)
    why = " ".join(hop.why for hop in story.lab.reopener.open_record(lost).hops)
    assert "table full, dropping packet: the eight hash buckets it looks into hold no entry that is not ASSURED" in why


@pytest.mark.parametrize(("most_killed", "freed"), [(KILLED_MOST, 16), (5, 5)])
def test_after_a_drop_the_collectors_next_scan_takes_what_closes(
    most_killed: int, freed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(early_drop, "KILLED_MOST", most_killed)
    story = Story("tcp", most=300, buckets=64, seed=SCANS_EARLY)
    story.advance(9)
    assert story.counted() == 300
    story.advance(25)
    # 5 % of 300 and one more, which are taken within half a second; the next scan is a minute later. Two may come
    # within the hundredth of a second in which the table is looked at once.
    endings = story.endings(9, 15)
    assert set(endings) == {"200", "timeout"}
    assert freed <= endings["200"] <= freed + 1
    answered = [one.start_ns for one in story.rows if one.ok and one.start_ns > 9 * S]
    assert max(answered) - min(answered) < 2 * S
    assert "early_drop=0" in story.run("conntrack -S")
    assert all(entry.life.assured for entry in story.lab.conntrack.table("node-1").entries)


def test_a_maximum_below_a_hundred_leaves_the_collector_nothing_to_do() -> None:
    story = Story("tcp", most=99, buckets=64, seed=SCANS_EARLY)
    story.advance(25)
    assert set(story.endings(6, 14)) == {"timeout"}  # 99 / 100 * 95 is 0 in whole numbers


def test_what_is_evicted_does_not_depend_on_slabs() -> None:
    digests = set()
    for slab_ns in (S // 2, S // 7):
        story = Story("udp", most=100, buckets=4096, slab_ns=slab_ns, seed=SCANS_EARLY)
        story.advance(16)
        digests.add((story.lab.digest(), story.lab.conntrack.early.evicted(0), story.counted()))
    assert len(digests) == 1
    assert next(iter(digests))[1] > 0


def test_a_fixed_port_sender_that_is_evicted_is_drawn_anew() -> None:
    text = STATSD.replace("replicas: 1", "replicas: 3", 1)
    clients = (
        ClientSpec("udp://statsd:8125", 20.0, from_pod="default/Deployment/app", client_port=43145, one_way=True),
        ClientSpec("udp://statsd:8125", 60.0, name="other", from_pod="default/Deployment/app", one_way=True),
    )
    spec = LabSpec("s", (Tab("a.yaml", text, None),), clients=clients, conntrack_max=100)
    lab = Lab(replace(spec, conntrack_buckets=64))
    made = set()
    for t_s in range(1, 16):
        lab.advance(t_s * S)
        made |= {flow.created_ns for flow in lab.engine.memory.udp.flows.values()}
    assert len(made) > 3  # one-way: never ASSURED
    one = [one for one in lab.sampler.recent() if one.stream == 0][-1]
    assert not [hop for hop in lab.reopener.open_record(one).hops if hop.outcome == "mismatch"]


def test_a_full_table_is_full_until_its_node_is_off() -> None:
    """Slabs of any length: the node goes off within one, and its table is emptied at that instant, not before."""
    digests = set()
    for slab_ns in (S // 2, S // 20):
        story = Story("tcp", most=300, buckets=64, slab_ns=slab_ns)
        story.advance(10)
        assert story.lab.do(Act("shutdown", Key("Node", "", "node-1"), (("gracePeriod", 3 * S),))).ok
        story.advance(18)
        (off,) = (fact for fact in story.lab.facts if fact.what is What.MACHINE_OFF)
        assert off.t_ns % slab_ns
        digests.add(story.lab.digest())
    assert len(digests) == 1


def test_a_scenario_may_say_how_large_the_hash_table_is() -> None:
    head = "kflab: scenario/v1\nmanifests:\n  documents: [{name: a, text: ''}]\ncluster:\n  conntrack: "
    spec = load_text(f"{head}{{max: 500, buckets: 1024}}\n", "x.yaml").spec
    assert (spec.conntrack_max, spec.conntrack_buckets) == (500, 1024)
    story = Story("udp", most=500, buckets=1024)
    text = next(text for text, _ in story.lab.assumptions if "conntrack table" in text)
    assert "of 500 entries" in text
    assert "of 1,024, hold one" in text
    tree = story.lab.journal.as_tree(S)
    assert tree["cluster"]["conntrack"] == {"max": 500, "buckets": 1024}


@pytest.mark.parametrize("given", ["{max: 5, buckets: 0}", "{buckets: many}"])
def test_a_bad_size_is_told(given: str) -> None:
    head = "kflab: scenario/v1\nmanifests:\n  documents: [{name: a, text: ''}]\ncluster:\n  conntrack: "
    with pytest.raises(Exception, match=r"x.yaml:5:.*conntrack.buckets .* must be a whole number from 1"):
        load_text(f"{head}{given}\n", "x.yaml")
