"""Clients as people use them, by their defaults; `test_malformed` sends the same bytes itself."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.programs import needs
from tests.support.serving import BUSY_S, Running

JAVA = """
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Path;

public class Ask {
    public static void main(String[] words) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        for (int number = 0; number < 3; number++) {
            HttpRequest request = HttpRequest.newBuilder(URI.create(words[0]))
                .header("Content-Type", "image/png")
                .POST(HttpRequest.BodyPublishers.ofFile(Path.of(words[1])))
                .build();
            System.out.print(client.send(request, BodyHandlers.ofString()).body());
        }
    }
}
"""


@pytest.fixture
def image(tmp_path: Path, digits: list[bytes]) -> Path:
    path = tmp_path / "digit.png"
    path.write_bytes(digits[0])
    return path


def answers(*words: object) -> list[str]:
    """Run a client, and return the classes that it was answered."""
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, timeout=BUSY_S
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert all("predictions" in line for line in lines), lines
    return [line["predictions"][0]["class"] for line in lines]


def expected(server: Running, image: Path) -> str:
    told = server.ask("/predict", image.read_bytes(), "image/png").json
    found: str = told["predictions"][0]["class"]
    return found


def test_javas_http_client_is_answered(server: Running, image: Path, tmp_path: Path) -> None:
    needs("javac")
    source = tmp_path / "Ask.java"
    source.write_text(JAVA)
    address = f"http://127.0.0.1:{server.port}/predict"
    assert answers("java", source, address, image) == [expected(server, image)] * 3


@pytest.mark.parametrize("words", [["--http2"], ["--http1.1"], ["--http1.0"]])
def test_curl_is_answered(server: Running, image: Path, words: list[str]) -> None:
    needs("curl")
    address = f"http://127.0.0.1:{server.port}/predict"
    kind = ["-H", "Content-Type: image/png"]
    found = answers("curl", "-s", *words, *kind, "--data-binary", f"@{image}", address, address)
    assert found == [expected(server, image)] * 2
