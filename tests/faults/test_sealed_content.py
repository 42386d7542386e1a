"""A seal says that a file is as it was written, not that it makes sense: one sentence says so."""

import copy
import json
from dataclasses import replace

import pytest
from bench import Bench
from drill import fault

import caplab as cl
from caplab.support.errors import BadInput
from caplab.support.files import read_sealed, write_sealed

ODD = [
    None,
    True,
    -1,
    2.5,
    10**400,
    float("nan"),
    float("inf"),
    "x",
    "",
    [],
    [1],
    [[]],
    {},
    "\ud800",
]


def card(path):
    """Read a scorecard, and do with it what people do."""
    found = cl.Scorecard.load(path)
    _ = repr(found), found._repr_html_(), found.to_pandas(), found.smooth, found.accuracy_norm
    _ = found.language_loss, repr(cl.compare(found, found))


def run(path):
    """Read a run, and do with it what people do."""
    found = cl.Run.load(path.parent)
    _ = repr(found), found._repr_html_(), found.to_pandas()
    cl.plots.run(found)


def report(path):
    """Read a report, and do with it what people do."""
    found = cl.Report.load(path)
    _ = repr(found), found._repr_html_(), found.to_pandas(), found.verdict, found.not_excluded
    found.save(path.with_name("again.json"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One sound file of each kind."""
    folder = tmp_path_factory.mktemp("sealed")
    at = Bench(folder)
    at.card.save(folder / "card.json")
    at.run.save(folder / "run")
    cl.compare(at.card, at.card).save(folder / "report.json")
    return folder


KINDS = {
    "card": (card, "card.json"),
    "run": (run, "run/run.json"),
    "report": (report, "report.json"),
}


def places(value, path=()):
    """Every place in a file's content, of long lists the first two."""
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    if isinstance(value, list):
        for number, item in enumerate(value[:2]):
            yield from places(item, (*path, number))


def spoiled(content, path, odd):
    """The content with something else in one place."""
    content = copy.deepcopy(content)
    inside = content
    for step in path[:-1]:
        inside = inside[step]
    inside[path[-1]] = odd
    return content


@fault("a sealed file holds what nobody would write, in any place", "one sentence, no traceback")
@pytest.mark.parametrize("kind", KINDS)
def test_odd_content_ends_in_a_sentence(kind, folder):
    use, name = KINDS[kind]
    path = folder / name
    kept, content, refused = path.read_bytes(), read_sealed(path, kind), 0
    try:
        for place in list(places(content))[1:]:
            for odd in ODD[hash(place) % 2 :: 2]:  # half of them: some 600 files
                refused += _refuses(use, path, spoiled(content, place, odd))
    finally:
        path.write_bytes(kept)
    assert refused > 100
    use(path)


def _refuses(use, path, content):
    """Use a file with this content: it works, or ends in one sentence."""
    try:
        write_sealed(path, content)
    except (ValueError, TypeError):  # not even JSON
        return False
    try:
        use(path)
    except BadInput as error:
        said = str(error)
    else:
        return False
    assert len(said) < 600
    assert "\n" not in said
    return True


@fault("a file of another kind has a right seal", "it is said what it is not")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", KINDS)
def test_another_kind_of_file(kind, other, folder, tmp_path):
    if kind == other:
        return
    use, name = KINDS[kind]
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes((folder / KINDS[other][1]).read_bytes())
    if kind == "run":
        (path.parent / "before.json").write_bytes((folder / "run" / "before.json").read_bytes())
    with pytest.raises(BadInput, match=r"is not a|is no"):
        use(path)


LIKELIER = {
    "likelier than certain": {"loglikelihoods": ((0.5, -1.0),)},
    "infinitely likely": {"loglikelihoods": ((float("inf"), -1.0),)},
    "a text of negative loss": {"text_losses": ((-3.0, 2),)},
    "half a character": {"capability": ("\ud800",)},
}


@fault("answers that no model can give", "refused where they are read, or made by hand")
@pytest.mark.parametrize("kind", LIKELIER)
def test_impossible_answers(kind, at):
    (name, values), size = next(iter(LIKELIER[kind].items())), len(at.card.answer)
    with pytest.raises(BadInput, match=f"among its {name}"):
        replace(at.card, **{name: values + getattr(at.card, name)[1:size]})


@fault("a sum of logarithms that rounding lifts above 0", "accepted")
def test_rounding_is_no_lie(at):
    first = (1e-8, *at.card.loglikelihoods[0][1:])
    assert replace(at.card, loglikelihoods=(first, *at.card.loglikelihoods[1:]))


@fault("a samples file with positive log-likelihoods", "refused")
def test_impossible_samples(at):
    row = {
        "doc_id": 0, "target": "0", "arguments": [["1+1?", " 2"], ["1+1?", " 3"]],
        "filtered_resps": [["3.5", "False"], ["-2", "False"]], "metrics": ["acc"], "acc": 1.0,
    }  # fmt: skip
    path = at.file(json.dumps(row))
    with pytest.raises(BadInput, match="loglikelihoods"):
        cl.scorecard_from_lm_eval(path)
