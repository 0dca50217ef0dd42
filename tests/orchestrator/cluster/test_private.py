"""Ray's token and folder, as another user of this machine finds them."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.cluster.private import keep_token_private, private_folder
from orchestrator.errors import BadInput

as_root = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="becomes another user")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def nobody(*command: str | Path) -> "subprocess.CompletedProcess[str]":
    """What happens to another user who runs this."""
    other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    return subprocess.run([*other, *map(str, command)], capture_output=True, text=True)


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home that everybody may enter, as most are; pytest's own folders are shut."""
    folder = Path(tempfile.mkdtemp(prefix="home-", dir="/tmp"))
    folder.chmod(0o755)
    monkeypatch.setenv("HOME", str(folder))
    before = os.umask(0o022)
    yield folder
    os.umask(before)
    shutil.rmtree(folder)


@pytest.fixture
def token(home: Path) -> Path:
    """The token as Ray writes it."""
    path = home / ".ray" / "auth_token"
    path.parent.mkdir()
    path.write_text("secret" * 10)
    return path


class TestToken:
    @as_root
    def test_one_that_is_made_is_nobody_elses(self, home):
        keep_token_private(make=True, environment={})
        path = home / ".ray" / "auth_token"
        assert (mode(path.parent), mode(path), len(path.read_text())) == (0o700, 0o600, 64)
        assert "Permission denied" in nobody("cat", path).stderr
        assert os.listdir(path.parent) == ["auth_token"]

    @pytest.mark.parametrize("umask", [0, 0o002, 0o077])
    def test_under_any_umask(self, home, umask):
        os.umask(umask)
        keep_token_private(make=True, environment={"RAY_AUTH_MODE": "token"})
        assert mode(home / ".ray" / "auth_token") == 0o600

    @as_root
    @pytest.mark.parametrize("wide", [0o644, 0o640, 0o666, 0o604])
    @pytest.mark.parametrize("make", [True, False])
    def test_one_that_others_can_read_is_refused_with_the_way_out(self, token, wide, make):
        token.chmod(wide)
        with pytest.raises(BadInput, match=f"mode {wide:o}, .*Wanted mode 600.*chmod 600 {token}.* remove the file"):
            keep_token_private(make=make, environment={})
        token.chmod(0o600)
        keep_token_private(make=make, environment={})
        assert mode(token.parent) == 0o700
        token.unlink()
        keep_token_private(make=True, environment={})
        assert "secret" not in token.read_text()

    def test_one_that_others_can_replace_is_refused(self, token):
        token.chmod(0o600)
        token.parent.chmod(0o777)
        with pytest.raises(BadInput, match="in a folder of mode 777"):
            keep_token_private(make=True, environment={})

    @pytest.mark.parametrize("shut", ["", ".ray"])
    def test_one_that_nobody_could_reach_is_narrowed(self, token, home, shut):
        (home / shut).chmod(0o700)
        keep_token_private(make=False, environment={})
        assert (mode(token.parent), mode(token)) == (0o700, 0o600)

    @pytest.mark.parametrize("linked", [".ray", ".ray/auth_token"])
    def test_a_link_out_of_reach_does_not_hide_what_it_leads_to(self, token, home, linked):
        """As where the folders of a home lie on another disk."""
        elsewhere = Path(tempfile.mkdtemp(dir="/tmp"))
        elsewhere.chmod(0o755)
        try:
            shutil.move(home / linked, elsewhere / "moved")
            (home / linked).symlink_to(elsewhere / "moved")
            home.chmod(0o700)
            with pytest.raises(BadInput, match="other users can read or replace Ray's token"):
                keep_token_private(make=True, environment={})
            (elsewhere / "moved").chmod(0o700 if linked == ".ray" else 0o600)
            keep_token_private(make=True, environment={})
        finally:
            shutil.rmtree(elsewhere)

    def test_one_at_a_place_of_its_own(self, home, token):
        elsewhere = home / "token"
        elsewhere.write_text("secret" * 10)
        with pytest.raises(BadInput, match=f"^{elsewhere}: "):
            keep_token_private(make=True, environment={"RAY_AUTH_TOKEN_PATH": str(elsewhere)})
        elsewhere.chmod(0o600)
        keep_token_private(make=True, environment={"RAY_AUTH_TOKEN_PATH": str(elsewhere)})
        assert mode(home) == 0o755

    @as_root
    def test_another_users_is_refused(self, token):
        token.parent.chmod(0o700)
        os.chown(token, 65534, 65534)
        with pytest.raises(BadInput, match="belongs to the user with the number 65534"):
            keep_token_private(make=True, environment={})

    @pytest.mark.parametrize("environment", [{"RAY_AUTH_TOKEN": "from the environment"}, {"RAY_AUTH_MODE": "disabled"}])
    def test_where_no_file_is_used_none_is_made_or_judged(self, home, token, environment):
        keep_token_private(make=True, environment=environment)
        assert mode(token) == 0o644
        shutil.rmtree(token.parent)
        keep_token_private(make=True, environment=environment)
        assert not token.parent.exists()


class TestFolder:
    @as_root
    def test_others_cannot_enter_what_ray_opens_to_everybody(self, home):
        folder = private_folder({"RAY_TMPDIR": str(home)})
        (folder / "ray").mkdir()
        (folder / "ray").chmod(0o777)  # as Ray makes it
        assert "Permission denied" in nobody("touch", folder / "ray" / "planted").stderr

    @pytest.mark.parametrize("place", ["~/here", "here"])
    def test_its_place_is_absolute(self, home, monkeypatch, place):
        """Ray takes no other."""
        monkeypatch.chdir(home)
        assert private_folder({"RAY_TMPDIR": place}) == home / "here" / f"capsweep-{os.geteuid()}"

    def test_one_that_became_wide_is_narrowed(self, home):
        folder = private_folder({"TMPDIR": str(home)})
        folder.chmod(0o777)
        assert private_folder({"TMPDIR": str(home)}) == folder
        assert mode(folder) == 0o700

    @as_root
    @pytest.mark.parametrize("planted", ["folder", "link", "file"])
    def test_one_that_somebody_else_has_put_there_is_refused(self, home, planted):
        home.chmod(0o1777)
        path = home / f"capsweep-{os.geteuid()}"
        made = {"folder": ("mkdir", path), "link": ("ln", "-s", "/root", path), "file": ("touch", path)}
        assert nobody(*made[planted]).returncode == 0
        with pytest.raises((BadInput, FileExistsError)):
            private_folder({"RAY_TMPDIR": str(home)})


def test_a_ray_that_was_imported_before_is_as_closed():
    """A notebook may import Ray long before a run; Ray reads some of its variables then."""
    script = """
import ray
from orchestrator.cluster.environment import set_variables
set_variables(None)
from orchestrator.cluster.connection import heed_variables
from ray._private.authentication.authentication_utils import is_token_auth_enabled
from ray._private.services import get_node_ip_address
print(is_token_auth_enabled(), get_node_ip_address())
heed_variables()
print(is_token_auth_enabled(), get_node_ip_address())
"""
    free = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=free, timeout=60)
    before, after = ended.stdout.splitlines()
    assert before != after == "True 127.0.0.1"
