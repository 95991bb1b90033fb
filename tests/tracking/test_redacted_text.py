"""Secrets in texts: recognized by their place, and by their value if the process knows it."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import time

import pytest

from expfw import redaction
from expfw.config.compose import compose
from expfw.errors import ConfigError
from expfw.redaction import (
    HIDDEN,
    find_secrets,
    learn_overrides,
    learn_secrets,
    redact,
    redact_lines,
    redact_options,
    redact_overrides,
    redact_text,
)
from expfw.system import atomic_files
from expfw.system.json_output import format_json
from expfw.system.redirection import redact_stream
from expfw.tracking.journal import Journal, read_records

PLACES = {
    "https://me:abc@host/x": f"https://{HIDDEN}@host/x",
    "'https://me:p@ss@host'": f"'https://{HIDDEN}@host'",
    "postgresql://me:a/b@host/db": f"postgresql://{HIDDEN}@host/db",
    "https://abcdef0123@host": f"https://{HIDDEN}@host",
    "https://host/x?a=1&token=abc&b=2": f"https://host/x?a=1&token={HIDDEN}&b=2",
    "https://host?password=1": f"https://host?password={HIDDEN}",
    "https://s3/x?X-Amz-Credential=a%2Fb&X-Amz-Signature=0f": (
        f"https://s3/x?X-Amz-Credential={HIDDEN}&X-Amz-Signature={HIDDEN}"
    ),
    "https://blob/x?sv=2024&sig=a%2Bb%3D": f"https://blob/x?sv=2024&sig={HIDDEN}",
    "Server=db;Password=abc;Port=1": f"Server=db;Password={HIDDEN};Port=1",
    "got Bearer abc123.def-4 from": f"got Bearer {HIDDEN} from",
    "{'Authorization': 'Basic bWU6YWJj'}": f"{{'Authorization': 'Basic {HIDDEN}'}}",
    "Config(api_key='abc', where='here')": f"Config(api_key='{HIDDEN}', where='here')",
    '{"password": "a\\"b", "user": "me"}': f'{{"password": "{HIDDEN}", "user": "me"}}',
    "callback.courier.api_key is 'abc'; expected": f"callback.courier.api_key is '{HIDDEN}'; expected",
    "expfw run +callback.courier.api_key=abc x=1": f"expfw run +callback.courier.api_key={HIDDEN} x=1",
    "redis://:abc@h:1/0": f"redis://{HIDDEN}@h:1/0",
    "https://h#access_token=abc": f"https://h#access_token={HIDDEN}",
    "https://h?a=1&amp;token=abc": f"https://h?a=1&amp;token={HIDDEN}",
    "AccountName=x;AccountKey=abc==;": f"AccountName=x;AccountKey={HIDDEN};",
    "Authorization: Bearer abc123": f"Authorization: Bearer {HIDDEN}",
    "X-Api-Key: abc123": f"X-Api-Key: {HIDDEN}",
    "Cookie: abc123": f"Cookie: {HIDDEN}",
    'api_key = \\"abc\\"\\n", "x"': f'api_key = \\"{HIDDEN}\\"\\n", "x"',
    "os.environ['X_TOKEN'] = 'abc'": f"os.environ['X_TOKEN'] = '{HIDDEN}'",
    'token: str = """abc"""': f'token: str = """{HIDDEN}"""',
    "got ghp_abcdefghij0123": f"got ghp_{HIDDEN}",
    "developer_token='abc', token_prod='abc'": f"developer_token='{HIDDEN}', token_prod='{HIDDEN}'",
    "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----": (
        f"-----BEGIN PRIVATE KEY-----{HIDDEN}-----END PRIVATE KEY-----"
    ),
}  # fmt: skip
ORDINARY = (
    *("sqlite:///x", "sqlite:////data/mlflow.db", "https://host:8080/a@b", "file:///a/b?x=1", "git@github.com:a/b"),
    *("the bearer of news", "Bearer authentication failed", "max_tokens=5", "author: 'me'", "keys = ['a']"),
    *("callback.courier.api_key=...", "a token is missing", "https://me:${oc.env:PASSWORD}@host", "model.units=3"),
    *('{"api_key": "${oc.env:API_KEY}"}', "sort(key=len)", "metric=val/loss", "secret_number=3"),
    *("hf_transformers_model", "sk-learn-something", "/data/tokens/secret/x.npz", "val/token_accuracy", "+callback=x"),
    *("unexpected token: 3", 'password="", user="me"', "http://[::1]:5000/x@y", "f(self, token=token)", "bypass='x'"),
    *('"-----BEGIN PRIVATE KEY-----" in text', "https://host/#/runs/abc@x", "tokenizer='x'", "s3://bucket/key=3"),
    *(
        "model.token_dim=64",
        "token_accuracy=0.9",
        "pad_token='<pad>'",
        "model.per_token_loss=true",
        "use_cls_token=true",
    ),
    *("hf_Transformers_model2", "model.token_mixer='mlp'", "num_tokens=5", "val/token_error"),
)
LONG_LINES = ("x", "token", "token='", "://", "://a:b@", ".token-", "x-", "-----BEGIN PRIVATE KEY-----", "{token:", " ")


@pytest.fixture(autouse=True)
def no_known_secrets(monkeypatch):
    monkeypatch.setattr(redaction, "_known", redaction._KnownSecrets())


@pytest.mark.parametrize("text", PLACES)
def test_a_secret_is_hidden_by_its_place(text):
    assert redact_text(text) == PLACES[text]
    assert redact_text(PLACES[text]) == PLACES[text]
    assert redact({"a": [text, 1]}) == {"a": [PLACES[text], 1]}


@pytest.mark.parametrize("text", ORDINARY)
def test_other_texts_stay_unchanged(text):
    assert redact_text(text) == text


def test_names_of_files_and_packages_do_not_hide_their_digests_and_versions():
    records = {
        "files": {"/secret/my_token.py": "12ab"},
        "code": {"my_token.py": "34cd"},
        "packages": {"google-auth": "2.1"},
    }
    assert redact(records) == records
    assert redact({"packages": {"token": "https://a:b@c"}}) == {"packages": {"token": f"https://{HIDDEN}@c"}}
    assert redact_options({"files": {"token": "abc"}}) == {"files": {"token": HIDDEN}}


def test_tokens_of_texts_and_switches_are_not_secrets():
    values = {"model": {"token_dim": 64, "pad_token": "<pad>", "has_token": True}, "metrics": {"token_accuracy": 0.9}}
    assert redact_options(values) == values
    assert redact_overrides(["model.has_token=true", "model.token_dim=64"]) == [
        "model.has_token=true",
        "model.token_dim=64",
    ]
    assert redact_lines("token_dim: 64\nhas_token: false") == "token_dim: 64\nhas_token: false"


@pytest.mark.parametrize("part", LONG_LINES)
def test_a_long_line_takes_time_in_proportion_to_its_length(part):
    started_at = time.process_time()
    for function in (redact_text, redact_lines, lambda text: list(find_secrets(text))):
        function(part * (200_000 // len(part)))
    assert time.process_time() - started_at < 20  # usually less than 2


@pytest.mark.parametrize(
    "override",
    [
        *("tracker.mlflow.uri=http://me:abc@h", "a.dsn=host=h password=abc", "+a.b={token:abc}", "a.token='x abc'"),
        *("+a=[{x:1,'api_key':'abc'}]", "+a={token: x abc}", "--password=abc", "a.token=x\nabc", "a.token=[x,abc]"),
    ],
)
def test_secrets_in_overrides_are_hidden_by_their_place(override):
    (redacted,) = redact_overrides([override])
    assert HIDDEN in redacted
    assert "abc" not in redacted
    assert redact_overrides([redacted]) == [redacted]
    assert redact_overrides(["a.token=${oc.env:TOKEN}"]) == ["a.token=${oc.env:TOKEN}"]


def test_a_known_secret_is_hidden_in_any_form():
    secret = 'it\'s "so" secret/+ \u00fc'
    learn_secrets({"callback": {"courier": {"password": secret, "address": "https://me:letm%21in@host"}}})
    for text in (
        f"no {secret}!",
        f"{[secret]}",
        f"https://h/{secret}",
        "https://h/it%27s%20%22so%22%20secret%2F%2B%20%C3%BC",
    ):
        assert "so" not in redact_text(text).replace("also", "")
    assert redact_text("letm!in letm%21in") == f"{HIDDEN} {HIDDEN}"
    learn_secrets({"private_key": "-----BEGIN-----\nMIIEabcdefghijklmnop\n-----END-----"})
    assert "MIIE" not in redact_text("line: MIIEabcdefghijklmnop")


@pytest.mark.parametrize("secret", ["a", "1", "abc", "3.5", "none"])
def test_a_short_secret_is_hidden_only_in_its_place(secret):
    learn_secrets({"callback": {"courier": {"api_key": secret, "address": f"https://a:{secret}@host"}}})
    text = f"a 1 abc 3.5 none {secret}"
    assert redact_text(text) == text
    assert redact_overrides([f"callback.courier.api_key={secret}"]) == [f"callback.courier.api_key={HIDDEN}"]


def test_a_common_secret_does_not_hide_other_words(workdir):
    values = {"tracker": {"mlflow": {"plugin": "mlflow", "uri": "http://mlflow:mlflow@host"}}, "dataset": {}}
    learn_secrets({**values, "runs_dir": "/home/jenkins/runs", "a": {"password": "jenkins", "token": "dataset"}})
    for text in ("tracker.mlflow.experiment=x", "dataset=digits", "/home/jenkins/runs/2026"):
        assert redact_text(text) == text
    learn_secrets({"pin": 1, "api_key": 123456, "secret": "facade"})
    assert redact({"a": "0.123456 sha facade01", "step": 123456}) == {"a": "0.123456 sha facade01", "step": 123456}
    assert redact_text("the pin 123456 of facade") == f"the pin {HIDDEN} of {HIDDEN}"
    with Journal(workdir / "journal.jsonl") as journal:
        journal.write("metrics", step=123456, values={"x": 0.123456})
        journal.write("message", step=1, text="pin=123456")
    records = read_records(workdir / "journal.jsonl")[0]
    assert (records[0]["step"], records[1]["text"]) == (123456, f"pin={HIDDEN}")
    assert json.loads(format_json({"steps": 123456, "text": "pin 123456"})) == {
        "steps": 123456,
        "text": f"pin {HIDDEN}",
    }


def test_every_way_out_hides_known_secrets(workdir, capsys):
    learn_overrides(["callback.courier.api_key=[hunter2-horse,other-word]", "+a={token:'nested-word'}"])
    text = "hunter2-horse other-word nested-word https://a:b@c"
    atomic_files.write_text(workdir / "a.txt", text)
    atomic_files.write_json(workdir / "a.json", {"x": [text]})
    print(text, file=redact_stream(sys.stdout))
    outputs = [(workdir / "a.txt").read_text(), (workdir / "a.json").read_text(), capsys.readouterr().out]
    for output in (*outputs, str(ConfigError(text))):
        assert output.count(HIDDEN) == 4
        assert not any(word in output for word in ("horse", "other", "nested", "a:b"))


def test_the_text_of_a_configuration_is_hidden_whole():
    assert redact_lines("+password: |\n+  a\n+\n+  b\n+user: me\nTOKEN=") == f"+password: {HIDDEN}\n+user: me\nTOKEN="
    text = "a:\n  api_key: a b\n    c\n  token:\n  - x\n  - y\n  units: 3\n  auth: null\noverrides:\n- a.token=x,y"
    hidden = f"a:\n  api_key: {HIDDEN}\n  token: {HIDDEN}\n  units: 3\n  auth: null\noverrides:\n- a.token={HIDDEN}"
    assert redact_lines(text) == hidden


def test_another_process_learns_the_secrets_of_a_configuration():
    data = pickle.dumps(compose(["+tags.api_key=hunter2-horse"]))
    code = "import pickle; from expfw.redaction import redact_text; "
    code += f"pickle.loads({data!r}); print(redact_text('hunter2-horse'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == HIDDEN


def test_secrets_in_environment_variables_are_hidden(monkeypatch, tmp_path):
    monkeypatch.setenv("MY_SERVICE_TOKEN", "hunter2-horse")
    monkeypatch.setenv("MY_TOKEN_FILE", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:letmein9@host")
    redaction.learn_environment()
    assert redact_text(f"hunter2-horse letmein9 {tmp_path}") == f"{HIDDEN} {HIDDEN} {tmp_path}"
