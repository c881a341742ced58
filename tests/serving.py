"""SFTP, FTP and WebDAV servers that show a folder, in a process of their own: it prints its port, and goes when its input ends."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

USER, PASSWORD = "partner", "not-to-be-seen"
CUT, SILENT = ".cut", ".silent"
"""Files in the folder: from then on connections are cut after some bytes of each file that is read, or (of SFTP) nothing more comes."""
_AFTER = 20_000


@contextmanager
def serving(protocol: str, folder: Path, port: int = 0) -> Iterator[str]:
    """Start a server on a port of loopback, 0 for a free one; gives its URI."""
    how = [sys.executable, "-m", __name__, protocol, str(folder), str(port)]
    with subprocess.Popen(
        how, cwd=Path(__file__).parent.parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as made:
        assert made.stdin is not None
        assert made.stdout is not None
        yield f"{protocol}://127.0.0.1:{int(made.stdout.readline())}"
        made.stdin.close()
        made.wait(30)


def _sftp(folder: str, port: int) -> None:
    import asyncssh

    class Server(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            return True

        def password_auth_supported(self) -> bool:
            return True

        def validate_password(self, username: str, password: str) -> bool:
            return (username, password) == (USER, PASSWORD)

    class Files(asyncssh.SFTPServer):
        async def read(self, file_obj: object, offset: int, size: int) -> bytes:
            if offset + size > _AFTER and Path(folder, CUT).exists():
                self.channel.get_connection().abort()
            while offset + size > _AFTER and Path(folder, SILENT).exists():
                await asyncio.sleep(0.1)
            found = super().read(file_obj, offset, size)
            return found if isinstance(found, bytes) else await found

    def files(channel: Any) -> asyncssh.SFTPServer:
        return Files(channel, chroot=folder.encode())

    async def serve() -> None:
        made = await asyncssh.listen(
            "127.0.0.1",
            port,
            reuse_address=True,
            server_factory=Server,
            server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
            sftp_factory=files,
        )
        print(made.get_port(), flush=True)
        await asyncio.to_thread(sys.stdin.read)

    asyncio.run(serve())


def _ftp(folder: str, port: int) -> None:
    with warnings.catch_warnings(action="ignore"):  # of Python's own modules that go with 3.12
        from pyftpdlib.authorizers import DummyAuthorizer
        from pyftpdlib.handlers import DTPHandler, FTPHandler
        from pyftpdlib.servers import ThreadedFTPServer

    users = DummyAuthorizer()
    users.add_user(USER, PASSWORD, folder, perm="elradfmwMT")

    class Data(DTPHandler):
        sent = 0

        def send(self, data: bytes) -> int:
            self.sent += len(data)
            if self.sent > _AFTER and Path(folder, CUT).exists():
                self.cmd_channel.close()
                return 0
            return int(super().send(data))

    class Handler(FTPHandler):
        authorizer, dtp_handler, use_sendfile = users, Data, False

    made = ThreadedFTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    made.handler.auth_failed_timeout = 0  # seconds until a wrong password is answered
    print(made.address[1], flush=True)
    sys.stdin.read()


def _webdav(folder: str, port: int) -> None:
    from cheroot import wsgi
    from wsgidav.wsgidav_app import WsgiDAVApp

    app = WsgiDAVApp(
        {
            "provider_mapping": {"/": folder},
            "http_authenticator": {"domain_controller": None},
            "simple_dc": {"user_mapping": {"*": {USER: {"password": PASSWORD}}}},
            "logging": {"enable": False},
        }
    )
    made = wsgi.Server(("127.0.0.1", port), app)
    made.prepare()
    threading.Thread(target=made.serve, daemon=True).start()
    print(made.bind_addr[1], flush=True)
    sys.stdin.read()
    made.stop()


if __name__ == "__main__":
    {"sftp": _sftp, "ftp": _ftp, "webdav": _webdav}[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
