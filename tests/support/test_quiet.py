import warnings
from contextlib import suppress

from transformers.utils import logging

from caplab.support.quiet import quiet


def test_quiet_ends_even_after_a_failure():
    before = logging.get_verbosity()
    with suppress(KeyError), warnings.catch_warnings(record=True) as heard, quiet():
        warnings.warn("loud", stacklevel=1)
        assert logging.get_verbosity() == logging.ERROR
        assert not logging.is_progress_bar_enabled()
        raise KeyError
    assert not heard
    assert logging.get_verbosity() == before != logging.ERROR
