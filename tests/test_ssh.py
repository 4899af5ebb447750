"""A bench over ssh, against an sshd of our own on this machine."""

import getpass
import logging
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny_c
from onnx import TensorProto, helper, numpy_helper

from edgeticket.bench import bench, table
from edgeticket.errors import EdgeTicketError, EquivalenceError, UnsupportedError, UsageError
from edgeticket.targets import on_ssh
from edgeticket.targets.on_ssh import Remote

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
SERVER = """Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/key
AuthorizedKeysFile {folder}/key.pub
PidFile {folder}/pid
PasswordAuthentication no
UsePAM no
StrictModes no
PermitUserEnvironment no
Subsystem sftp internal-sftp
"""
CLIENT = """Host *
IdentityFile {folder}/key
IdentitiesOnly yes
UserKnownHostsFile {folder}/known
StrictHostKeyChecking accept-new
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """(address, folder of wrappers that make ssh and scp use our keys)."""
    tiny_c.need("ssh", "scp", "ssh-keygen", "cc")
    if SSHD is None:
        tiny_c.need("sshd")
    folder, port = tmp_path_factory.mktemp("ssh"), free_port()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key"], check=True)
    (folder / "server").write_text(SERVER.format(port=port, folder=folder))
    (folder / "client").write_text(CLIENT.format(folder=folder))
    (folder / "bin").mkdir()
    for tool in ("ssh", "scp"):
        wrapper = folder / "bin" / tool
        wrapper.write_text(f'#!/bin/sh\nexec {shutil.which(tool)} -F {folder}/client "$@"\n')
        wrapper.chmod(0o755)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where a server started by root wants to lock itself in
    process = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "server"], stderr=subprocess.PIPE)
    for _ in range(100):
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                break
        assert process.poll() is None, process.stderr.read().decode()
        time.sleep(0.05)
    yield f"{getpass.getuser()}@127.0.0.1:{port}", folder / "bin"
    process.terminate()
    process.wait()


@pytest.fixture
def address(server, monkeypatch):
    monkeypatch.setenv("PATH", str(server[1]), prepend=os.pathsep)
    before = left_over()
    yield server[0]
    assert left_over() == before  # whatever happened, nothing stays behind


def left_over() -> set[Path]:
    return set(Path("/tmp").glob("edgeticket.??????"))  # noqa: S108 (where on_ssh puts it)


def model(path: Path, width: int) -> Path:
    weight = np.ones((width, 1, 1, 1), np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 6, 6])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, width, 1, 1])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(weight, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7), path)
    return path


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("board", ("board", None, "python3")),
        ("me@board.local:2222", ("me@board.local", 2222, "python3")),
        ("me@[fe80::1]:22/opt/env-1/bin/python", ("me@[fe80::1]", 22, "/opt/env-1/bin/python")),
    ],
)
def test_addresses(address, expected):
    assert Remote.parse(address, 1) == Remote(*expected, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        "-oProxyCommand=touch x",
        "me@-oProxyCommand=x",
        "a b",
        "host;ls",
        "host:",
        "host:port",
        "@host",
        "a@b@c",
        "$(ls)",
        "host/a b",
        "host/$(ls)",
    ],
)
def test_no_address_becomes_an_option_or_a_command(wrong):
    with pytest.raises(UsageError, match=r"write ssh://"):
        Remote.parse(wrong, 1)


def test_times_are_read_by_model():
    assert on_ssh._walls("motd\nmodel 0\n1000000\nmodel 1\n2000000\nmodel 0\n3000000\n", 2) == [[1, 3], [2]]


@pytest.mark.slow
def test_c_over_ssh(address, tmp_path):
    paths = [tiny_c.write(tmp_path / "a", size=160), tiny_c.write(tmp_path / "b", name="other", size=16000)]
    reports = bench(paths, on=f"ssh://{address}", runs=100, warmup=2)
    for report in reports:
        assert len(report.samples["wall_ms"]) == 100
        assert (report.cost.how, report.target) == ("measured", f"ssh://{address}")
        assert report.details["selftest"] == "passed"
        assert {"kernel", "cores", "compiler", "flags", "load_average_before"} <= set(report.environment)
    assert reports[1].details["ratio_to_first"]["wall_ms"]["median"] > 1  # a hundred times the work
    assert f"target ssh://{address}, measured" in table(reports)


@pytest.mark.slow
def test_onnx_over_ssh(address, tmp_path):
    paths = [model(tmp_path / f"{width}.onnx", width) for width in (1, 4)]
    reports = bench(paths, on=f"ssh://{address}{sys.executable}", runs=50, warmup=1, period_ms=1, paced_runs=10)
    for report in reports:
        assert [len(report.samples[name]) for name in ("wall_ms", "cpu_ms", "paced_ms", "late_ms")] == [50, 50, 10, 10]
        assert report.details["init_ms"] > 0
        assert report.cost.ram_bytes == report.details["peak_rss_bytes"] > 0
        assert report.environment["onnxruntime"]
    (report,) = bench(paths[:1], on=f"ssh://{address}{sys.executable}", runs=25, warmup=0, threads=2)
    assert "cpu_ms" not in report.samples


@pytest.mark.slow
def test_what_goes_wrong_over_there_is_said_here(address, tmp_path):
    with pytest.raises(EquivalenceError, match=r"a on ssh://.*1 codes wrong"):
        bench([tiny_c.write(tmp_path / "a", flaw=1)], on=f"ssh://{address}")
    with pytest.raises(EdgeTicketError, match=r"(?s)ssh failed.*undeclared"):
        bench([tiny_c.write(tmp_path / "b", body="no_such_thing++;")], on=f"ssh://{address}")
    broken = model(tmp_path / "c.onnx", 1)
    broken.write_bytes(broken.read_bytes()[:-9])
    with pytest.raises(UnsupportedError, match=r"c\.onnx: not an ONNX file, cut short"):
        bench([broken], on=f"ssh://{address}{sys.executable}")
    intact = onnx.load(model(tmp_path / "d.onnx", 1))
    with pytest.raises(
        EdgeTicketError, match=r"(?s)/no/python, 3\.10 or later, needs numpy and onnxruntime there.*not found"
    ):
        bench([tmp_path / "d.onnx"], on=f"ssh://{address}/no/python")
    intact.graph.node[0].attribute.append(helper.make_attribute("group", 3))
    onnx.save(intact, tmp_path / "d.onnx")
    with pytest.raises(EdgeTicketError, match=r"(?s)ONNX Runtime did not run.*kernel channels: 1 group: 3") as failed:
        bench([tmp_path / "d.onnx"], on=f"ssh://{address}{sys.executable}")
    assert "\x1b" not in str(failed.value)  # ONNX Runtime there writes in colours
    with pytest.raises(EdgeTicketError, match=r"(?s)ssh failed \(status 124\)"):
        bench([tiny_c.write(tmp_path / "e", body="for (;;) arena[0]++;")], on=f"ssh://{address}", timeout_s=2)
    with pytest.raises(UnsupportedError, match="two runs"):
        bench([tmp_path / "a", broken], on=f"ssh://{address}")


@pytest.mark.slow
def test_without_a_compiler_over_there(address, tmp_path, monkeypatch):
    monkeypatch.setattr(on_ssh, "FACTS", "echo kernel x\n")
    with pytest.raises(EdgeTicketError, match=r"there is no cc, and nothing is cross-compiled: install gcc there"):
        bench([tiny_c.write(tmp_path / "a")], on=f"ssh://{address}")


@pytest.mark.slow
def test_a_folder_that_cannot_be_removed_is_named(address, monkeypatch, caplog):
    def gone(*_):
        raise EdgeTicketError("gone")

    remote = Remote.parse(address, 20)
    with caplog.at_level(logging.WARNING), remote.folder() as place:
        monkeypatch.setattr(Remote, "run", gone)
    assert f"{place} is left there: gone" in caplog.text
    Path(place).rmdir()


def test_nobody_there(tmp_path, monkeypatch):
    tiny_c.need("ssh", "scp")
    with pytest.raises(EdgeTicketError, match=r"(?s)ssh://127\.0\.0\.1: ssh failed \(status 255\).*Connection refused"):
        bench([tiny_c.write(tmp_path / "a")], on=f"ssh://127.0.0.1:{free_port()}")
