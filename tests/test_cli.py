"""The command line: what it prints and how it exits.

The kernel has no part in this: the functions of `topo.api` are replaced by ones that return or raise what a test puts
in. What they really do is tested elsewhere, and the whole of it in the live tier.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from topo import api
from topo.changes import CREATE, DELETE, UPDATE, Change, Op
from topo.cli.main import run
from topo.cli.progress import Progress
from topo.engine.check import CheckResult
from topo.errors import (
    ApplyError,
    CycleError,
    Diagnostic,
    InputError,
    KernelError,
    LockError,
    OwnershipError,
    StaleError,
    TopoError,
    UnsupportedError,
    VerifyError,
)
from topo.facts import Check, Desired, Fact, Ref, link, namespace
from topo.planning.plan import Plan, SavedPlan

ROOT = Path(__file__).parents[1]
LAB = "topology: lab\nnamespaces:\n  web: {}\nlinks:\n  - [web:eth0, v0]\n"
HEAVY = ("pydantic", "pyroute2", "networkx", "ruamel", "deepdiff", "rich", "topo.file", "topo.kernel", "topo.planning")


@pytest.fixture
def lab(tmp_path: Path) -> str:
    path = tmp_path / "lab.yaml"
    path.write_text(LAB)
    return str(path)


def created(number: int) -> Change:
    fact = Fact(namespace(f"n{number}"), {"up": True})
    return Change(CREATE, fact.ref, fact, None)


def mtu(live: int, desired: int) -> Change:
    ref = link("web", "eth0")
    return Change(UPDATE, ref, Fact(ref, {"mtu": desired}), Fact(ref, {"mtu": live, "kind": "veth"}), ("mtu",))


def deleted(ns: str) -> Change:
    fact = Fact(namespace(ns), {"up": True})
    return Change(DELETE, fact.ref, None, fact, reason="not in the file")


def a_plan(*changes: Change, warnings: tuple[str, ...] = ()) -> Plan:
    return Plan("lab", changes, Desired("lab", {}, document={"topology": "lab"}), warnings)


def a_report(*changes: Change, warnings: tuple[str, ...] = ()) -> api.Report:
    return api.Report(a_plan(*changes, warnings=warnings), 0.0789)


class Calls(list[tuple[tuple[Any, ...], dict[str, Any]]]):
    """What a replaced function was called with."""


@pytest.fixture
def replace(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Calls]:
    """replace("apply", result) lets `topo.api.apply` return that, or raise it where it is an exception."""

    def put(name: str, result: object) -> Calls:
        calls = Calls()

        def fake(*args: Any, **options: Any) -> object:
            calls.append((args, options))
            if isinstance(result, BaseException):
                raise result
            return result

        monkeypatch.setattr(api, name, fake)
        return calls

    return put


Replace = Callable[..., Calls]
Capture = pytest.CaptureFixture[str]


def said(capsys: Capture, *arguments: str) -> tuple[int, str, str]:
    code = run(arguments)
    out, err = capsys.readouterr()
    return code, out, err


def document(capsys: Capture, *arguments: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the one document of a run with --output json."""
    code, out, _ = said(capsys, *arguments, "--output", "json")
    found: dict[str, Any] = json.loads(out)
    assert found["format"] == 1
    return code, found


# plans


def test_diff_shows_the_plan_and_exits_1(capsys: Capture, replace: Replace, lab: str) -> None:
    calls = replace("plan", a_plan(created(1), mtu(1500, 9000), deleted("old")))
    code, out, err = said(capsys, "diff", lab)
    assert code == 1
    assert out.splitlines()[0] == "lab: 1 to create, 1 to change, 1 to delete"
    assert [line.split()[:3] for line in out.splitlines()[1:]] == [
        ["+", "namespace", "n1"],
        ["~", "link", "web:eth0"],
        ["-", "namespace", "old"],
    ]
    assert "mtu 1500 -> 9000" in out
    assert err == ""
    assert calls[0][1] == {"adopt": False}


def test_diff_without_differences_exits_0(capsys: Capture, replace: Replace, lab: str) -> None:
    replace("plan", a_plan())
    assert said(capsys, "diff", lab) == (0, "lab: nothing to do\n", "")


