"""Every target of a stream is scored exactly once, in order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalcore.data import DataError, plan_windows
from evalcore.measure.batch_run import batches


@given(st.integers(2, 400), st.integers(1, 64), st.data())
def test_every_target_is_scored_exactly_once(n_tokens, seq_len, data):
    stride = data.draw(st.integers(1, seq_len))
    windows = plan_windows(n_tokens, seq_len, stride)
    scored = [target for w in windows for target in range(w.start + w.skip + 1, w.stop + 1)]
    assert scored == list(range(1, n_tokens))
    assert all(w.start == k * stride and 0 < w.length <= seq_len and w.targets > 0 for k, w in enumerate(windows))
    assert all(w.length == seq_len for w in windows[:-1])


@given(st.integers(2, 400), st.integers(1, 64), st.integers(1, 9), st.data())
def test_batches_hold_windows_of_one_shape_in_order(n_tokens, seq_len, batch_size, data):
    windows = plan_windows(n_tokens, seq_len, data.draw(st.integers(1, seq_len)))
    groups = list(batches(windows, batch_size))
    assert [w for group in groups for w in group] == windows
    assert all(len(group) <= batch_size and len({(w.length, w.skip) for w in group}) == 1 for group in groups)


@pytest.mark.parametrize(
    ("n_tokens", "seq_len", "stride"), [(1, 8, None), (0, 8, None), (10, 0, None), (10, 8, 9), (10, 8, 0)]
)
def test_impossible_windows_are_refused(n_tokens, seq_len, stride):
    with pytest.raises(DataError):
        plan_windows(n_tokens, seq_len, stride)
