import pytest

from tunexfer.core.scores import forgetting


@pytest.mark.parametrize(
    ("before", "after", "percent"),
    [
        (78.84, 76.45, 3.03),  # mBERT, Kinyarwanda before and after Kirundi, as the paper prints it
        (84.98, 80.61, 5.14),  # AfriBERTa
        (50.0, 25.0, 50.0),
        (50.0, 60.0, -20.0),
    ],
)
def test_forgetting_is_the_share_of_a_score_that_is_lost(before: float, after: float, percent: float) -> None:
    assert forgetting(before, after) == pytest.approx(percent, abs=0.005)
