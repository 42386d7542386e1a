"""The atlas of the course, by a formula."""

import pretend
import pytest

from caplab.exploring.atlas_bands import AtlasBands


@pytest.fixture(scope="session")
def atlas(root):
    return pretend.course(root, noise=0.1)


@pytest.fixture(scope="session")
def bands(atlas):
    return AtlasBands(atlas)
