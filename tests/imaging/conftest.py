"""The tiny cine in the form of three vendors, for all tests of what archives export."""

from __future__ import annotations

import pytest

from tests.kit import tiny_dicom as kit


@pytest.fixture(params=kit.VENDORS)
def images(request: pytest.FixtureRequest) -> kit.Images:
    """The tiny cine as Siemens, Philips and GE write it, with a frame of reference."""
    return kit.vendor_images(request.param)


@pytest.fixture(params=kit.VENDORS)
def few_images(request: pytest.FixtureRequest) -> kit.Images:
    """The least cine: 4 slices of 8 phases."""
    return kit.vendor_images(request.param, kit.Shape(slices=4, phases=8))
