"""A target shows what to reach, and not the answer."""

import targets
from nbformat import from_dict


def solved(text, *tags):
    output = {"output_type": "execute_result", "data": {"text/plain": text}, "metadata": {}}
    return from_dict({"outputs": [output], "metadata": {"tags": list(tags)}})


def test_a_target_is_the_solutions_output():
    assert "\n> 227\n" in targets.target_output(solved("227"))


def test_a_target_that_is_the_answer_is_a_shape():
    said = targets.target_output(solved("227", targets.SHAPE))
    assert "\n> ###\n" in said
    assert "227" not in said
    said = targets.target_output(solved("['ship', 0.25, \"it's\"]", targets.SHAPE))
    assert "['...', #.##, \"...\"]" in said