def test_a_long_plan_is_cut_and_its_warnings_are_not(capsys: Capture, replace: Replace, lab: str) -> None:
    replace("plan", a_plan(*map(created, range(6000)), warnings=("this cuts you off",)))
    _, out, _ = said(capsys, "diff", lab)
    assert len(out.splitlines()) == 43
    assert "  ... and 5,960 more; --verbose shows all" in out.splitlines()
    assert out.splitlines()[-1] == "  warning: this cuts you off"
    _, out, _ = said(capsys, "diff", lab, "--verbose")
    assert len(out.splitlines()) == 6002


def test_diff_as_json(capsys: Capture, replace: Replace, lab: str) -> None:
    replace("plan", a_plan(created(1)))
    code, found = document(capsys, "diff", lab)
    assert (code, found["kind"], found["topology"]) == (1, "plan", "lab")
    assert [change["action"] for change in found["changes"]] == ["create"]


def test_a_saved_plan_is_what_apply_takes(capsys: Capture, replace: Replace, lab: str, tmp_path: Path) -> None:
    replace("plan", a_plan(created(1)))
    path = tmp_path / "plan.json"
    code, out, err = said(capsys, "plan", lab, "-o", str(path))
    assert (code, err) == (0, f"topo: saved: topo apply {path}\n")
    assert out.startswith("lab: 1 to create\n")
    calls = replace("apply", a_report(created(1)))
    assert said(capsys, "apply", str(path))[0] == 0
    saved = calls[0][0][0]
    assert isinstance(saved, SavedPlan)
    assert saved.fingerprint == a_plan(created(1)).fingerprint()


def test_a_saved_plan_from_stdin(capsys: Capture, replace: Replace, lab: str, monkeypatch: pytest.MonkeyPatch) -> None:
    replace("plan", a_plan(created(1)))
    _, out, _ = said(capsys, "plan", lab, "-o", "-")
    calls = replace("apply", a_report())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(out.encode())))
    assert said(capsys, "apply", "-")[0] == 0
    assert isinstance(calls[0][0][0], SavedPlan)


def test_a_saved_plan_can_be_looked_at(capsys: Capture, replace: Replace, lab: str, tmp_path: Path) -> None:
    replace("plan", a_plan(created(1)))
    path = str(tmp_path / "plan.json")
    said(capsys, "plan", lab, "-o", path)
    code, out, _ = said(capsys, "apply", "--dry-run", path)
    assert (code, out.splitlines()[0]) == (0, "lab: 1 to create")


def test_a_damaged_plan_is_refused(capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text('{"format": 1, "kind": "plan", "topology": "lab"}')
    code, out, err = said(capsys, "apply", str(path))
    assert (code, out) == (2, "")
    assert err.startswith("topo: this plan is damaged")


def test_a_plan_that_cannot_be_written(capsys: Capture, replace: Replace, lab: str, tmp_path: Path) -> None:
    replace("plan", a_plan(created(1)))
    code, out, err = said(capsys, "plan", lab, "-o", str(tmp_path / "no" / "plan.json"))
    assert (code, out) == (2, "")
    assert "No such file or directory" in err


def test_a_topology_in_json_is_no_plan(capsys: Capture, replace: Replace, tmp_path: Path) -> None:
    path = tmp_path / "lab.json"
    path.write_text('{"topology": "lab", "namespaces": {"web": {}}}')
    calls = replace("apply", a_report())
    assert said(capsys, "apply", str(path))[0] == 0
    assert calls[0][0][0].topology == "lab"


# applying and destroying


def test_apply_counts_what_is_new_and_names_what_was_there(capsys: Capture, replace: Replace, lab: str) -> None:
    calls = replace("apply", a_report(created(1), created(2), mtu(1500, 9000), deleted("old"), warnings=("beware",)))
    code, out, err = said(capsys, "apply", lab, "--adopt", "--keep")
    assert (code, err) == (0, "")
    change, deletion, warning, result = out.splitlines()
    assert change.split() == ["~", "link", "web:eth0", "mtu", "1500", "->", "9000"]
    assert deletion.split() == ["-", "namespace", "old"]
    assert warning == "  warning: beware"
    assert result == "lab: applied: 2 created, 1 changed, 1 deleted in 0.08 s"
    assert (calls[0][1]["adopt"], calls[0][1]["keep"]) == (True, True)


def test_apply_verbosely_names_all(capsys: Capture, replace: Replace, lab: str) -> None:
    replace("apply", a_report(created(1), created(2)))
    assert said(capsys, "apply", lab)[1] == "lab: applied: 2 created, 0 changed, 0 deleted in 0.08 s\n"
    assert len(said(capsys, "apply", lab, "-v")[1].splitlines()) == 3


def test_apply_with_nothing_to_do(capsys: Capture, replace: Replace, lab: str) -> None:
    replace("apply", a_report())
    assert said(capsys, "apply", lab) == (0, "lab: nothing to do (0.08 s)\n", "")


def test_apply_as_json(capsys: Capture, replace: Replace, lab: str) -> None:
    replace("apply", a_report(created(1)))
    code, found = document(capsys, "apply", lab)
    assert code == 0
    assert {name: found[name] for name in ("kind", "topology", "result", "changed", "seconds")} == {
        "kind": "result",
        "topology": "lab",
        "result": "applied",
        "changed": True,
        "seconds": 0.079,
    }
    assert found["summary"]["create"] == 1
    assert len(found["changes"]) == 1


def test_a_dry_run_only_plans(capsys: Capture, replace: Replace, lab: str) -> None:
    replace("plan", a_plan(created(1)))
    calls = replace("apply", a_report())
    code, out, _ = said(capsys, "apply", "--dry-run", lab)
    assert (code, out.splitlines()[0], calls) == (0, "lab: 1 to create", [])


def test_several_files_are_one_topology(capsys: Capture, replace: Replace, lab: str, tmp_path: Path) -> None:
    more = tmp_path / "more.yaml"
    more.write_text("namespaces:\n  db: {}\n")
    calls = replace("apply", a_report())
    assert said(capsys, "apply", lab, str(more))[0] == 0
    assert list(calls[0][0][0].namespaces) == ["web", "db"]


def test_a_topology_from_stdin(capsys: Capture, replace: Replace, monkeypatch: pytest.MonkeyPatch) -> None:
    for command, function in (("apply", "apply"), ("diff", "plan"), ("destroy", "destroy")):
        calls = replace(function, a_plan() if function == "plan" else a_report())
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(LAB.encode())))
        assert said(capsys, command, "-")[0] == 0
        assert calls[0][0][0].topology == "lab"


