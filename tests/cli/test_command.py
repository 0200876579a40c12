import subprocess
import sys

TALKATIVE = """
import sys
import typer
from genre_spark.cli.command import stage

app = typer.Typer()

@app.command()
@stage
def talk(debug: bool = False) -> None:
    for number in range(100_000):
        sys.stdout.write(f"line {number}\\n")

app()
"""


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = subprocess.Popen(
        [sys.executable, "-c", TALKATIVE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert command.stdout is not None
    assert command.stdout.readline() == "line 0\n"
    command.stdout.close()
    assert command.stderr is not None
    assert command.stderr.read() == ""
    assert command.wait(timeout=60) == 1, "click's status where nobody reads any more"


def test_a_broken_pipe_elsewhere_is_an_error_like_any_other() -> None:
    script = TALKATIVE.replace(
        "for number in range(100_000):", "raise BrokenPipeError('a socket')\n    if number := 0:"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert answer.returncode == 1
    assert "unexpected BrokenPipeError: a socket" in answer.stderr


def test_neither_an_error_nor_a_warning_steers_the_terminal() -> None:
    script = TALKATIVE.replace(
        "for number in range(100_000):",
        "import logging; from genre_spark.errors import RunError\n"
        "    logging.getLogger('x').warning('a \\x1b[2J b')\n"
        "    raise RunError('c \\x1b[2J d')\n    if number := 0:",
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert answer.returncode == 1
    assert "\x1b" not in answer.stderr
    assert r"a \x1b[2J b" in answer.stderr
    assert r"c \x1b[2J d" in answer.stderr
