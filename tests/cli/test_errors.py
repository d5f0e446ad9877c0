"""What the machine is out of is told in one line; other errors of the system keep their traceback."""

import errno
import os

import pytest

from local_eval import __main__ as command
from local_eval.store.errors import said_by_the_machine


def test_what_the_machine_is_out_of_is_one_sentence():
    said = said_by_the_machine(OSError(errno.EMFILE, os.strerror(errno.EMFILE), "/data/0001.npz"))
    assert said.startswith("Too many open files: /data/0001.npz. What was finished is kept; ")
    assert said_by_the_machine(FileNotFoundError(errno.ENOENT, "No such file", "x")) is None
    assert said_by_the_machine(OSError("odd")) is None


@pytest.mark.parametrize("number, reported", [(errno.ENFILE, True), (errno.ENOENT, False)])
def test_a_command_tells_it_and_ends_with_1(number, reported, monkeypatch, capsys):
    def fails(_):
        raise OSError(number, os.strerror(number), "here")

    monkeypatch.setattr(command, "_function", lambda _: fails)
    if reported:
        assert command.main(["list"]) == 1
        assert capsys.readouterr().err.startswith("error: Too many open files in system: here. ")
    else:
        with pytest.raises(FileNotFoundError):
            command.main(["list"])
