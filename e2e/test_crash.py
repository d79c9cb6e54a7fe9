"""A short run of the crash harness; `make crash` does the whole."""
import crash


def test_no_acknowledged_line_is_lost_or_doubled_by_kills(tmp_path):
    assert crash.run(rounds=6, seed=3, data_dir=tmp_path)
