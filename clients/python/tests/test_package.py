"""What is published: built, installed into an empty environment, and its README run as it is printed (R3, R34)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from broker import Broker, eventually

from fanfare import Fanfare

PROJECT = Path(__file__).resolve().parents[1]
EXAMPLES = re.findall(r"^```python\n(.*?)^```", (PROJECT / "README.md").read_text(), re.M | re.S)


# scripts/python-client builds the archives, and installs the wheel into an environment that holds only what it asks for.
DIST, PYTHON = os.environ.get("FANFARE_DIST", ""), os.environ.get("FANFARE_PYTHON", "")
installed = pytest.mark.skipif(not PYTHON, reason="scripts/python-client installs the wheel for this")


@installed
def test_the_archives_hold_the_package_its_types_and_nothing_else() -> None:
    [wheel], [source] = Path(DIST).glob("*.whl"), Path(DIST).glob("*.tar.gz")
    names = zipfile.ZipFile(wheel).namelist()
    assert "fanfare/py.typed" in names
    assert all(name.startswith(("fanfare/", "fanfare_client-")) for name in names)
    with tarfile.open(source) as archive:
        assert not [name for name in archive.getnames() if "/tests/" in name or ".venv" in name]


def test_the_version_is_the_brokers() -> None:
    [version] = re.findall(r'^version = "(.*)"', (PROJECT.parents[1] / "Cargo.toml").read_text(), re.M)[:1]
    text = (PROJECT / "src/fanfare/__init__.py").read_text()
    assert f'__version__ = "{version}"' in text


@installed
@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_r34_each_example_of_the_readme_works_as_printed(broker: Broker, tmp_path: Path, number: int) -> None:
    """Those that go on for ever print what there is; then they are ended."""
    with Fanfare(broker.url) as fanfare:
        fanfare.publish("demo.first", {"hello": "world"})
    program = tmp_path / "example.py"
    program.write_text(EXAMPLES[number].replace("http://127.0.0.1:8080", broker.url))
    with (tmp_path / "out").open("w") as out:
        running = subprocess.Popen(
            [PYTHON, "-u", "-W", "error", str(program)], cwd=tmp_path, stdout=out, stderr=subprocess.STDOUT
        )

    def printed() -> str:
        return (tmp_path / "out").read_text()

    try:
        if "print" in EXAMPLES[number]:
            eventually("it prints the value", lambda: "world" in printed() or running.poll() is not None)
            assert running.poll() is None, printed()
        else:
            assert running.wait(60) == 0, printed()
        assert "Traceback" not in printed(), printed()
    finally:
        running.kill()
        running.wait()


@installed
def test_a_type_checker_knows_what_is_installed(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("from fanfare import Fanfare\nwrong: int = Fanfare().publish('a', 1).topic\n")
    words = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache")]
    words += ["--python-executable", PYTHON, str(program)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert 'has type "str", variable has type "int"' in done.stdout
    assert "Found 1 error" in done.stdout


@installed
def test_an_import_opens_nothing_and_starts_no_thread() -> None:
    """R2."""
    program = """if True:
        import sys, threading, socket
        opened = []; sys.addaudithook(lambda name, _: opened.append(name) if name == "socket.connect" else None)
        import fanfare
        fanfare.Fanfare("http://127.0.0.1:1")
        assert threading.active_count() == 1 and not opened
    """
    subprocess.run([PYTHON, "-W", "error", "-c", program], check=True)
