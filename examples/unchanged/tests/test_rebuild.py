"""A suite that knows nothing of filesystems."""

import os

import rebuild

START = 1_700_000_000_000_000_000
MILLISECOND = 1_000_000


def write(path, text, time):
    path.write_text(text)
    os.utime(path, ns=(time, time))


def test_what_is_missing_is_copied(tmp_path):
    write(tmp_path / "source", "one", START)
    assert rebuild.update(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target").read_text() == "one"


def test_what_is_up_to_date_is_left_alone(tmp_path):
    write(tmp_path / "source", "one", START)
    rebuild.update(tmp_path / "source", tmp_path / "target")
    assert not rebuild.update(tmp_path / "source", tmp_path / "target")


def test_a_file_that_was_saved_twice_within_a_second_is_copied_twice(tmp_path):
    write(tmp_path / "source", "one", START)
    rebuild.update(tmp_path / "source", tmp_path / "target")
    write(tmp_path / "source", "two", START + 5 * MILLISECOND)
    assert rebuild.update(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target").read_text() == "two"
