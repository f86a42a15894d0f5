"""Files and folders that are whole or not there, whatever happens while they are written."""

import errno
import os
import time
from pathlib import Path

import pytest
from safetensors import SafetensorError

from uda import files
from uda.errors import UserError
from uda.files import remove, remove_empty, remove_leftovers, write_aside, write_text


def content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def make_folder(text: str):
    def write(aside: Path) -> None:
        (aside / "inner").mkdir(parents=True)
        (aside / "inner/file").write_text(text)

    return write


def test_a_new_folder_replaces_the_old_one_whole(tmp_path: Path) -> None:
    write_aside(tmp_path / "it", make_folder("old"))
    (tmp_path / "it/more").write_text("of the old one")
    write_aside(tmp_path / "it", make_folder("new"))
    assert content(tmp_path) == {"it/inner/file": "new"}


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), UserError),
        (SafetensorError("I/O error: No space left on device (os error 28)"), UserError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (ZeroDivisionError(), ZeroDivisionError),
    ],
)
def test_where_writing_fails_all_is_as_before(tmp_path: Path, error: BaseException, raised: type) -> None:
    write_aside(tmp_path / "folder", make_folder("old"))
    write_text(tmp_path / "file", "old")

    def fail(aside: Path) -> None:
        make_folder("half")(aside)
        raise error

    for name in ("folder", "file"):
        with pytest.raises(raised) as caught:
            write_aside(tmp_path / name, fail)
        if raised is UserError:
            assert f"Expected to be able to write {tmp_path / name}, found: " in str(caught.value)
            assert "No space left on device" in str(caught.value)
            assert "What was written before is whole; make room" in str(caught.value)
    assert content(tmp_path) == {"folder/inner/file": "old", "file": "old"}


def test_two_that_write_a_file_at_once_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one writes all of it between the other's writing and renaming, the one that renames last stays."""
    others = iter(["second"])
    real = os.fsync

    def fsync(descriptor: int) -> None:
        real(descriptor)
        for other in others:
            write_text(tmp_path / "file", other)
            assert content(tmp_path).pop("file") == other

    monkeypatch.setattr("os.fsync", fsync)
    write_text(tmp_path / "file", "first")
    assert content(tmp_path) == {"file": "first"}


def test_a_folder_that_is_interrupted_between_its_two_names_is_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_aside(tmp_path / "it", make_folder("old"))
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if self.name.startswith(".writing-"):
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_aside(tmp_path / "it", make_folder("new"))
    assert content(tmp_path) == {"it/inner/file": "old"}


def test_a_second_interruption_does_not_take_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes while what was written of the new one is deleted."""
    write_aside(tmp_path / "it", make_folder("old"))
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if self.name.startswith(".writing-"):
            monkeypatch.setattr(files, "_delete", interrupted_too)
            raise KeyboardInterrupt
        return rename(self, target)

    def interrupted_too(path: Path) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_aside(tmp_path / "it", make_folder("new"))
    assert (tmp_path / "it/inner/file").read_text() == "old"


def test_what_was_left_of_a_file_goes_when_it_is_old(tmp_path: Path) -> None:
    for name, days in ((".writing-1-[a]", 8), (".writing-2-[a]", 1), (".writing-3-b", 8)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - days * 24 * 3600,) * 2)
    write_text(tmp_path / "[a]", "new")
    assert sorted(content(tmp_path)) == [".writing-2-[a]", ".writing-3-b", "[a]"]


def test_two_that_take_the_same_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_aside(tmp_path / "it", make_folder("x"))
    rename = Path.rename
    second = iter([True])

    def late(self: Path, target: Path) -> Path:
        if any(second):
            remove(self)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", late)
    remove(tmp_path / "it")
    assert not list(tmp_path.iterdir())


def test_two_refused_jobs_take_back_the_same_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "a/b"
    folder.mkdir(parents=True)
    rmdir = Path.rmdir

    def late(self: Path) -> None:
        rmdir(self)  # the other job's
        rmdir(self)

    monkeypatch.setattr(Path, "rmdir", late)
    remove_empty(folder)
    assert not folder.exists()


def test_leftovers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    make_folder("x")(tmp_path / ".writing-a")
    make_folder("x")(tmp_path / ".removing-b")
    (tmp_path / ".writing-c").touch()
    (tmp_path / ".hidden").write_text("mine")
    remove_leftovers(tmp_path)
    assert content(tmp_path) == {".hidden": "mine"}
    assert len(list(tmp_path.iterdir())) == 1
    remove(tmp_path / "nothing there")
