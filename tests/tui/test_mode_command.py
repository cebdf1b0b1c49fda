"""`:mode` on the command line: read, completed, listed, answered; and what the screen shows while nodes change."""

import pytest

from kflab.errors import KflabError
from kflab.lab.commands import SetMode
from kflab.scenario.opening import open_what
from kflab.tui.app import KflabApp
from kflab.tui.command_words import completions
from kflab.tui.lab_words import parse
from kflab.tui.screenshots import HeldLab, Stage


def test_the_word_takes_a_mode() -> None:
    assert parse(":mode nftables") == SetMode("nftables")
    with pytest.raises(KflabError, match="mode takes iptables, nftables or ipvs, not 'userspace'"):
        parse("mode userspace")
    with pytest.raises(KflabError, match=r"^mode MODE: kube-proxy's mode: iptables, nftables or ipvs"):
        parse("mode")


def test_its_arguments_are_completed() -> None:
    assert completions("mo", ()) == ("mode ",)
    assert completions("mode ", ()) == ("mode iptables", "mode nftables", "mode ipvs")
    assert completions("mode i", ()) == ("mode iptables", "mode ipvs")
    assert completions("view n", ()) == ("view nodes",)


async def test_the_answer_opens_and_the_ledger_shows_each_node_changing() -> None:
    lab = HeldLab(open_what(["overview"]).spec)
    app = KflabApp(lab, glyphs="unicode")
    async with app.run_test(size=(120, 40)) as pilot:
        stage = Stage(app, pilot, lab)
        await stage.until(1)
        await stage.press("colon", *("space" if key == " " else key for key in "mode nftables"), "enter")
        text = "\n".join(stage.lines())
        assert "kube-proxy restarts in nftables mode" in text
        assert "127.0.0.1 calls ingress-nginx/ingress-nginx-controller at 127.0.0.1:30443: goes to 2 endpoints" in text
        await stage.press("escape")
        seen = []
        while lab.t_ns < 4_200_000_000:
            await stage.until(lab.t_ns / 1e9 + 0.2, 200_000_000)
            row = next(line for line in stage.lines() if " node-a rules " in line)
            words = " ".join(row.partition(" rules ")[2][:36].split())
            seen += [words] if words not in seen else []
        assert [words.split(" ")[0] for words in seen] == ["stale", "restarting", "stale", "in"]
        assert "no rules" in seen[2]
        assert "nftables" in seen[3]
        assert "kube-proxy's mode was set to nftables: every node's rules follow it since" in stage.lines()[1]


async def test_the_palette_names_it() -> None:
    lab = HeldLab(open_what(["overview"]).spec)
    app = KflabApp(lab, glyphs="unicode")
    async with app.run_test(size=(120, 40)) as pilot:
        stage = Stage(app, pilot, lab)
        await stage.press("ctrl+p", *"mode")
        await stage.when(lambda text: ":mode MODE" in text, "the palette's entry")
        await stage.press("enter")
        await stage.when(lambda text: ":mode" in text.splitlines()[-1], "the command line")
