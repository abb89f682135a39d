"""What a user keeps secret is in no file that a run writes, and in nothing that it prints."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SECRETS = {
    "WANDB_API_KEY": "5ec0e7a1" * 5,  # forty signs, as W&B's own
    "HF_TOKEN": "hf_planted0in0the0environment",
    "HUGGING_FACE_HUB_TOKEN": "hf_planted0by0its0old0name",
    "AWS_SECRET_ACCESS_KEY": "planted/aws/secret",
    "OPENAI_API_KEY": "sk-planted-openai",
    "GITHUB_TOKEN": "ghp_planted0github",
    "DATABASE_URL": "postgres://me:planted-password@db.example/x",
}
FILES = {
    ".netrc": "machine api.wandb.ai\n  login user\n  password PLANTED\n",
    ".cache/huggingface/token": "PLANTED",
    ".huggingface/token": "PLANTED",
    ".aws/credentials": "[default]\naws_secret_access_key = PLANTED\n",
    ".git-credentials": "https://me:PLANTED@git.example\n",
    ".config/wandb/settings": "[default]\napi_key = PLANTED\n",
    ".ssh/id_ed25519": "PLANTED",
    "work/.env": "TOKEN=PLANTED\n",
}
OPTIONS = (
    "data.size=60", "budget=4", "trainer.progress=false", "finetune.max_steps=1",
    "benchmarks.only=[humaneval]", "benchmarks.limit=1", "benchmarks.allow_code_execution=true",
)  # fmt: skip


def planted(home: Path) -> list[bytes]:
    """A home with secrets in its usual files; all that must be found nowhere else."""
    values = [value.encode() for value in SECRETS.values()]
    for number, (name, content) in enumerate(FILES.items()):
        path, secret = home / name, f"planted{number}" + 32 * "f"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content.replace("PLANTED", secret), encoding="utf-8")
        values.append(secret.encode())
    remote = ["remote", "add", "origin", "https://me:planted-in-remote@git.example/x.git"]
    for command in (["init", "-q"], remote):
        subprocess.run(["git", "-C", str(home / "work"), *command], check=True)
    return [*values, b"planted-password", b"planted-in-remote"]


@pytest.mark.slow
@pytest.mark.parametrize("logger", ["csv", "wandb"])
def test_no_secret_is_in_what_a_run_writes(logger: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    secrets = planted(home)
    own = {home / name for name in FILES} | {home / "work/.git/config"}
    told = {"HOME": str(home), "OMP_NUM_THREADS": "1", "TMPDIR": str(home / "work")}
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "spice", *OPTIONS, f"logger={logger}", "cache_dir=cache",
         "hydra.run.dir=run"],
        cwd=home / "work",
        env={**os.environ, **SECRETS, **told, "PYTHONPATH": path},
        capture_output=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert bool(list((home / "work/run").rglob("*.wandb"))) is (logger == "wandb")
    written = [path for path in home.rglob("*") if path.is_file() and path not in own]
    assert {"config.yaml", "run.log", "results.json"} <= {path.name for path in written}
    texts = {str(path): path.read_bytes() for path in written}
    texts |= {"the terminal": done.stdout + done.stderr}
    assert not [(where, s) for where, text in texts.items() for s in secrets if s in text]
