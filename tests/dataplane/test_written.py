"""A text followed from change to change is the text written anew, in every mode."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_iptables import CONFIG, service_and_slice

from kflab.dataplane.iptables import RuleSet, ServiceTable, compile_service, save_text
from kflab.dataplane.ipvs import IpvsRuleSet
from kflab.dataplane.ipvs_text import server_text
from kflab.dataplane.modes import MODES, ModeRules, rule_set_for
from kflab.dataplane.nftables import NftRuleSet
from kflab.dataplane.node_facts import NodeFacts
from kflab.dataplane.service_ports import ServiceRules
from kflab.dataplane.text_blocks import ClaimedBlocks, TextBlocks
from kflab.dataplane.written import Written
from kflab.manifest.objects import Key, Meta
from kflab.manifest.objects_network import Endpoint, EndpointPort, EndpointSlice, Service, ServicePort

FACTS = NodeFacts("node-a", ("10.0.0.1", "203.0.113.9"), "zone-1", ("10.0.0.1",))
"""The second address is an external IP of some Services: contested in IPVS mode."""

fixed = settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def anew(rules: ModeRules) -> str:
    """The text from whole tables, by another way than `written`."""
    if isinstance(rules, RuleSet):
        return save_text(rules.full_tables(), rules.family)
    if isinstance(rules, NftRuleSet):
        return rules.table().listed()
    assert isinstance(rules, IpvsRuleSet)
    servers = "".join(server_text(server) for server in rules.virtual_servers())
    sets = "".join(f"{line}\n" for item in rules.ip_sets() for line in item.saved(rules.family))
    tables = save_text(rules.full_tables(), rules.family)
    return f"# ipvsadm -Sn\n{servers}# ipset save\n{sets}# iptables-save\n{tables}"


@st.composite
def changes(draw: st.DrawFn) -> list[dict[Key, ServiceRules | None]]:
    """Steps, each of which compiles, changes or removes some of five Services."""
    steps = []
    for _ in range(draw(st.integers(1, 5))):
        step: dict[Key, ServiceRules | None] = {}
        for index in draw(st.lists(st.integers(0, 4), min_size=1, max_size=3, unique=True)):
            service, piece = draw(service_and_slice(index))
            gone = draw(st.sampled_from([False, False, False, True]))
            step[service.key] = None if gone else compile_service(service, [piece])
        steps.append(step)
    return steps


@pytest.mark.parametrize("mode", MODES)
@fixed
@given(changes())
def test_a_followed_text_is_the_text_written_anew(mode: str, steps: list[dict[Key, ServiceRules | None]]) -> None:
    table, written = ServiceTable(), Written()
    for step in steps:
        table = table.with_changes(step)
        rules = rule_set_for(mode, FACTS, CONFIG, table, "IPv4")
        text = anew(rules)
        assert "".join(written.blocks(rules)) == text
        assert rules.save_text() == text


@pytest.mark.parametrize("mode", MODES)
def test_one_pod_leaves_all_other_blocks_untouched(mode: str) -> None:
    def compiled(n: int, pods: int) -> ServiceRules:
        key = Key("Service", "ns", f"s{n:04d}")
        service = Service(
            Meta(key.name, "ns"),
            ports=(ServicePort(80, "", "TCP", 8080),),
            cluster_ips=(f"10.96.{n // 250}.{n % 250}",),
        )
        endpoints = tuple(
            Endpoint((f"10.244.{n // 250}.{n % 250}",) if not i else (f"10.245.0.{i}",), node_name="node-a")
            for i in range(pods)
        )
        meta = Meta(f"{key.name}-x", "ns", labels={"kubernetes.io/service-name": key.name})
        return compile_service(service, [EndpointSlice(meta, endpoints=endpoints, ports=(EndpointPort(8080),))])

    table, written = ServiceTable(compiled(n, 1) for n in range(3000)), Written()
    before = written.blocks(rule_set_for(mode, FACTS, CONFIG, table, "IPv4"))
    after = table.with_changes({Key("Service", "ns", "s1500"): compiled(1500, 2)})
    blocks = written.blocks(rule_set_for(mode, FACTS, CONFIG, after, "IPv4"))
    known = {id(block) for block in before}
    changed = [block for block in blocks if id(block) not in known and len(block) > 1000]
    assert any("10.245.0.1" in block for block in changed)
    assert len(changed) <= 5, "blocks of a change: its chains and the chain or set that all share"


def _reference(puts: list[tuple[int, str | None]]) -> str:
    known: dict[int, str] = {}
    for place, piece in puts:
        if piece is None:
            known.pop(place, None)
        else:
            known[place] = piece
    return "".join(known[place] for place in sorted(known))


@fixed
@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(0, 2000), st.one_of(st.none(), st.sampled_from(["", "a", "bcd", "ef\n"]))),
            max_size=800,
        ),
        max_size=4,
    )
)
def test_blocks_are_their_pieces_in_order(rounds: list[list[tuple[int, str | None]]]) -> None:
    blocks: TextBlocks[int] = TextBlocks()
    done: list[tuple[int, str | None]] = []
    for puts in rounds:
        for place, piece in puts:
            if piece is None:
                blocks.drop(place)
            else:
                blocks.put(place, piece)
        done += puts
        assert "".join(blocks.texts()) == _reference(done)


@pytest.fixture
def contested() -> Callable[[], str]:
    claimed: ClaimedBlocks[str] = ClaimedBlocks()
    for claimant in (3, 1, 2):
        claimed.claim("thing", claimant, "place", f"of {claimant};")
    claimed.claim("other", 2, "else", "alone;")

    def text_without(*gone: int) -> str:
        for claimant in gone:
            claimed.release("thing", claimant)
        return "".join(claimed.blocks.texts())

    return text_without


def test_the_first_claimant_has_a_thing_and_the_next_inherits_it(contested: Callable[..., str]) -> None:
    assert contested() == "alone;of 1;"
    assert contested(3) == "alone;of 1;"
    assert contested(1) == "alone;of 2;"
    assert contested(2) == "alone;"