def test_destroy_takes_a_name_or_a_file(capsys: Capture, replace: Replace, lab: str) -> None:
    calls = replace("destroy", a_report(deleted("web")))
    code, out, _ = said(capsys, "destroy", "lab")
    assert (code, out) == (0, "lab: destroyed: 1 deleted in 0.08 s\n")
    assert calls[0][0] == ("lab",)
    assert said(capsys, "destroy", lab)[0] == 0
    assert calls[1][0][0].topology == "lab"


def test_destroy_takes_one_topology_at_a_time(capsys: Capture, replace: Replace, lab: str) -> None:
    calls = replace("destroy", a_report())
    for arguments in (("a", "b"), ("lab", lab)):
        code, _, err = said(capsys, "destroy", *arguments)
        assert (code, "one topology at a time" in err) == (2, True)
    assert calls == []


# what is there


APPLIED = "applied"


def test_list(capsys: Capture, replace: Replace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    replace(
        "applied",
        [api.Applied("lab", 12, 1200, 1_700_000_000.0, APPLIED), api.Applied("a-2", 1, 2, 0.0, "interrupted")],
    )
    code, out, err = said(capsys, "list")
    assert (code, err) == (0, "")
    assert [line.split()[:4] for line in out.splitlines()] == [
        ["NAME", "STATE", "NAMESPACES", "LINKS"],
        ["lab", "applied", "12", "1,200"],
        ["a-2", "interrupted", "1", "2"],
    ]
    code, found = document(capsys, "list")
    assert [item["name"] for item in found["topologies"]] == ["lab", "a-2"]
    assert found["topologies"][0]["applied_at"] == 1_700_000_000.0


def test_list_of_nothing(capsys: Capture, replace: Replace) -> None:
    replace("applied", [])
    assert said(capsys, "list") == (0, "", "topo: no topology is applied on this host\n")
    assert document(capsys, "list")[1]["topologies"] == []


def shown(*drift: Change) -> api.Shown:
    applied = api.Applied("lab", 1, 2, 1_700_000_000.0, APPLIED)
    return api.Shown("lab", applied, Desired("lab", {}), a_plan(*drift), {"web": "/run/netns/web"})


def test_show(capsys: Capture, replace: Replace) -> None:
    replace("show", shown())
    code, out, _ = said(capsys, "show", "lab")
    assert code == 0
    assert out.splitlines()[0].startswith("lab: applied")
    assert out.splitlines()[1].split() == ["web", "/run/netns/web"]
    assert out.splitlines()[-1].startswith("no drift")


def test_show_with_drift(capsys: Capture, replace: Replace) -> None:
    replace("show", shown(mtu(1400, 1500)))
    assert "mtu 1400 -> 1500" in said(capsys, "show", "lab")[1]
    code, found = document(capsys, "show", "lab")
    assert (code, found["kind"], found["state"], found["paths"]) == (0, "topology", APPLIED, {"web": "/run/netns/web"})
    assert len(found["drift"]) == 1


def results(*passed: bool) -> list[CheckResult]:
    check = Check("web", "ping", "10.0.0.1", 0, "reachable", 5.0, "web: ping db")
    outcome = {True: "reachable", False: "blocked"}
    return [
        CheckResult(check, good, outcome[good], "answered" if good else "no answer within 5 s", 0.1) for good in passed
    ]


def test_checks(capsys: Capture, replace: Replace, lab: str) -> None:
    replace("check", results(True, False))
    code, out, _ = said(capsys, "check", lab)
    assert code == 1
    assert out.splitlines() == [
        "ok    web: ping db  reachable: answered (0.10 s)",
        "FAIL  web: ping db  blocked: no answer within 5 s, expected reachable (0.10 s)",
        "lab: 1 of 2 checks failed",
    ]
    calls = replace("check", results(True))
    code, out, _ = said(capsys, "check", "lab")
    assert (code, out.splitlines()[-1], calls[0][0]) == (0, "lab: 1 check passed", ("lab",))


def test_checks_as_json(capsys: Capture, replace: Replace) -> None:
    replace("check", results(True, False))
    code, found = document(capsys, "check", "lab")
    assert (code, found["kind"], found["passed"]) == (1, "checks", False)
    assert found["checks"][1]["from"] == "web"
    assert [check["passed"] for check in found["checks"]] == [True, False]


def test_validate(capsys: Capture, lab: str) -> None:
    assert said(capsys, "validate", lab) == (0, "lab: valid\n", "")
    assert document(capsys, "validate", lab) == (
        0,
        {"format": 1, "kind": "validation", "topology": "lab", "valid": True},
    )


def test_validate_says_everything_that_is_wrong(capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("topology: lab\nnamespacse: {}\nlinks: 3\n")
    code, out, err = said(capsys, "validate", str(path))
    assert (code, out) == (2, "")
    assert f"{path}:2:1: " in err
    assert f"{path}:3:8: " in err
    assert err.splitlines()[-1] == "topo: 2 errors; nothing was touched"
    code, found = document(capsys, "validate", str(path))
    assert (code, found["kind"], found["error"], found["exit_code"]) == (2, "error", "InputError", 2)
    assert [(d["line"], d["column"]) for d in found["diagnostics"]] == [(2, 1), (3, 8)]


def test_graph(capsys: Capture, lab: str) -> None:
    code, out, _ = said(capsys, "graph", lab)
    assert (code, out.splitlines()[0]) == (0, "graph LR")
    assert said(capsys, "graph", lab, "--format", "dot")[1].startswith('graph "lab" {')
    found = document(capsys, "graph", lab)[1]
    assert (found["kind"], found["language"], found["text"]) == ("graph", "mermaid", out)


def test_schema(capsys: Capture) -> None:
    code, out, _ = said(capsys, "schema")
    assert (code, json.loads(out)["type"]) == (0, "object")


@pytest.mark.parametrize("target", ["lab", ":web", "lab:", ":"])
def test_exec_wants_a_place(capsys: Capture, target: str) -> None:
    code, _, err = said(capsys, "exec", target, "true")
    assert (code, "NAME:NS" in err) == (2, True)


# errors

REF = link("web", "eth0")
OP = Op(CREATE, REF, Fact(REF, {}), None)
ERRORS: list[tuple[TopoError, int, str]] = [
    (InputError("the call is wrong"), 2, "topo: the call is wrong"),
    (CycleError([link("host", "br0"), link("host", "v0")]), 2, "topo: these need each other: link br0 -> link v0"),
    (StaleError("the live state has moved on"), 2, "topo: the live state has moved on"),
    (OwnershipError([(link("host", "br0"), "a bridge")]), 2, "topo: link br0 is there already: a bridge"),
    (LockError("pid 7 has the lock"), 3, "topo: pid 7 has the lock"),
    (UnsupportedError("apply needs CAP_NET_ADMIN"), 5, "topo: apply needs CAP_NET_ADMIN"),
    (
        KernelError(22, "mtu less than device minimum", REF, "creating"),
        3,
        "topo: creating link web:eth0: Invalid argument",
    ),
    (KernelError(1, "", REF, "creating"), 5, "topo: creating link web:eth0: Operation not permitted"),
    (ApplyError("it failed", failed=[(OP, KernelError(22, "no"))], undone=True), 3, "topo: it failed"),
    (
        ApplyError("it failed", failed=[(OP, KernelError(22, "no"))], undone=False, left=[created(1)]),
        4,
        "topo: it failed",
    ),
    (VerifyError("it still differs", left=[mtu(1500, 9000)]), 3, "topo: it still differs"),
]


@pytest.mark.parametrize(("error", "code", "words"), ERRORS)
def test_every_error_has_its_words_and_exit_code(
    capsys: Capture, replace: Replace, lab: str, error: TopoError, code: int, words: str
) -> None:
    replace("apply", error)
    got, out, err = said(capsys, "apply", lab)
    assert (got, out) == (code, "")
    assert err.startswith(words)
    got, found = document(capsys, "apply", lab)
    assert (got, found["kind"], found["exit_code"], found["message"]) == (code, "error", code, str(error))
    assert found["error"] == type(error).__name__


def test_a_failed_apply_tells_programs_what_failed_and_what_is_left(
    capsys: Capture, replace: Replace, lab: str
) -> None:
    error = ApplyError("it failed", failed=[(OP, KernelError(22, "no such thing"))], undone=False, left=[created(1)])
    replace("apply", error)
    found = document(capsys, "apply", lab)[1]
    ref = ["link", "web", ["eth0"]]
    assert found["undone"] is False
    assert found["failed"] == [{"verb": "create", "ref": ref, "errno": 22, "extack": "no such thing"}]
    assert found["left"] == [["namespace", "n1", []]]


def test_a_name_cannot_write_to_the_terminal(capsys: Capture, replace: Replace, lab: str) -> None:
    ref = Ref("link", "host", ("e\x1b[2Jvil",))
    replace("plan", a_plan(Change(DELETE, ref, None, Fact(ref, {}))))
    assert "\x1b" not in said(capsys, "diff", lab)[1]
    replace("plan", InputError([Diagnostic("what\x1b[2J", "lab.yaml", 1, 1, source="\x1b[2J")]))
    assert "\x1b" not in said(capsys, "diff", lab)[2]


def test_a_mistake_in_topo_is_one_line_and_how_to_report_it(
    capsys: Capture, replace: Replace, lab: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOPO_DEBUG", raising=False)
    replace("apply", ZeroDivisionError("division by zero"))
    code, out, err = said(capsys, "apply", lab)
    assert (code, out) == (3, "")
    assert err.splitlines()[0] == "topo: internal error: ZeroDivisionError: division by zero"
    assert "TOPO_DEBUG=1" in err
    assert "Traceback" not in err
    assert document(capsys, "apply", lab)[1]["error"] == "InternalError"
    monkeypatch.setenv("TOPO_DEBUG", "1")
    assert "Traceback" in said(capsys, "apply", lab)[2]


def test_an_interrupt_exits_130(capsys: Capture, replace: Replace, lab: str) -> None:
    replace("apply", KeyboardInterrupt())
    assert said(capsys, "apply", lab) == (130, "", "topo: interrupted\n")
    code, found = document(capsys, "apply", lab)
    assert (code, found["error"], found["exit_code"]) == (130, "Interrupted", 130)


@pytest.mark.parametrize(
    "arguments", [("aply", "x"), ("apply",), ("diff", "--nonsense", "x"), ("show",), ("graph", "x", "--format", "png")]
)
def test_a_wrong_call_exits_2(capsys: Capture, arguments: tuple[str, ...]) -> None:
    code, out, err = said(capsys, *arguments)
    assert (code, out) == (2, "")
    assert "topo: " in err
    code, found = document(capsys, *arguments)
    assert (code, found["error"], found["exit_code"]) == (2, "UsageError", 2)


def test_commands_of_later_issues_are_not_offered(capsys: Capture) -> None:
    out = said(capsys, "--help")[1]
    assert "apply" in out
    assert "watch" not in out
    assert "import" not in out


# the terminal


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colour_on_a_terminal_only(
    capsys: Capture, replace: Replace, lab: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    replace("plan", a_plan(created(1)))
    assert "\x1b[" not in said(capsys, "diff", lab)[1]
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    assert run(["diff", lab]) == 1
    assert "\x1b[32m" in terminal.getvalue()
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            terminal = Terminal()
            patch.setattr(sys, "stdout", terminal)
            run(["diff", lab])
            assert "\x1b" not in terminal.getvalue()


def test_progress_waits_a_moment_and_wipes_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    with Progress(terminal, delay=60) as progress:
        progress(1, 2, "web")
    assert terminal.getvalue() == ""
    with Progress(terminal, delay=0) as progress:
        progress(500, 1000, "link web:eth0")
    assert "500/1,000 link web:eth0" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_progress_is_for_terminals() -> None:
    stream = io.StringIO()
    with Progress(stream, delay=0) as progress:
        progress(1, 2, "web")
    assert stream.getvalue() == ""


# processes


def topo(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "topo", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, **options
    )


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from topo.cli.main import run; code = run(['--help'])\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[] 0"


def test_the_version() -> None:
    done = topo("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("topo ")
    assert "Linux" in done.stdout


@pytest.mark.parametrize(
    ("words", "position", "answer"),
    [("topo de", 1, "plain,destroy\n"), ("topo do", 1, "plain,doctor\n"), ("topo doctor la", 2, "file,la\n")],
)
def test_the_shell_completes_commands_and_options(words: str, position: int, answer: str) -> None:
    environment = {**os.environ, "_TOPO_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(position)}
    code = "from topo.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout == answer


@pytest.mark.parametrize(
    ("text", "code", "word"),
    [("topology: lab\nnamespaces:\n  web: {}\nlinks: 3\n", 2, "links"), (None, 2, "lab.yaml"), ("", 2, "empty")],
)
def test_the_doctor_of_a_file_that_is_wrong(tmp_path: Path, text: str | None, code: int, word: str) -> None:
    path = tmp_path / "lab.yaml"
    if text is not None:
        path.write_text(text)
    for option in (["-o", "json"], ["--output=json"]):
        done = topo("doctor", str(path), *option)
        document = json.loads(done.stdout)
        assert (done.returncode, document["kind"], document["exit_code"]) == (code, "error", code)
        assert word in document["message"]
    assert topo("doctor", "-o", "xml").returncode == 2


DOCTOR = {
    "yes": (api.Finding("link", "veth", "yes", True), "  yes      veth\n", 0),
    "module": (api.Finding("link", "vlan", "module", True, "8021q"), "  module   vlan: 8021q\n", 0),
    "no": (api.Finding("link", "vrf", "no", True, cure="it takes X"), "  no       vrf (it takes X)\n", 5),
    "unknown": (api.Finding("link", "vrf", "unknown", True, "why"), "  unknown  vrf: why\n", 5),
    "needless": (api.Finding("other", "tcx", "no"), "  no       tcx\n", 0),
}


@pytest.mark.parametrize("name", DOCTOR)
def test_the_doctor_says_and_counts(
    name: str, lab: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finding, line, code = DOCTOR[name]
    monkeypatch.setattr(api, "doctor", lambda topology: api.Diagnosis((finding,)))
    assert run(["doctor", lab]) == code
    assert line in capsys.readouterr().out
    assert run(["doctor", lab, "-o", "json"]) == code
    document = json.loads(capsys.readouterr().out)
    assert (document["topology"], document["sufficient"]) == ("lab", code == 0)
    assert document["findings"] == [finding._asdict()]


def test_the_end_waits_for_threads_and_writes_all(tmp_path: Path) -> None:
    """The process ends without Python's way of ending: what that would have seen to is seen to."""
    code = (
        "import sys, threading, time, pathlib; from topo.cli.main import main\n"
        f"threading.Thread(target=lambda: (time.sleep(0.3), pathlib.Path({str(tmp_path / 'done')!r}).touch())).start()\n"
        "sys.stdout.write('first ')\n"
        "sys.argv[1:] = ['schema']; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("first {") and done.stdout.endswith("}\n")
    assert (tmp_path / "done").exists()


def test_nobody_reads_the_output() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "topo", "schema"], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_no_root_is_told_what_to_do(lab: str) -> None:
    """As somebody without capabilities: setpriv(1) drops them all."""
    done = subprocess.run(
        ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-m", "topo", "apply", lab]
        if os.geteuid() == 0
        else [sys.executable, "-m", "topo", "apply", lab],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (5, "")
    assert "CAP_NET_ADMIN" in done.stderr
    assert "sudo" in done.stderr
