"""Submitting speaks the kaggle package's protocol and turns every refusal into one sentence. Loopback only."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import kagglesdk.kaggle_env as kaggle_env
import pytest

from local_eval.__main__ import main
from local_eval.kaggle.submit import kaggle_command

TOKEN = "KGAT_0123456789abcdef_secret"
LOGIN = "security.OAuthService/IntrospectToken"
PUSH = "kernels.KernelsApiService/SaveKernel"
STATUS = "kernels.KernelsApiService/GetKernelSessionStatus"
SUBMIT = "competitions.CompetitionApiService/CreateCodeSubmission"
GOOD = {
    LOGIN: [(200, {"active": True, "username": "someone"})],
    PUSH: [(200, {"ref": "/code/someone/unlearning-fanchuan", "versionNumber": 3, "url": "u"})],
    STATUS: [(200, {"status": "QUEUED"}), (200, {"status": "RUNNING"}), (200, {"status": "COMPLETE"})],
    SUBMIT: [(200, {"message": "Successfully submitted", "ref": 7})],
}


class Kaggle:
    """A server on the loopback address that answers like Kaggle; the last answer to a call is repeated."""

    def __init__(self):
        self.answers = {call: list(answers) for call, answers in GOOD.items()}
        self.asked: list[tuple[str, dict, str]] = []
        kaggle = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                call = self.path.removeprefix("/v1/")
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                kaggle.asked.append((call, body, self.headers.get("Authorization", "")))
                answers = kaggle.answers[call]
                status, content = answers.pop(0) if len(answers) > 1 else answers[0]
                if status >= 400:
                    content = {"code": status, **content}
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(content).encode())

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def calls(self) -> list[str]:
        return [call for call, _, _ in self.asked]


@pytest.fixture
def kaggle(monkeypatch, tmp_path):
    """The made-up Kaggle, to which the kaggle package is pointed, and a token in the environment."""
    server = Kaggle()
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, server.address)
    for name in ("HOME", "KAGGLE_CONFIG_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_KERNEL_RUN_TYPE", "KAGGLE_API_ENVIRONMENT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    yield server
    server.server.shutdown()
    server.server.server_close()


def submit(*more: str) -> int:
    return main(["submit", "fanchuan", "--poll-seconds", "0.01", *more])


def test_it_pushes_waits_and_submits_the_version_that_was_pushed(kaggle, capsys):
    assert submit("--message", "a try") == 0
    calls = kaggle.calls()
    assert [c for k, c in enumerate(calls) if c not in calls[:k]] == [LOGIN, PUSH, STATUS, SUBMIT]
    assert calls.count(STATUS) == 3
    asked = {call: body for call, body, _ in kaggle.asked}
    assert asked[PUSH]["slug"] == "someone/unlearning-fanchuan"
    assert asked[PUSH]["isPrivate"] is True
    assert asked[PUSH]["enableGpu"] is True
    assert asked[PUSH]["enableInternet"] is False
    assert asked[PUSH]["machineShape"] == "NvidiaTeslaT4"
    assert asked[PUSH]["competitionDataSources"] == ["neurips-2023-machine-unlearning"]
    assert "def unlearning(net" in asked[PUSH]["text"]
    assert asked[SUBMIT] == {
        "competitionName": "neurips-2023-machine-unlearning",
        "fileName": "submission.zip",
        "kernelOwner": "someone",
        "kernelSlug": "unlearning-fanchuan",
        "kernelVersion": 3,
        "submissionDescription": "a try",
    }
    said = capsys.readouterr().out
    assert "running" in said
    assert "Successfully submitted" in said
    assert f"{kaggle_command()} competitions submissions neurips-2023-machine-unlearning\n" in said


def test_kaggles_command_is_named_as_it_can_be_called_from_here(monkeypatch, tmp_path):
    folder, elsewhere = tmp_path / "my env" / "bin", tmp_path / "elsewhere"
    folder.mkdir(parents=True)
    elsewhere.mkdir()
    (folder / "kaggle").write_text("#!/bin/sh\n")
    (folder / "kaggle").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    for path, here, expected in (
        ("/nowhere", tmp_path / "my env" / "bin" / "..", "bin/kaggle"),
        ("/nowhere", tmp_path, "'my env/bin/kaggle'"),
        ("/nowhere", elsewhere, f"'{folder}/kaggle'"),
        (str(folder), elsewhere, "kaggle"),
    ):
        monkeypatch.setenv("PATH", path)
        monkeypatch.chdir(here)
        assert kaggle_command() == expected
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert kaggle_command() == "kaggle", "where it lies is not known"


REFUSALS = {
    "expired token": (LOGIN, 200, {"active": False}, "expired or revoked"),
    "token refused at the login": (LOGIN, 401, {"message": "Unauthenticated"}, "expired or revoked"),
    "token expires before the push": (PUSH, 401, {"message": "Unauthenticated"}, "expired or revoked"),
    "rules, at the push": (PUSH, 403, {"message": "Permission denied"}, "accept the competition's rules at https"),
    "rules, source dropped": (PUSH, 200, {"invalidCompetitionSources": ["x"]}, "accept the competition's rules"),
    "push refused": (PUSH, 200, {"error": "Maximum batch GPU session count of 2 reached."}, "session count of 2"),
    "failed kernel": (STATUS, 200, {"status": "ERROR", "failureMessage": "Out of memory"}, "failed on Kaggle: Out of"),
    "cancelled kernel": (STATUS, 200, {"status": "CANCEL_ACKNOWLEDGED"}, "was cancelled on Kaggle"),
    "rules, at the submission": (SUBMIT, 403, {"message": "Forbidden"}, "accept the competition's rules"),
    "closed": (SUBMIT, 400, {"message": "The submission deadline has passed."}, "the competition is closed"),
    "not there": (SUBMIT, 404, {"message": "Not found"}, "closed or not there"),
    "quota": (SUBMIT, 400, {"message": "Daily limit reached."}, "answered 400 to the submission: Daily limit reached"),
    "fault": (STATUS, 500, {"message": "Internal"}, "answered 500"),
}


def test_every_refusal_is_one_clear_sentence_without_the_token(kaggle, capsys):
    for case, (call, status, content, reported) in REFUSALS.items():
        kaggle.asked.clear()
        kaggle.answers = {name: list(answers) for name, answers in GOOD.items()} | {call: [(status, content)]}
        assert submit() == 1, case
        said = capsys.readouterr()
        (line,) = said.err.strip().splitlines()
        assert reported in line, case
        assert line.endswith("."), case
        assert TOKEN not in said.out + said.err, case
        assert call == SUBMIT or SUBMIT not in kaggle.calls(), case


def test_without_a_token_nothing_is_asked(kaggle, monkeypatch, capsys):
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    assert submit() == 1
    said = capsys.readouterr()
    assert f"No Kaggle token was found: run `{kaggle_command()} auth login`" in said.err
    assert said.out == ""
    assert kaggle.asked == []


def test_a_short_fault_while_waiting_is_sat_out(kaggle):
    kaggle.answers[STATUS] = [(500, {"message": "x"}), (200, {"status": "RUNNING"}), (200, {"status": "COMPLETE"})]
    assert submit() == 0
    assert kaggle.calls()[-1] == SUBMIT


def test_waiting_ends_in_time(kaggle, capsys):
    kaggle.answers[STATUS] = [(200, {"status": "RUNNING"})]
    assert submit("--wait-hours", "0.00001") == 1
    assert "still running" in capsys.readouterr().err


def test_an_unreachable_kaggle_is_told(kaggle, monkeypatch, capsys):
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, "http://127.0.0.1:9")
    assert submit() == 1
    assert "could not be reached" in capsys.readouterr().err


def test_the_token_is_sent_to_kaggle_alone_and_written_nowhere(kaggle, tmp_path):
    assert submit() == 0
    sent = {call: header for call, _, header in kaggle.asked}
    assert sent[SUBMIT] == f"Bearer {TOKEN}"
    assert all(TOKEN not in json.dumps(body) for call, body, _ in kaggle.asked if call != LOGIN)
    assert all(TOKEN not in file.read_text() for file in tmp_path.rglob("*") if file.is_file())


def test_a_dry_run_shows_every_call_and_sends_nothing(kaggle, monkeypatch, capsys):
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    assert submit("--dry-run") == 0
    said = capsys.readouterr().out
    for call in ("authenticate", "kernels_push", "kernels_status", "competition_submit_code", "NvidiaTeslaT4"):
        assert call in said
    assert kaggle.asked == []


def test_an_exported_folder_can_be_pushed_as_it_is(kaggle, tmp_path):
    assert main(["export", "fanchuan", "--out", str(tmp_path)]) == 0
    from local_eval.kaggle.submit import log_in, push

    assert push(log_in()[0], tmp_path / "fanchuan") == 3
