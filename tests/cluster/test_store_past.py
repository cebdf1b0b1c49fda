"""What the store tells of the past: everything since it keeps history, and what was there before."""

from kflab.cluster.store import Store
from kflab.manifest.objects import Key, Meta
from kflab.manifest.objects_cluster import Namespace


def namespace(name: str, **labels: str) -> Namespace:
    return Namespace(Meta(name, labels=labels))


def settled() -> Store:
    store = Store()
    store.keeps_past = False
    for name in ("a", "b", "c"):
        store.put(namespace(name), 0, "user")
    store.delete(Key("Namespace", "", "c"), 0, "user")
    store.start_past()
    return store


def names_at(store: Store, revision: int) -> list[str]:
    return [obj.meta.name for obj in store.of_kind_at("Namespace", revision)]


def test_what_was_not_written_since_is_as_it_is():
    store = settled()
    start = store.revision
    store.put(namespace("d"), 1, "user")
    assert store.get(Key("Namespace", "", "a"), at=start) == namespace("a")
    assert store.get(Key("Namespace", "", "a"), at=1) == namespace("a"), "before history: as at its beginning"
    assert store.get(Key("Namespace", "", "c"), at=3) is None
    assert names_at(store, start) == ["a", "b"]


def test_what_was_written_since_is_known_as_it_was():
    store = settled()
    start = store.revision
    store.put(namespace("a", tier="web"), 1, "user")
    store.delete(Key("Namespace", "", "b"), 2, "user")
    store.put(namespace("e"), 3, "user")
    assert store.get(Key("Namespace", "", "a"), at=start) == namespace("a")
    assert store.get(Key("Namespace", "", "a"), at=start + 1) == namespace("a", tier="web")
    assert [names_at(store, start + n) for n in range(4)] == [["a", "b"], ["a", "b"], ["a"], ["a", "e"]]


def test_forgetting_keeps_what_is_and_what_observers_may_ask_for():
    store = settled()
    start = store.revision
    store.put(namespace("a", tier="web"), 1, "user")
    store.delete(Key("Namespace", "", "b"), 2, "user")
    store.forget_before(start + 1)
    assert names_at(store, start + 1) == ["a", "b"], "b was there then"
    store.forget_before(start + 2)
    assert names_at(store, start + 2) == ["a"]
    assert store.get(Key("Namespace", "", "a"), at=start + 2) == namespace("a", tier="web")


def test_a_namesake_comes_where_the_first_one_was_until_that_is_forgotten():
    store = settled()
    store.delete(Key("Namespace", "", "a"), 1, "user")
    between = store.revision
    store.put(namespace("a", again="yes"), 2, "user")
    assert names_at(store, between) == ["b"]
    assert names_at(store, store.revision) == ["a", "b"]
