"""What looks like a credential, and what does not."""

import pytest

from cluster.secrets import redact
from search.values.secrets import refuse, refuse_in_uri
from trainables.errors import ConfigError

SECRETS = [
    "AKIAABCDEFGHIJKLMNOP",
    "x ASIAABCDEFGHIJKLMNOP y",
    "ghp_" + "a1" * 18,
    "github_pat_" + "A1" * 20,
    "glpat-" + "a1" * 10,
    "hf_" + "aB" * 17,
    "xoxb-1234567890-abc",
    "AIza" + "aB" * 17 + "c",
    "sk-" + "aB" * 24,
    "sk-proj-" + "a_B-" * 10,
    "sk-ant-api03-" + "a_B-" * 10,
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
    "-----BEGIN RSA PRIVATE KEY-----",
    "password=hunter2",
    "/data?token=abc&x=y",
    "AWS_SECRET_ACCESS_KEY=abc",
    "postgresql://me:hunter2@host/db",
    "http://:hunter2@host",
    "http://0123456789abcdef0123@host:5000",
    "https://dapiAbcdefgh1jklmnop@host/path",
    "mysql://me:hun/ter2@host/db",
]

PLAIN = [
    "",
    "digits",
    "folder:/data/passwords",
    "folder:/data/subway tokens/secret garden",
    "folder:sk-learn-handwritten-digits-augmented-2024",
    "folder:C:/images@home",
    "my_space.py:token",
    "optimizer.lr=0.001",
    "ghp_short",
    "sqlite:////home/me@work/mlflow.db",
    "http://127.0.0.1:5000",
    "http://me@host:5000",
    "http://christopher.montgomery@host:5000",
    "http://user2@host:5000",
    "http://host/0123456789abcdef0123@me",
    "ray://10.0.0.1:10001",
    "AKIA",
    "table3-digits-20261125-040529",
    "searches/ünï ☃ #?%",
]


@pytest.mark.parametrize("text", SECRETS)
def test_a_credential_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        refuse("--name", text)
    assert str(caught.value) == (
        "'--name' looks like a credential, so its value was refused and not "
        "logged. Pass credentials in environment variables."
    )
    assert redact(redact(text)) == redact(text)
    assert "hunter2" not in redact(text)


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_none_passes(text: str) -> None:
    refuse("--name", text)
    assert redact(text) == text


@pytest.mark.parametrize(
    "key",
    [
        "password",
        "db_passwd",
        "aws_secret_access_key",
        "apiKey",
        "api-key",
        "private_key",
        "token",
        "hf_token",
        "credentials",
    ],
)
def test_a_key_that_names_a_credential_is_refused_whatever_it_holds(key: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"^'{key}' looks like a credential, so its value was refused"
    ):
        refuse(key, "x")


@pytest.mark.parametrize(
    "key", ["tokenizer", "key", "author", "passes", "optimizer.lr", "data.root"]
)
def test_a_key_that_only_sounds_like_it_passes(key: str) -> None:
    refuse(key, "x")


@pytest.mark.parametrize("uri", ["http://me:hunter2@host", "postgresql://host/db?password=hunter2"])
def test_a_password_for_tracking_belongs_into_the_environment(uri: str) -> None:
    with pytest.raises(
        ConfigError,
        match=r"^--tracking contains a password, which other users can see .* MLFLOW_TRACKING_URI ",
    ) as caught:
        refuse_in_uri(uri)
    assert "hunter2" not in str(caught.value)


def test_what_is_around_a_credential_stays_readable() -> None:
    assert (
        redact("MLflow cannot be reached at http://me:hunter2@host:5000 (refused).")
        == "MLflow cannot be reached at http://***@host:5000 (refused)."
    )
    assert (
        redact("unrecognized arguments: --password=hunter2 --x")
        == "unrecognized arguments: --password=*** --x"
    )
