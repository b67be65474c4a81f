import importlib
import socket

from click.testing import CliRunner

main = importlib.import_module("demo.__main__").main


def test_a_taken_port_is_named_before_anything_starts() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = CliRunner().invoke(main, ["--once", "--port", str(port)])

    assert result.exit_code == 1
    assert f"port {port} is taken" in result.output
    assert "--port" in result.output
