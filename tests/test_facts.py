"""The table of published numbers: cited, certain, and agreeing with sums done by hand."""

import re

import pandas as pd
import pytest

from ilsvrc import facts
from ilsvrc.paths import ROOT
from networks import NETWORKS

pytestmark = pytest.mark.once

BIBLIOGRAPHY = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
CITED = set(re.findall(r"^@\w+\{([^,\s]+),", BIBLIOGRAPHY, flags=re.MULTILINE))


def conv(size, kernel, channels, filters):
    """Return (parameters, MACs) of a convolution whose output is size x size."""
    weights = kernel * kernel * channels * filters
    return weights + filters, size * size * weights


def dense(inputs, outputs):
    return inputs * outputs + outputs, inputs * outputs


def total(layers):
    return tuple(map(sum, zip(*layers, strict=True)))


def test_every_fact_has_a_source_in_the_bibliography():
    table = {key: facts.fact(key) for key in facts.names()}
    assert {fact.source for fact in table.values()} <= CITED
    assert {fact.certainty for fact in table.values()} <= set(facts.CERTAINTIES)
    assert [key for key, fact in table.items() if fact.value <= 0] == []


def test_keys_of_the_bibliography_are_unique():
    assert len(re.findall(r"^@\w+\{", BIBLIOGRAPHY, flags=re.MULTILINE)) == len(CITED)


def test_every_row_is_cited():
    tables = pd.concat([facts.challenge().source, facts.networks().source])
    assert set(tables) | set(facts.networks().errors_source) <= CITED


def test_an_unknown_key_names_the_nearest():
    with pytest.raises(KeyError, match=r"alexnet\.parameters"):
        facts.fact("alexnet.params")
    with pytest.raises(KeyError, match=r"facts\.toml"):
        facts.value("???")


def test_alexnet_is_the_sum_of_its_layers():
    # conv 2, 4 and 5 see one tower's channels
    layers = [conv(55, 11, 3, 96), conv(27, 5, 48, 256), conv(13, 3, 256, 384)]
    layers += [conv(13, 3, 192, 384), conv(13, 3, 192, 256)]
    layers += [dense(6 * 6 * 256, 4096), dense(4096, 4096), dense(4096, 1000)]
    parameters, macs = total(layers)
    assert facts.value("alexnet.parameters") == parameters
    assert facts.value("alexnet.macs") == pytest.approx(macs, rel=1e-3)
    ten = parameters - dense(4096, 1000)[0] + dense(4096, 10)[0]
    assert facts.value("alexnet.parameters_ten_classes") == ten
    layers[1], layers[3:5] = conv(27, 5, 96, 256), [conv(13, 3, 384, 384), conv(13, 3, 384, 256)]
    assert facts.value("alexnet_ungrouped.parameters") == total(layers)[0]
    assert facts.value("alexnet_ungrouped.macs") == pytest.approx(total(layers)[1], rel=1e-3)


def test_vgg16_is_the_sum_of_its_layers():
    layers, channels = [], 3
    for size, filters, depth in [(224, 64, 2), (112, 128, 2), (56, 256, 3), (28, 512, 3)]:
        for _ in range(depth):
            layers.append(conv(size, 3, channels, filters))
            channels = filters
    layers += [conv(14, 3, 512, 512)] * 3
    layers += [dense(7 * 7 * 512, 4096), dense(4096, 4096), dense(4096, 1000)]
    parameters, macs = total(layers)
    assert facts.value("vgg16.parameters") == parameters
    assert facts.value("vgg16.macs") == pytest.approx(macs, rel=1e-3)


def test_the_challenge_has_one_winner_a_year_and_falls():
    table = facts.challenge()
    won = table[(table["rank"] == 1) & ~table.outside_data]
    assert list(won.year) == list(range(2010, 2018))
    assert won.top5_error.is_monotonic_decreasing
    for _, entries in table[~table.outside_data].groupby("year"):
        assert entries.top5_error.is_monotonic_increasing
    assert facts.value("challenge.2012.top5_error") == 16.422


def test_one_network_is_worse_than_the_teams_ensemble():
    for network, year in [("alexnet", 2012), ("googlenet", 2014), ("resnet152", 2015)]:
        single = facts.value(f"{network}.top5_error")
        assert single > facts.value(f"challenge.{year}.top5_error")


def test_networks_are_in_order_and_errors_in_percent():
    table = facts.networks()
    assert table.index.is_unique and table.year.is_monotonic_increasing
    known = table.dropna(subset=["top1_error", "top5_error"])
    assert (known.top1_error > known.top5_error).all()
    assert known.top1_error.between(10, 50).all()
    assert table.parameters.dtype.kind == "i"


def test_the_welcome_page_agrees_with_the_table():
    page = (ROOT / "book" / "welcome.md").read_text(encoding="utf-8")
    table = facts.challenge()
    checked = 0
    for years, errors in re.findall(
        r"^\| (2[\d, ]+) \|.*\| ([\d., ]+) \| ", page, flags=re.MULTILINE
    ):
        years = [int(year) for year in years.split(", ")]
        entries = table[table.year.isin(years) & ~table.outside_data].top5_error
        for error in errors.split(", "):
            digits = len(error.partition(".")[2])
            assert float(error) in set(entries.round(digits)), (years, error)
            checked += 1
    assert checked == 11


def card_numbers(page: str) -> list[str]:
    """Return the errors (of the card of a chapter), parameters and MACs, as they are written."""
    card = page.partition('<div class="ilsvrc-card">')[2].partition("</div>")[0]
    return re.findall(r"\d[\d,]*(?:\.\d+)?(?= (?:%|parameters|billion))", card)


@pytest.mark.parametrize("path", sorted((ROOT / "chapters").glob("2*.md")), ids=lambda p: p.stem)
def test_the_card_of_a_chapter_agrees_with_the_table(path):
    numbers = card_numbers(path.read_text(encoding="utf-8"))
    enough = 4 if path.stem in NETWORKS else 2
    assert len(numbers) >= enough, "a card gives errors, parameters and MACs"
    network = path.stem.partition("_")[2].partition("_")[0]
    own = [name for name in facts.names() if name.startswith(network)]
    known = [facts.value(name) / unit for name in own for unit in (1, 1e9)]
    known += list(facts.challenge().top5_error)
    for text in numbers:
        number, digits = float(text.replace(",", "")), len(text.partition(".")[2])
        assert any(round(value, digits) == number for value in known), text


def test_the_numbers_in_the_scoreboards_caption_are_the_facts():
    text = " ".join((ROOT / "chapters" / "scoreboard.md").read_text(encoding="utf-8").split())
    error, macs = (
        [facts.value(f"{key}.{what}") for key in ("vgg16", "resnet50")]
        for what in ("top5_error", "macs")
    )
    assert f"VGG-16, with {macs[0] / 1e9:.1f} billion MACs a view, errs on {error[0]:.1f} %" in text
    assert f"ResNet-50, with {macs[1] / 1e9:.1f} billion, on {error[1]:.1f} % a year later" in text


def test_the_falls_that_the_challenges_caption_names_are_the_facts():
    table = facts.challenge()
    won = table[(table["rank"] == 1) & ~table.outside_data].set_index("year").top5_error
    fall = {year: won[year - 1] - won[year] for year in range(2011, 2018)}
    assert max(fall, key=fall.get) == 2012 and round(fall[2012], 1) == 9.3
    share = {year: fall[year] / won[year - 1] for year in fall}
    assert sorted(share, key=share.get)[-2:] == [2014, 2015] and share[2014] > 0.4 > share[2012]
