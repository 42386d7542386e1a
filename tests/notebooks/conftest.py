"""What the tests that run notebooks share."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from caplab.models import cores


@pytest.fixture(scope="module")
def ended(request: pytest.FixtureRequest) -> Iterator[dict[Path, Future[Any]]]:
    """Let the module `run` its notebooks side by side, one on each core; say what came of each."""
    mine = [item for item in request.session.items if item.path == request.path]
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(cores()) as pool:
        patch.setenv("OMP_NUM_THREADS", "1")  # kernels that share cores must not share them out
        yield {path: pool.submit(request.module.run, path) for path in map(_path, mine)}
        pool.shutdown(cancel_futures=True)  # what nobody will ask for after a failure


def _path(item: Any) -> Path:
    return item.callspec.params["path"]
