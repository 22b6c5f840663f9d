"""Labels: a bounded set."""

from service.metric_labels import OTHER, Labels


def test_labels_beyond_the_limit_are_other_and_base_has_room():
    labels = Labels(2)
    assert [labels.of(label) for label in ("a@1", "b@1", "c@1", "base", "a@1", "c@1")] == [
        "a@1",
        "b@1",
        OTHER,
        "base",
        "a@1",
        OTHER,
    ]


def test_ten_thousand_labels_make_no_more_than_the_limit():
    labels = Labels(100)
    assert len({labels.of(f"mask@{number}") for number in range(10_000)}) == 101
