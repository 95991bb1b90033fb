"""`diff.patch`: uncommitted changes and untracked files, bounded, without secrets."""

from __future__ import annotations

import os
import subprocess

import pytest

from expfw.redaction import redact_lines, redact_text
from expfw.tracking.source_changes import read_source_changes


def git(*arguments, folder=None):
    settings = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", *settings, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(workdir):
    """A repository with one committed file."""
    git("init")
    (workdir / "old.py").write_text("a = 1\n")
    git("add", ".")
    git("commit", "-m", "first")
    return workdir


def test_the_patch_restores_changed_and_untracked_files(repository, tmp_path_factory):
    (repository / "sub").mkdir()
    (repository / "old.py").write_text("a = 2\n")
    texts = {"new.py": "b = 1\n", "sub/no end.py": "c = 1", "sub/empty.py": "", "é.py": "d = 'é'\r\n"}
    for name, text in texts.items():
        (repository / name).write_bytes(text.encode())
    os.chdir(repository / "sub")  # the whole repository counts
    state, patch = read_source_changes(repository / "runs")
    assert state.dirty
    clone = tmp_path_factory.mktemp("clone")
    git("clone", str(repository), str(clone))
    (clone / "diff.patch").write_bytes(patch.encode())
    git("apply", "diff.patch", folder=clone)
    assert (clone / "old.py").read_text() == "a = 2\n"
    assert {name: (clone / name).read_bytes().decode() for name in texts} == texts


def test_a_clean_repository_and_the_runs_folder_are_no_changes(repository):
    (repository / "runs" / "2026").mkdir(parents=True)
    (repository / "runs" / "2026" / "journal.jsonl").write_text("{}")
    state, patch = read_source_changes(repository / "runs")
    assert (state.dirty, patch) == (False, "")
    assert len(state.commit) == 40


def test_no_repository_is_no_state(workdir):
    assert read_source_changes(workdir / "runs") == (None, "")


def test_large_binary_and_other_files_are_only_named(repository):
    (repository / "old.py").write_text("x = 1\n" * 100_000)
    (repository / "data.csv").write_text("1,2\n" * 100_000)
    (repository / "image.png").write_bytes(bytes(range(256)))
    (repository / "latin.txt").write_bytes("é".encode("latin-1"))
    (repository / "link").symlink_to("/etc/passwd")
    os.mkfifo(repository / "pipe")  # git does not list it
    (repository / ".gitignore").write_text("ignored\n")
    (repository / "ignored").write_text("not named")
    _, patch = read_source_changes(repository / "runs")
    for line in (
        "# omitted: old.py, 683.7 KiB",
        "# omitted: data.csv, 390.6 KiB",
        "# omitted: image.png, binary, 0.2 KiB",
        "# omitted: latin.txt, binary, 0.0 KiB",
        "# omitted: link, not a file",
    ):
        assert line in patch.splitlines()
    assert len(patch) < 1000
    assert "not named" not in patch


def test_the_whole_patch_is_bounded(repository):
    for number in range(1200):
        (repository / f"{number:04d}.txt").write_text("x" * 2000)
    _, patch = read_source_changes(repository / "runs")
    assert len(patch) < 1_200_000
    assert "# omitted: 0900.txt, 2.1 KiB" in patch
    assert "# omitted: 200 more untracked files" in patch


CANARY = "c4nary-Value+1"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mine.py", f"API_KEY = '{CANARY}'\n"),
        ("mine.py", f'client(password="{CANARY}", user="me")\n'),
        ("mine.py", f'my_secret: str = "{CANARY}"\n'),
        ("mine.py", f'os.environ["WANDB_API_KEY"] = "{CANARY}"\n'),
        ("mine.py", f'if token == "{CANARY}":\n'),
        ("mine.py", f'uri = "https://me:{CANARY}@host/path"\n'),
        ("mine.py", f'headers = {{"X": "Bearer {CANARY}"}}\n'),
        ("a.ipynb", f'{{"source": ["api_key = \\"{CANARY}\\"\\n"]}}\n'),
        ("conf.json", f'{{"auth": {{"access_key": "{CANARY}"}}}}\n'),
        ("conf.yaml", f"server:\n  password: {CANARY}\n"),
        ("conf.yaml", f"users:\n  - token: {CANARY}\n"),
        ("settings.ini", f"db_password = {CANARY}\n"),
        ("run.sh", f"export API_TOKEN={CANARY}\n"),
        (".env", f"ANYTHING={CANARY}\n"),
        (".env.local", f"ANYTHING={CANARY}\n"),
        ("sub/server.pem", f"{CANARY}\n"),
        ("sub/id_rsa", f"{CANARY}\n"),
        ("credentials.json", f'{{"a": "{CANARY}"}}\n'),
        ("key.txt", f"-----BEGIN RSA PRIVATE KEY-----\n{CANARY}\n-----END RSA PRIVATE KEY-----\n"),
    ],
)
@pytest.mark.parametrize("tracked", [False, True])
def test_secrets_are_hidden(repository, name, text, tracked):
    path = repository / name
    path.parent.mkdir(exist_ok=True)
    if tracked:
        path.write_text("\n")
        git("add", ".")
        git("commit", "-m", "second")
    path.write_text(text)
    _, patch = read_source_changes(repository / "runs")
    assert name in patch
    assert CANARY not in patch


def test_code_without_secrets_is_unchanged():
    code = "token: str\ntokens = tokenizer.encode(text)\npassword = read()\nf(token=token, secret=secrets.get('a'))\n"
    assert redact_text(code) == code
    text = "text: a b\nkey: 3\nauthor: me\n"
    assert redact_lines(text) == text
