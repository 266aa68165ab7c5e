"""The certificate that prx shows to a server: with TLS on real sockets, in both clients."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading

import pytest
from helpers.byte_server import RawServer, response

import prx
from prx.accounts import config as configuration

PRIVATE = "PRIVATE KEY"


pytestmark = pytest.mark.usefixtures("client_class")  # every test here asks the same of both clients


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with an authority, what it has signed for the server, ann and bob, and what nobody can use."""
    folder = tmp_path_factory.mktemp("certificates")
    usual = ("-newkey", "rsa:2048", "-nodes", "-days", "2")
    openssl("req", "-x509", *usual, "-subj", "/CN=ours", "-keyout", folder / "ca.key", "-out", folder / "ca.pem")
    for name in ("server", "ann", "bob"):
        openssl(
            "req", "-x509", *usual, "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1",
            "-CA", folder / "ca.pem", "-CAkey", folder / "ca.key",
            "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem",
        )  # fmt: skip
    openssl("req", "-x509", *usual, "-subj", "/CN=eve", "-keyout", folder / "eve.key", "-out", folder / "eve.pem")
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", folder / "ec.key")
    openssl("pkey", "-in", folder / "ann.key", "-aes256", "-passout", "pass:open", "-out", folder / "closed.key")
    (folder / "both.pem").write_text((folder / "ann.pem").read_text() + (folder / "ann.key").read_text())
    (folder / "text.pem").write_text("no certificate\n")
    cut = (folder / "ann.pem").read_text().splitlines()
    (folder / "cut.pem").write_text("\n".join([*cut[:4], cut[-1], ""]))
    (folder / "empty.pem").write_text("")
    return folder


class WhoCalls(RawServer):
    """Lets nobody in without a certificate of our authority; names: of those who opened a connection, in their order."""

    def __init__(self, folder, *scripts):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem", folder / "server.key")
        context.load_verify_locations(folder / "ca.pem")
        context.verify_mode = ssl.CERT_REQUIRED
        super().__init__(*scripts, tls=context)
        self.names, self.known = [], set()

    def _read(self, client):
        if client not in self.known:
            self.known.add(client)
            subject = dict(pair[0] for pair in client.getpeercert()["subject"])
            self.names.append(subject["commonName"])
        return super()._read(client)


def table(server, folder, name="", **more):
    shown = {"cert_file": str(folder / f"{name}.pem"), "key_file": str(folder / f"{name}.key")} if name else {}
    return {"api_url": server.url, "api_key": "sk-secret-key", "ca_file": str(folder / "ca.pem"), **shown, **more}


def client(**tables):
    return prx.Client(config={"providers": tables}, env={})


def ask(api, name="compatible"):
    return api.chat("hi", model=f"{name}/m", retries=0, fallbacks=()).content


def test_a_server_that_asks_is_shown_the_certificate(made):
    with WhoCalls(made) as server:
        assert ask(client(compatible=table(server, made, "ann"))) == "hello"
        assert ask(client(compatible=table(server, made, cert_file=str(made / "both.pem")))) == "hello"
        assert server.names == ["ann", "ann"]


def test_who_shows_none_or_anothers_is_told_what_to_set(made):
    with WhoCalls(made) as server:
        for shown in ({}, {"cert_file": str(made / "eve.pem"), "key_file": str(made / "eve.key")}):
            with pytest.raises(prx.ProviderConnectionError) as caught:
                ask(client(compatible=table(server, made, **shown)))
            assert server.requests == []
            if "alert" in caught.value.message.lower():  # the server may close before it is read
                assert "cert_file" in caught.value.hint


def test_accounts_with_other_certificates_never_share_a_connection(made):
    with WhoCalls(made) as server:
        ann, bob = (table(server, made, name, extends="openai-chat") for name in ("ann", "bob"))
        api = client(ann=ann, bob=bob, again=ann)
        for name in ("ann", "bob", "ann", "bob", "again"):
            assert ask(api, name) == "hello"
        assert server.names == ["ann", "bob"]
        assert len(server.requests) == 5


