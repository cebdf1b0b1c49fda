"""The bench's generated clusters: what is measured happens."""

import gc

from kflab.bench import clusters


def test_a_killed_pod_and_a_lost_node_come_to_every_nodes_rules() -> None:
    """The workload itself asserts that rules read on calling nodes lead to nothing that is gone."""
    try:
        found = clusters.measure(40, "objects")
    finally:
        gc.unfreeze()  # it has its process to itself elsewhere
    assert (found.pods, found.services) == (1200, 80)
    assert found.lose_services == 30, "30 pods of as many Services"
    assert 0.01 < found.kill_simulated_s < 5
    assert 40 < found.lose_simulated_s < 60, "a lease of 40 s has to grow old first"