class Tunnel:
    """A proxy that has one word, CONNECT."""

    def __enter__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self.serve, daemon=True).start()
        return self

    def __exit__(self, *exc):
        self.socket.close()

    def serve(self):
        client, _ = self.socket.accept()
        host, _, port = client.recv(65536).split()[1].decode().rpartition(":")
        with client, socket.create_connection((host, int(port))) as server:
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=self.copy, args=(server, client), daemon=True)
            back.start()
            self.copy(client, server)
            back.join(5)

    def copy(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


def test_it_is_shown_through_a_proxy(made):
    with WhoCalls(made) as server, Tunnel() as proxy:
        with client(compatible=table(server, made, "ann", proxy=proxy.url)) as api:
            assert ask(api) == "hello"
        assert server.names == ["ann"]


def test_a_certificate_that_has_been_replaced_is_shown_by_the_next_connection(made, tmp_path):
    def put(name):
        for end in ("pem", "key"):
            shutil.copy(made / f"{name}.{end}", tmp_path / f"mine.new.{end}")
            (tmp_path / f"mine.new.{end}").replace(tmp_path / f"mine.{end}")

    put("ann")
    with WhoCalls(made, response().replace(b"\r\n", b"\r\nconnection: close\r\n", 1)) as server:
        mine = table(server, made, cert_file=str(tmp_path / "mine.pem"), key_file=str(tmp_path / "mine.key"))
        api = client(compatible=mine)
        assert ask(api) == "hello"
        put("bob")
        assert ask(api) == "hello"
        assert server.names == ["ann", "bob"]


@pytest.mark.parametrize(
    ("cert", "key", "sentence"),
    [
        ("nowhere.pem", "ann.key", r"providers\.compatible\.cert_file: .*nowhere\.pem.*No such file"),
        ("ann.pem", "nowhere.key", r"providers\.compatible\.key_file: .*nowhere\.key.*No such file"),
        ("text.pem", "ann.key", r"cert_file: .*text\.pem has no certificate in PEM"),
        ("empty.pem", "ann.key", r"cert_file: .*empty\.pem has no certificate in PEM"),
        ("ann.pem", "text.pem", r"key_file: .*text\.pem has no private key in PEM"),
        ("ann.pem", None, r"cert_file: .*ann\.pem has no private key in PEM"),
        ("ann.key", "ann.key", r"cert_file: .*ann\.key has no certificate in PEM"),
        ("ann.pem", "bob.key", r"key_file: .*bob\.key is not the key of the certificate in .*ann\.pem"),
        ("ann.pem", "ec.key", r"key_file: .*ec\.key is not the key of the certificate in .*ann\.pem"),
        ("cut.pem", "ann.key", r"cert_file: .*cut\.pem, with the key in .*ann\.key, cannot be used"),
        ("ann.pem", "closed.key", r"key_file: .*closed\.key has a passphrase"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_used(made, cert, key, sentence):
    """One sentence, before anything is sent; nobody is asked for a passphrase, and no key is in it."""
    files = {"cert_file": str(made / cert), **({"key_file": str(made / key)} if key else {})}
    with WhoCalls(made) as server:
        with pytest.raises(prx.ConfigError, match=sentence) as caught:
            ask(client(compatible=table(server, made, **files)))
        assert server.connections == 0
    assert "\n" not in caught.value.message
    assert PRIVATE not in repr(caught.value).replace("BEGIN PRIVATE KEY", "")


def test_a_key_alone_is_a_fault_of_the_file(made):
    with pytest.raises(prx.ConfigError, match=r"providers\.x\.key_file: needs cert_file beside it"):
        configuration.load({"providers": {"x": {"key_file": str(made / "ann.key")}}}, {})


def test_the_paths_may_have_variables(made):
    with WhoCalls(made) as server:
        files = {"cert_file": "${CERTS}/ann.pem", "key_file": "${CERTS}/ann.key"}
        api = prx.Client(config={"providers": {"compatible": table(server, made, **files)}}, env={"CERTS": str(made)})
        assert ask(api) == "hello"
        with pytest.raises(prx.ConfigError, match="CERTS"):
            ask(client(compatible=table(server, made, **files)))


def test_a_route_to_another_host_shows_no_certificate(made):
    with WhoCalls(made) as server:
        config = {
            "providers": {"groq": table(server, made, "ann")},
            "default": {"provider": "groq"},
            "model_routes": [{"pattern": "x/*", "api_url": server.url}],
        }
        account, _ = prx.Client(config=config, env={}).accounts.choose("x/m")
        assert account.network[2] in ((), ("", ""))


def test_a_certificate_stays_with_its_table_s_server(made, tmp_path):
    """As a key does: not with a route to another host, and not with a file that takes a packaged provider's name."""
    own = {"cert_file": str(made / "ann.pem"), "key_file": str(made / "ann.key")}
    route = {"pattern": "x/*", "provider": "groq", "api_url": "https://127.0.0.1:1/v1", "api_key": "k"}
    api = prx.Client(config={"providers": {"groq": {"api_key": "k", **own}}, "model_routes": [route]}, env={})
    assert api.accounts.get("groq").network[2] == tuple(own.values())
    assert api.accounts.choose("x/m")[0].network[2] == ()
    (tmp_path / "groq.yaml").write_text(
        "spec: 1\nid: groq\nname: G\nextends: openai-chat\nbase_url: https://127.0.0.1:1/v1\n"
    )
    api = prx.Client({"providers": {"groq": own}}, tmp_path, env={})
    with pytest.raises(prx.ConfigError, match=r"providers\.groq\.cert_file is for https://api\.groq\.com"):
        api.accounts.get("groq")
